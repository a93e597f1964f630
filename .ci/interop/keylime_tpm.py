"""A caller of /verify/evidence with quotes of a TPM: Keylime's own HTTP client asks a
service, and Keylime's own verification judges the same quotes by the same policies.

Reads {"url", "ca": PEM file, "cases": [{"name", "data"}]} from standard input, data as
the API has it. Prints [{"name", "status", "ours", "theirs"}], each with "valid" and the
ids of failures. Boot logs are left out: Keylime reads them with programs of others.
"""

import json
import ssl
import sys
import types

sys.modules.setdefault("gpg", types.ModuleType("gpg"))  # it verifies signed policies only

from keylime import cloud_verifier_common  # noqa: E402
from keylime.failure import Component, Failure  # noqa: E402
from keylime.ima import ima  # noqa: E402
from keylime.mba import mba  # noqa: E402
from keylime.requests_client import RequestsClient  # noqa: E402

# What it returns where there is no log.
mba.bootlog_parse = lambda *_: ({}, None, {}, Failure(Component.MEASURED_BOOT, ["parser"]))
mba.policy_is_valid = lambda *_: False


def theirs(data):
    """What a Keylime verifier comes to."""
    failure = cloud_verifier_common.process_verify_attestation(
        data["tpm_ek"],
        data["tpm_ak"],
        data["quote"],
        data["nonce"],
        data["hash_alg"],
        data.get("tpm_policy", ""),
        ima.deserialize_runtime_policy(data.get("runtime_policy", "")),
        "",
        data.get("ima_measurement_list", ""),
        "",
    )
    return {"valid": not failure, "failures": failure.get_event_ids()}


def ours(client, data):
    """What the service answers."""
    response = client.post("/v2.6/verify/evidence", json={"type": "tpm", "data": data}, timeout=30)
    body = response.json()
    if body["code"] != response.status_code:
        raise ValueError(f"{response.status_code}: {body}")
    results = body["results"]
    return {"valid": results["valid"], "failures": [f["type"] for f in results["failures"]]}


def main():
    job = json.load(sys.stdin)
    context = ssl.create_default_context(cafile=job["ca"])
    with RequestsClient(job["url"], True, tls_context=context, ignore_hostname=False) as client:
        cases = [{"name": c["name"], "ours": ours(client, c["data"]), "theirs": theirs(c["data"])} for c in job["cases"]]
    json.dump(cases, sys.stdout)


if __name__ == "__main__":
    main()
