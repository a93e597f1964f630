package nonce_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

type cocoVectors struct {
	Cases []struct {
		Name        string          `json:"name"`
		Hash        string          `json:"hash"`
		Additional  string          `json:"additional_evidence"`
		Nonce       string          `json:"nonce"`
		Pubkey      json.RawMessage `json:"tee_pubkey_as_sent"`
		Runtime     string          `json:"wire_runtime_data_json"`
		PrimaryJCS  hexBytes        `json:"primary_jcs_utf8_hex"`
		Primary     hexBytes        `json:"primary_digest_hex"`
		ReportData  hexBytes        `json:"report_data_64_hex"`
		DeviceJCS   hexBytes        `json:"device_jcs_utf8_hex"`
		Device      hexBytes        `json:"device_digest_hex"`
		WrongLeft   string          `json:"wrong_digest_member_left_out"`
		WrongEscape string          `json:"wrong_digest_html_escaped"`
	} `json:"cases"`
}

var hashes = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

// Every published case has the published digests, on the strings as sent.
func TestCoCoVectors(t *testing.T) {
	var v cocoVectors
	vectors.JSON(t, "wire/vectors/coco_binding.json", &v)
	if len(v.Cases) != 33 {
		t.Fatalf("%d cases", len(v.Cases))
	}
	bound := 0
	for _, c := range v.Cases {
		t.Run(c.Name, func(t *testing.T) {
			h := hashes[c.Hash]
			got, err := nonce.CoCoDigest(h, &c.Additional, c.Nonce, c.Pubkey)
			if err != nil || !bytes.Equal(got, c.Primary) {
				t.Errorf("primary: %x, %v", got, err)
			}
			device, err := nonce.CoCoDigest(h, nil, c.Nonce, c.Pubkey)
			if err != nil || !bytes.Equal(device, c.Device) {
				t.Errorf("device: %x, %v", device, err)
			}
			for _, wrong := range []string{c.WrongLeft, c.WrongEscape} {
				if hex.EncodeToString(got) == wrong {
					t.Errorf("equals the wrong digest %s", wrong)
				}
			}
			var wire struct {
				Pubkey json.RawMessage `json:"tee-pubkey"`
			}
			if err := json.Unmarshal([]byte(c.Runtime), &wire); err != nil {
				t.Fatal(err)
			}
			if got, err := nonce.CoCoDigest(h, &c.Additional, c.Nonce, wire.Pubkey); err != nil || !bytes.Equal(got, c.Primary) {
				t.Errorf("with the key as on the wire: %x, %v", got, err)
			}
			key, err := keywrap.ParseJWK(wire.Pubkey, allow)
			if err != nil {
				t.Fatal(err)
			}
			n, err := base64.StdEncoding.DecodeString(c.Nonce)
			if err != nil || len(n) != 32 {
				return // of another client: no Nonce
			}
			bound++
			b, err := nonce.CoCo{Hash: h, AdditionalEvidence: c.Additional}.Bind(nonce.Nonce(n), key)
			if err != nil || !bytes.Equal(b.Bytes(), c.Primary) || !b.MatchPadded((*[64]byte)(c.ReportData)) {
				t.Errorf("CoCo: %x, %v", b.Bytes(), err)
			}
			b, err = nonce.CoCoDevice{Hash: h}.Bind(nonce.Nonce(n), key)
			if err != nil || !bytes.Equal(b.Bytes(), c.Device) {
				t.Errorf("CoCoDevice: %x, %v", b.Bytes(), err)
			}
		})
	}
	if bound != 29 {
		t.Errorf("%d cases with a nonce of 32 bytes", bound)
	}
}

const (
	ecKey  = `{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"eA","y":"eQ"}`
	rsaKey = `{"alg":"RSA-OAEP-256","e":"AQAB","kty":"RSA","n":"bg"}`
)

// What the digest depends on is a string of known members, and nothing else.
func TestCoCoPubkey(t *testing.T) {
	for _, tt := range []struct{ name, jwk, same string }{
		{"order and spaces", ` { "y":"eQ", "x":"eA",` + "\n" + `"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW"}`, ecKey},
		{"unknown members", `{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"eA","y":"eQ","kid":"1","x5c":["AA"],"n":1}`, ecKey},
		{"escapes", `{"\u0061lg":"ECDH-ES+A256KW","crv":"P-256","kty":"\u0045C","x":"eA","y":"eQ"}`, ecKey},
		{"RSA order", `{"kty":"RSA","n":"bg","e":"AQAB","alg":"RSA-OAEP-256"}`, rsaKey},
		{"other x", strings.Replace(ecKey, `"eA"`, `"eB"`, 1), ""},
		{"other alg", strings.Replace(rsaKey, "-256", "-512", 1), ""},
	} {
		want := map[string]bool{}
		for _, jwk := range []string{ecKey, rsaKey} {
			sum, err := nonce.CoCoDigest(crypto.SHA384, nil, "n", []byte(jwk))
			if err != nil {
				t.Fatal(err)
			}
			want[string(sum)] = jwk == tt.same
		}
		got, err := nonce.CoCoDigest(crypto.SHA384, nil, "n", []byte(tt.jwk))
		if err != nil || want[string(got)] != (tt.same != "") {
			t.Errorf("%s: %x, %v", tt.name, got, err)
		}
	}
}

