"""A guest that is not ours: it speaks the KBS protocol to a broker, makes its own
key and computes its own digest, and has a report signed by a command. It prints
the secret that it gets.

    kbs_guest.py URL PROFILE SUITE OPENER QUOTE...

PROFILE is coco or svsm, SUITE P-256, P-521 or RSA-OAEP-256. OPENER decrypts:
jwcrypto, jose (the command) or npm. QUOTE is the command that writes a report to
the file named after -out for the bytes after -report-data.
"""

import base64
import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import urllib.request

from jwcrypto import jwe, jwk

HERE = os.path.dirname(os.path.abspath(__file__))


def call(method, url, body=None, cookie=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    if cookie:
        request.add_header("Cookie", cookie)
    with urllib.request.urlopen(request, timeout=60) as answer:
        got = answer.headers.get("Set-Cookie")
        return json.load(answer), got.split(";")[0] if got else None


def new_key(suite):
    if suite == "RSA-OAEP-256":
        return jwk.JWK.generate(kty="RSA", size=2048, alg=suite)
    return jwk.JWK.generate(kty="EC", crv=suite, alg="ECDH-ES+A256KW")


def tee_pubkey(key):
    public = json.loads(key.export_public())
    names = ["alg", "e", "kty", "n"] if public["kty"] == "RSA" else ["alg", "crv", "kty", "x", "y"]
    return {name: public[name] for name in names}


def unpad(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def digest(profile, pubkey, nonce):
    if profile == "svsm":
        return hashlib.sha512(unpad(pubkey["x"]) + unpad(pubkey["y"]) + base64.b64decode(nonce)).digest()
    text = json.dumps(
        {"additional-evidence": "", "nonce": nonce, "tee-pubkey": pubkey}, sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha384(text.encode()).digest()


def quote(command, data):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "report.bin")
        subprocess.run(command + ["-report-data", data.hex(), "-out", out], check=True, stdout=subprocess.DEVNULL)
        with open(out, "rb") as f:
            return f.read()


def take_apart(report):
    """What attesters of Confidential Containers make of a report."""
    version = struct.unpack_from("<I", report)[0]
    turin = version > 2 and report[0x188] >= 0x1A

    def tcb(at):
        b = report[at : at + 8]
        if turin:
            return {"fmc": b[0], "bootloader": b[1], "tee": b[2], "snp": b[3], "microcode": b[7]}
        return {"fmc": None, "bootloader": b[0], "tee": b[1], "snp": b[6], "microcode": b[7]}

    def firmware(at):
        return {"build": report[at], "minor": report[at + 1], "major": report[at + 2]}

    def ints(at, size):
        return list(report[at : at + size])

    def u32(at):
        return struct.unpack_from("<I", report, at)[0]

    def u64(at):
        return struct.unpack_from("<Q", report, at)[0]

    return {
        "version": version, "guest_svn": u32(0x04), "policy": u64(0x08), "family_id": ints(0x10, 16),
        "image_id": ints(0x20, 16), "vmpl": u32(0x30), "sig_algo": u32(0x34), "current_tcb": tcb(0x38),
        "plat_info": u64(0x40), "key_info": u32(0x48), "report_data": ints(0x50, 64), "measurement": ints(0x90, 48),
        "host_data": ints(0xC0, 32), "id_key_digest": ints(0xE0, 48), "author_key_digest": ints(0x110, 48),
        "report_id": ints(0x140, 32), "report_id_ma": ints(0x160, 32), "reported_tcb": tcb(0x180),
        "cpuid_fam_id": report[0x188] if version > 2 else None,
        "cpuid_mod_id": report[0x189] if version > 2 else None,
        "cpuid_step": report[0x18A] if version > 2 else None,
        "chip_id": ints(0x1A0, 64), "committed_tcb": tcb(0x1E0), "current": firmware(0x1E8),
        "committed": firmware(0x1EC), "launch_tcb": tcb(0x1F0),
        "launch_mit_vector": u64(0x1F8) if version > 4 else None,
        "current_mit_vector": u64(0x200) if version > 4 else None,
        "signature": {"r": ints(0x2A0, 72), "s": ints(0x2E8, 72)},
    }


def evidence(profile, report):
    if profile == "svsm":
        return {"certs-buf": None, "snp-report": base64.b64encode(report).decode()}
    return {"attestation_report": take_apart(report), "cert_chain": None}


def decrypt(opener, key, token):
    if opener == "jwcrypto":
        opened = jwe.JWE(algs=["ECDH-ES+A256KW", "RSA-OAEP-256", "A256GCM"])
        opened.deserialize(json.dumps(token), key)
        return opened.payload
    private = json.loads(key.export_private())
    if opener == "npm":
        got = subprocess.run(
            ["node", os.path.join(HERE, "open_jose.mjs")], input=json.dumps([{"key": private, "jwe": token}]),
            capture_output=True, check=True, text=True,
        )
        return unpad(json.loads(got.stdout)[0])
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, name) for name in ("key", "token")]
        for name, content in zip(names, (private, token)):
            with open(name, "w") as f:
                json.dump(content, f)
        return subprocess.run(
            ["jose", "jwe", "dec", "-i", names[1], "-k", names[0]], capture_output=True, check=True
        ).stdout


def main():
    url, profile, suite, opener, *command = sys.argv[1:]
    url += "/kbs/v0"
    key = new_key(suite)
    pubkey = tee_pubkey(key)
    extra = "" if profile == "svsm" else {"supported-hash-algorithms": ["sha384"]}
    challenge, cookie = call("POST", url + "/auth", {"version": "0.4.0", "tee": "snp", "extra-params": extra})
    report = quote(command, digest(profile, pubkey, challenge["nonce"]))
    call(
        "POST", url + "/attest",
        {
            "init-data": None,
            "runtime-data": {"nonce": challenge["nonce"], "tee-pubkey": pubkey},
            "tee-evidence": {"primary_evidence": evidence(profile, report), "additional_evidence": ""},
        },
        cookie,
    )
    token, _ = call("GET", url + "/resource/default/sample/test", cookie=cookie)
    sys.stdout.buffer.write(decrypt(opener, key, token))


main()
