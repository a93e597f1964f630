"""A caller of the verification API of a broker, with the released Keylime's client,
about a guest with a key and nonce of its own.

    keylime_guest.py URL EXPECT QUOTE...

EXPECT is "valid" or the id of the failure that there has to be. QUOTE is the command
that writes a report to the file named after -out for the bytes after -report-data.
Evidence under another nonce has to be refused whatever is expected.
"""

import base64
import hashlib
import os
import subprocess
import sys
import tempfile

from cryptography.hazmat.primitives.asymmetric import ec
from keylime import api_version
from keylime.requests_client import RequestsClient
from keylime.tee import snp

from keylime_caller import ours


def main(url, expect, quote):
    numbers = ec.generate_private_key(ec.SECP521R1()).public_key().public_numbers()
    x, y = numbers.x.to_bytes(66, "big"), numbers.y.to_bytes(66, "big")
    nonce = os.urandom(32)
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "report")
        digest = hashlib.sha512(x + y + nonce).hexdigest()
        subprocess.run([*quote, "-report-data", digest, "-out", file], check=True)
        with open(file, "rb") as f:
            report = f.read()
    case = {
        "nonce": base64.b64encode(nonce).decode(),
        "x": base64.urlsafe_b64encode(x).rstrip(b"=").decode(),
        "y": base64.urlsafe_b64encode(y).rstrip(b"=").decode(),
        "report": base64.b64encode(report).decode(),
    }
    with RequestsClient(url, url.startswith("https://")) as client:
        supported = client.get("/version", timeout=30).json()["results"]["supported_versions"]
        version = api_version.negotiate_version(supported, raise_on_error=True)
        answer = ours(client, version, case)
        case["nonce"] = base64.b64encode(os.urandom(32)).decode()
        other = ours(client, version, case)
    if other != {"valid": False, "claims": {}, "failures": ["tee_attestation.freshness_hash_failed"]}:
        raise ValueError(f"under another nonce: {other}")
    if expect != "valid":
        if answer["valid"] or expect not in answer["failures"]:
            raise ValueError(f"expected {expect}: {answer}")
    elif not answer["valid"] or any(answer["claims"].get(k) != v for k, v in snp.sev_snp_claims(report).items() if not k.startswith("reported_tcb_")):
        # A Turin has the bytes of its TCB in another order than Keylime takes them.
        raise ValueError(f"not accepted, or with other claims than Keylime's: {answer}")
    print(f"keylime: {expect}, as expected, and not under another nonce")


main(sys.argv[1], sys.argv[2], sys.argv[3:])
