package keywrap_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/teebroker/teebroker/keywrap"
)

// foreignCase is what the programs in .ci/interop read: a private key that did
// not come from here, and what was sealed to it.
type foreignCase struct {
	Key    json.RawMessage `json:"key"`
	JWE    keywrap.Sealed  `json:"jwe"`
	secret []byte
}

// foreignKey returns the private and the public JWK of a new key of suite.
func foreignKey(t testing.TB, suite keywrap.Suite) (private, public []byte) {
	t.Helper()
	var k any
	var err error
	switch suite {
	case keywrap.JWEP256:
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keywrap.JWEP384:
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case keywrap.JWEP521:
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		k, err = rsa.GenerateKey(rand.Reader, 3072)
	}
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: k}
	if private, err = jwk.MarshalJSON(); err != nil {
		t.Fatal(err)
	}
	jwk = jwk.Public()
	if public, err = jwk.MarshalJSON(); err != nil {
		t.Fatal(err)
	}
	return private, public
}

// foreignCases seals n secrets to a key of each suite. None is empty, which
// jwcrypto takes for a failure.
func foreignCases(t *testing.T, n int, suites ...keywrap.Suite) []foreignCase {
	t.Helper()
	var cases []foreignCase
	for _, suite := range suites {
		private, public := foreignKey(t, suite)
		r, err := keywrap.ParseJWK(public, any2048())
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			secret := bytes.Repeat([]byte{byte(i)}, 1+33*i)
			cases = append(cases, foreignCase{private, seal(t, r, secret), secret})
		}
	}
	return cases
}

// missing fails the test in CI and skips it elsewhere.
func missing(t *testing.T, what, install string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is required in CI: %s", what, install)
	}
	t.Skipf("SKIPPED, NOT PASSED: no %s; to install it: %s", what, install)
}

func interop(name string) string { return filepath.Join("..", ".ci", "interop", name) }

// opensAll gives the cases to a program and compares the secrets that it prints.
func opensAll(t *testing.T, cases []foreignCase, program string, args ...string) {
	t.Helper()
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var secrets []string
	if err := json.Unmarshal(out, &secrets); err != nil || len(secrets) != len(cases) {
		t.Fatalf("%d secrets of %d: %v", len(secrets), len(cases), err)
	}
	for i, c := range cases {
		if secrets[i] != base64url(c.secret) {
			t.Errorf("%s: another secret", c.JWE.Suite())
		}
	}
}

// Half of the secrets that P-521 agrees on have a leading zero byte.
const interopRounds = 16

func TestJWCryptoOpens(t *testing.T) {
	// The package of Debian is for Debian's Python, which need not be the first.
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import jwcrypto").Run() == nil {
			opensAll(t, foreignCases(t, interopRounds, jweSuites()...), python, interop("open_jwcrypto.py"))
			return
		}
	}
	missing(t, "python3-jwcrypto", "apt-get install -y python3-jwcrypto")
}

func TestNPMJoseOpens(t *testing.T) {
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(interop("node_modules/jose"))
	}
	if err != nil {
		missing(t, "npm jose", "npm ci --prefix .ci/interop")
	}
	opensAll(t, foreignCases(t, interopRounds, jweSuites()...), "node", interop("open_jose.mjs"))
}

// The command has no RSA-OAEP-256.
func TestJoseCommandOpens(t *testing.T) {
	program, err := exec.LookPath("jose")
	if err != nil {
		missing(t, "jose command", "apt-get install -y jose")
	}
	for _, c := range foreignCases(t, 4, keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521) {
		key := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(key, c.Key, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program, "jwe", "dec", "-i", "-", "-k", key, "-O", "-")
		cmd.Stdin = bytes.NewReader(marshal(t, c.JWE))
		if out, err := cmd.Output(); err != nil || !bytes.Equal(out, c.secret) {
			t.Errorf("%s: %d bytes: %v", c.JWE.Suite(), len(out), err)
		}
	}
}