func TestCoCoDigestRefuses(t *testing.T) {
	long := strings.Repeat("a", 16<<20)
	for _, tt := range []struct {
		name              string
		hash              crypto.Hash
		additional, nonce string
		jwk               string
	}{
		{"no hash", 0, "", "n", ecKey},
		{"SHA-1", crypto.SHA1, "", "n", ecKey},
		{"SHA-512/256", crypto.SHA512_256, "", "n", ecKey},
		{"additional evidence is not UTF-8", crypto.SHA384, "a\xff", "n", ecKey},
		{"additional evidence has a surrogate", crypto.SHA384, "\xed\xa0\x80", "n", ecKey},
		{"nonce is not UTF-8", crypto.SHA384, "", "\xc0\x80", ecKey},
		{"too much", crypto.SHA384, long, "n", ecKey},
		{"too long a nonce", crypto.SHA384, "", long, ecKey},
		{"no key", crypto.SHA384, "", "n", ""},
		{"null key", crypto.SHA384, "", "n", "null"},
		{"empty key", crypto.SHA384, "", "n", "{}"},
		{"array", crypto.SHA384, "", "n", "[]"},
		{"trailing data", crypto.SHA384, "", "n", ecKey + "{}"},
		{"kty of another kind", crypto.SHA384, "", "n", strings.Replace(ecKey, `"EC"`, `"OKP"`, 1)},
		{"kty is no string", crypto.SHA384, "", "n", strings.Replace(ecKey, `"EC"`, `1`, 1)},
		{"no alg", crypto.SHA384, "", "n", strings.Replace(ecKey, `"alg":"ECDH-ES+A256KW",`, ``, 1)},
		{"null alg", crypto.SHA384, "", "n", strings.Replace(ecKey, `"ECDH-ES+A256KW"`, `null`, 1)},
		{"no y", crypto.SHA384, "", "n", strings.Replace(ecKey, `,"y":"eQ"`, ``, 1)},
		{"no n", crypto.SHA384, "", "n", strings.Replace(rsaKey, `,"n":"bg"`, ``, 1)},
		{"x is a number", crypto.SHA384, "", "n", strings.Replace(ecKey, `"eA"`, `7`, 1)},
		{"x is an object", crypto.SHA384, "", "n", strings.Replace(ecKey, `"eA"`, `{}`, 1)},
		{"x twice", crypto.SHA384, "", "n", strings.Replace(ecKey, `"x":"eA"`, `"x":"eA","x":"eA"`, 1)},
		{"x in two cases", crypto.SHA384, "", "n", strings.Replace(ecKey, `"x":"eA"`, `"x":"eA","X":"eB"`, 1)},
		{"lone surrogate", crypto.SHA384, "", "n", strings.Replace(ecKey, `"eA"`, `"\ud800"`, 1)},
	} {
		if sum, err := nonce.CoCoDigest(tt.hash, &tt.additional, tt.nonce, []byte(tt.jwk)); err == nil || sum != nil {
			t.Errorf("%s: accepted", tt.name)
		}
	}
}

// Without additional-evidence is not with an empty one.
func TestCoCoMemberLeftOut(t *testing.T) {
	empty := ""
	with, err1 := nonce.CoCoDigest(crypto.SHA256, &empty, "n", []byte(ecKey))
	without, err2 := nonce.CoCoDigest(crypto.SHA256, nil, "n", []byte(ecKey))
	if err1 != nil || err2 != nil || bytes.Equal(with, without) {
		t.Errorf("%x, %v; %x, %v", with, err1, without, err2)
	}
}

// CoCo takes keys with a JWK, and no hash is an error.
func TestCoCoRefuses(t *testing.T) {
	n := nonce.Nonce{1}
	for _, key := range append(keys(t), keywrap.Recipient{}) {
		_, err1 := nonce.CoCo{Hash: crypto.SHA384}.Bind(n, key)
		_, err2 := nonce.CoCoDevice{Hash: crypto.SHA384}.Bind(n, key)
		if want := key.JWK() != nil; (err1 == nil) != want || (err2 == nil) != want {
			t.Errorf("%q: %v, %v", key.Suite(), err1, err2)
		} else if !want && !strings.Contains(err1.Error(), "JWE") {
			t.Errorf("%q: the error does not say what is wanted: %v", key.Suite(), err1)
		}
		if b, err := (nonce.CoCo{}).Bind(n, key); err == nil || b.Checked() {
			t.Errorf("%q: no hash accepted", key.Suite())
		}
	}
}

// canonicalText is s as RFC 8785 writes it.
func canonicalText(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch short := strings.IndexRune("\b\t\n\f\r\"\\", r); {
		case short >= 0:
			b.WriteString(`\` + `btnfr"\`[short:short+1])
		case r < 0x20:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return `"` + b.String() + `"`
}

// The canonical form escapes exactly what RFC 8785 says, character by character.
func TestCoCoCharacters(t *testing.T) {
	for r := range rune(0x3000) {
		got, err := nonce.CoCoDigest(crypto.SHA256, nil, string(r), []byte(ecKey))
		doc := `{"nonce":` + canonicalText(string(r)) + `,"tee-pubkey":` + ecKey + `}`
		if want := sha256.Sum256([]byte(doc)); err != nil || !bytes.Equal(got, want[:]) {
			t.Errorf("%U: not hashed as %s, %v", r, doc, err)
		}
	}
}
