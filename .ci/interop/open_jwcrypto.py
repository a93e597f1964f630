"""Opens each {"key": JWK, "jwe": JWE} of the list on standard input with
jwcrypto, and prints the list of the secrets, in base64url."""

import base64
import json
import sys

from jwcrypto import jwe, jwk


def open_one(case):
    token = jwe.JWE(algs=["ECDH-ES+A256KW", "RSA-OAEP-256", "A256GCM"])
    token.deserialize(json.dumps(case["jwe"]), jwk.JWK(**case["key"]))
    return base64.urlsafe_b64encode(token.payload).rstrip(b"=").decode()


json.dump([open_one(case) for case in json.load(sys.stdin)], sys.stdout)
