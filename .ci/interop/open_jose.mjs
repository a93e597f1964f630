// Opens each {"key": JWK, "jwe": JWE} of the list on standard input with npm's
// jose, and prints the list of the secrets, in base64url.
import { readFileSync } from "node:fs";
import { base64url, flattenedDecrypt, importJWK } from "jose";

const options = {
  keyManagementAlgorithms: ["ECDH-ES+A256KW", "RSA-OAEP-256"],
  contentEncryptionAlgorithms: ["A256GCM"],
};
const secrets = [];
for (const { key, jwe } of JSON.parse(readFileSync(0, "utf8"))) {
  const { alg } = JSON.parse(Buffer.from(jwe.protected, "base64url"));
  const { plaintext } = await flattenedDecrypt(jwe, await importJWK(key, alg), options);
  secrets.push(base64url.encode(plaintext));
}
process.stdout.write(JSON.stringify(secrets));
