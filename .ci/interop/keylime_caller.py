"""A caller of /verify/evidence that is not ours: Keylime's own HTTP client asks a
service which versions it has, and about evidence; Keylime's own verification of
reports of SEV-SNP judges the same evidence.

Reads {"url", "ca": PEM file, "cases": [{"name", "nonce", "x", "y", "report",
"vcek"}]} from standard input, bytes in standard base64 but x and y, which are in
base64url without padding as in the API. vcek is what stands in place of AMD's
answer. Prints {"version", "cases": [{"name", "status", "ours", "theirs"}]}, ours
as the service answered, theirs in the same form as Keylime came to it.
"""

import base64
import json
import ssl
import sys
import types

from keylime import api_version, web_util
from keylime.requests_client import RequestsClient
from keylime.tee import snp


def theirs(case):
    """What a Keylime verifier answers, with vcek for what it would fetch."""
    answer = types.SimpleNamespace(status_code=200, content=base64.b64decode(case["vcek"]))
    snp.requests = types.SimpleNamespace(get=lambda *_, **__: answer)
    claims, failure = snp.verify_attestation(
        base64.b64decode(case["report"]),
        base64.b64decode(case["nonce"]),
        web_util.urlsafe_nopad_b64decode(case["x"].encode()),
        web_util.urlsafe_nopad_b64decode(case["y"].encode()),
    )
    return {"valid": not failure, "claims": claims, "failures": failure.get_event_ids()}


def ours(client, version, case):
    """What the service answers to the body that the API has for this."""
    response = client.post(
        f"/v{version}/verify/evidence",
        json={
            "type": "tee",
            "data": {
                "nonce": case["nonce"],
                "tee-pubkey-x-b64": case["x"],
                "tee-pubkey-y-b64": case["y"],
                "tee-evidence": {"tee": "snp", "evidence": {"snp-report": case["report"]}},
            },
        },
        timeout=30,
    )
    body = response.json()
    if body["code"] != response.status_code or body["status"] != "Success":
        raise ValueError(f"{response.status_code}: {body}")
    results = body["results"]
    failures = [f["type"] for f in results["failures"]]
    if not all(f["context"]["message"] for f in results["failures"]):
        raise ValueError(f"a failure without a message: {results}")
    return {"valid": results["valid"], "claims": results["claims"], "failures": failures}


def main():
    job = json.load(sys.stdin)
    context = ssl.create_default_context(cafile=job["ca"])
    with RequestsClient(job["url"], True, tls_context=context, ignore_hostname=False) as client:
        supported = client.get("/version", timeout=30).json()["results"]["supported_versions"]
        version = api_version.negotiate_version(supported, raise_on_error=True)
        cases = [{"name": c["name"], "ours": ours(client, version, c), "theirs": theirs(c)} for c in job["cases"]]
    json.dump({"version": version, "cases": cases}, sys.stdout)


if __name__ == "__main__":
    main()
