package ear_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/teebroker/teebroker/ear"
)

// foreignCase is what .ci/interop/read_ears.py reads.
type foreignCase struct {
	Key   jose.JSONWebKey `json:"key"`
	Token string          `json:"token"`

	profile ear.Profile
	status  string
}

// foreignCases returns EARs of both profiles, with both algorithms, accepted and not.
func foreignCases(t *testing.T) (cases []foreignCase) {
	t.Helper()
	recipient, _ := jweKey(t)
	for _, profile := range profiles() {
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
			p := newPair(t, profile, curve)
			kid, err := ear.KeyID(&p.key.PublicKey)
			check(t, err)
			for status, a := range map[string]ear.Result{
				"affirming":       {Appraisal: accepted(), Key: recipient},
				"warning":         {Appraisal: appraise(accepted().Verified(), "snp.measurement")},
				"contraindicated": {Appraisal: appraise(accepted().Verified(), "snp.policy.debug")},
			} {
				a.Audience, a.Nonce = audience, challenge()
				token, err := p.Issue(a)
				check(t, err)
				cases = append(cases, foreignCase{jose.JSONWebKey{Key: &p.key.PublicKey, KeyID: kid}, string(token), profile, status})
			}
		}
	}
	return cases
}

// python3-jwcrypto verifies EARs of both profiles and reads the status where the
// profile has it.
func TestJWCryptoReads(t *testing.T) {
	python := ""
	// The package of Debian is for Debian's Python, which need not be the first.
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), p, "-c", "import jwcrypto").Run() == nil {
			python = p
		}
	}
	if python == "" {
		const install = "no python3-jwcrypto; to install it: apt-get install -y python3-jwcrypto"
		if os.Getenv("CI") != "" {
			t.Fatal(install)
		}
		t.Skip("SKIPPED, NOT PASSED: " + install)
	}
	cases := foreignCases(t)
	in, err := json.Marshal(cases)
	check(t, err)
	cmd := exec.CommandContext(t.Context(), python, "../.ci/interop/read_ears.py")
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var read [][3]any
	if err := json.Unmarshal(out, &read); err != nil || len(read) != len(cases) {
		t.Fatalf("%d tokens of %d: %v", len(read), len(cases), err)
	}
	for i, c := range cases {
		label, status := "snp-report", "ear_status"
		if c.profile == ear.KBS {
			label, status = "cpu0", "ear.status"
		}
		claims, _ := read[i][2].(map[string]any)
		subs, _ := claims["submods"].(map[string]any)
		sub, _ := subs[label].(map[string]any)
		if read[i][0] != c.Key.KeyID || read[i][1] != ear.Type || claims["eat_profile"] != string(c.profile) || claims["aud"] != audience ||
			claims[status] != c.status || sub[status] != c.status {
			t.Errorf("%s %s: %v", c.profile, c.status, read[i])
		}
	}
}

// go-jose verifies them as well.
func TestGoJoseReads(t *testing.T) {
	for _, c := range foreignCases(t) {
		parsed, err := jose.ParseSignedCompact(c.Token, []jose.SignatureAlgorithm{jose.ES256, jose.ES384})
		check(t, err)
		b, err := parsed.Verify(c.Key)
		check(t, err)
		if string(b) != payload(t, []byte(c.Token)) {
			t.Errorf("%s: %s", c.profile, b)
		}
	}
}
