"""Verifies each {"key": JWK, "token": EAR} of the list on standard input with
jwcrypto, with the algorithm of the key only, and prints the list of
[kid, typ, claims]."""

import json
import sys

from jwcrypto import jwk, jws


def read_one(case):
    key = jwk.JWK(**case["key"])
    token = jws.JWS()
    token.allowed_algs = [{"P-256": "ES256", "P-384": "ES384"}[case["key"]["crv"]]]
    token.deserialize(case["token"], key)
    if case["key"]["kid"] != token.jose_header["kid"] or key.thumbprint() != token.jose_header["kid"]:
        raise ValueError("another key")
    return [token.jose_header["kid"], token.jose_header["typ"], json.loads(token.payload)]


json.dump([read_one(case) for case in json.load(sys.stdin)], sys.stdout)
