package kbs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/kbs"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// other is an instance of another TEE.
var other = [16]byte{15: 3}

// TDs and realms get their secret as SEV-SNP guests do, with the event log and the
// init-data that their launch was given, and their token says what was found.
func TestOtherTEEs(t *testing.T) {
	digest := sha512.Sum384([]byte(initBody))
	for _, tt := range []struct {
		name, tee, claim string
		size             int
		verifier         func(t *testing.T) (evidence.Format, evidence.Verifier, func(evidence.Binding) any)
	}{
		{"TDX", "tdx", "tdx.mrconfigid", 48, func(t *testing.T) (evidence.Format, evidence.Verifier, func(evidence.Binding) any) {
			intel := tdxtest.NewIntel()
			platform := intel.Platform(tdx.PlatformCA)
			v, err := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: intel.Source()})
			if err != nil {
				t.Fatal(err)
			}
			return tdx.Format, v, func(b evidence.Binding) any {
				td := tdxtest.TD{MRConfigID: digest, Log: tdxtest.EventLog{{RTMR: 0, Data: []byte("firmware")}}}
				return map[string]any{"quote": platform.Quote(td, b).Raw, "cc_eventlog": td.Log.CCEL()}
			}
		}},
		{"CCA", "cca", "cca.rpv", 64, func(t *testing.T) (evidence.Format, evidence.Verifier, func(evidence.Binding) any) {
			platform := ccatest.NewPlatform()
			v, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{platform.Anchor()}})
			if err != nil {
				t.Fatal(err)
			}
			return cca.Format, v, func(b evidence.Binding) any {
				r := ccatest.Realm{Hash: cca.SHA384}
				copy(r.RPV[:], digest[:])
				numbers := []int{}
				for _, octet := range platform.Token(r, b).Raw {
					numbers = append(numbers, int(octet))
				}
				return map[string]any{"token": numbers}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			format, verifier, evidenceFor := tt.verifier(t)
			var tokenKey *ecdsa.PrivateKey
			w := newWorld(t, func(w *world, bc *teebroker.Config, hc *kbs.Config) {
				bc.Verifier = evidence.Verifiers{format: verifier}
				tokenKey = w.key(elliptic.P256())
				var err error
				hc.Tokens, err = ear.NewIssuer(ear.IssuerConfig{
					Signer: tokenKey, Profile: ear.KBS, Life: 5 * time.Minute,
					Verifier: ear.VerifierID{Developer: "teebroker", Build: "test"},
				})
				w.check(err)
			})
			want := make([]byte, tt.size)
			copy(want, digest[:])
			launch := teebroker.LaunchClaim{Name: tt.claim, Want: want}
			w.check(w.Register(t.Context(), teebroker.Instance{
				Tenant: tenant, ID: other, Launch: launch,
				Policies: []*policy.Policy{{Name: "test", Document: []byte("launched"), Require: map[evidence.Format]policy.Rule{format: launch}}},
				Profiles: map[string][]nonce.Profile{"default/key/1": {nonce.ProfileCoCo}},
				Suites:   keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP256}},
			}))
			w.check(w.PutSecret(t.Context(), tenant, other, "default/key/1", []byte(secret)))
			w.authorize(other, nonce.ProfileCoCo, "default/key/1")

			c := newClient(w, false)
			c.auth()
			c.init = initBody
			binding, err := nonce.CoCo{Hash: 6}.Bind(c.nonce, c.key.Recipient()) // SHA-384
			w.check(err)
			body := c.body()
			body["tee-evidence"] = map[string]any{"primary_evidence": evidenceFor(binding), "additional_evidence": ""}
			b, err := json.Marshal(body)
			w.check(err)
			if answer := c.attestWith(b); answer.Code != http.StatusOK {
				t.Fatalf("%d %s %v", answer.Code, answer.Body, w.refused)
			}
			if answer := c.get("default/key/1"); !c.opens(answer) {
				t.Errorf("%d %s %v", answer.Code, answer.Body, w.refused)
			}
			saysOf(t, c, tokenKey)
		})
	}
}

// saysOf reads the token of c as a relying party does, and as KBS does.
func saysOf(t *testing.T, c *client, key *ecdsa.PrivateKey) {
	t.Helper()
	reader, err := ear.NewReader(ear.ReaderConfig{Keys: []*ecdsa.PublicKey{&key.PublicKey}, Profiles: []ear.Profile{ear.KBS}})
	c.check(err)
	got, err := reader.Read([]byte(c.token), ear.Want{Audience: "teebroker/kbs", Nonce: c.nonce[:]})
	if err != nil || len(got.Submodules) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(c.token, ".")[1])
	c.check(err)
	var claims struct {
		Submods struct {
			CPU0 struct {
				Annotated struct {
					Runtime struct {
						Key json.RawMessage `json:"tee-pubkey"`
					} `json:"runtime_data_claims"`
				} `json:"ear.veraison.annotated-evidence"`
			} `json:"cpu0"`
		} `json:"submods"`
	}
	c.check(json.Unmarshal(payload, &claims))
	recipient, err := keywrap.ParseJWK(claims.Submods.CPU0.Annotated.Runtime.Key, keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP256}})
	if err != nil || recipient.Thumbprint() != c.key.Recipient().Thumbprint() {
		t.Errorf("the attested key is not where KBS looks: %v: %s", err, payload)
	}
}
