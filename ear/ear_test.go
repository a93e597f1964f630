package ear_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/policy"
)

const audience = "https://relying.example"

func now() time.Time { return time.Date(2026, 7, 1, 12, 0, 0, 500, time.UTC) }

func challenge() []byte { return bytes.Repeat([]byte{7}, 32) }

func profiles() []ear.Profile { return []ear.Profile{ear.Draft03, ear.KBS} }

type claim struct {
	name  string
	value evidence.Value
}

type claims []claim

// All implements [evidence.Claims].
func (cs claims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for _, c := range cs {
			if !yield(c.name, c.value) {
				return
			}
		}
	}
}

// rule refuses what it is.
type rule []evidence.Mismatch

// Appraise implements [policy.Rule].
func (r rule) Appraise(*evidence.Verified) []evidence.Mismatch { return r }

// verified returns evidence of format f that nothing is against.
func verified(f evidence.Format, cs ...claim) *evidence.Verified {
	return &evidence.Verified{
		Format: f, Claims: claims(cs), Bound: true, Signed: bytes.Repeat([]byte{byte(len(f))}, 64),
		CheckedAt: now(), NotAfter: now().Add(time.Hour),
	}
}

// appraise judges got by a policy that takes every format of got and refuses only
// the claims called refuse.
func appraise(got []*evidence.Verified, refuse ...string) policy.Appraisal {
	var r rule
	for _, name := range refuse {
		r = append(r, evidence.Mismatch{Claim: name, Got: evidence.Text("secret"), Op: evidence.Equal, Want: evidence.Text("other")})
	}
	p := &policy.Policy{Name: "test", Version: "1", Document: []byte("document"), Require: map[evidence.Format]policy.Rule{}, Optional: map[evidence.Format]policy.Rule{}}
	for _, v := range got {
		if v != nil {
			p.Require[v.Format] = r
			for _, l := range v.Layers {
				if l != nil {
					p.Optional[l.Format] = r
				}
			}
		}
	}
	return policy.Appraise(got, p)
}

func accepted(cs ...claim) policy.Appraisal {
	return appraise([]*evidence.Verified{verified("snp-report", cs...)})
}

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	check(t, err)
	return k
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pair is an issuer and the reader who knows it.
type pair struct {
	testing.TB
	*ear.Issuer
	*ear.Reader
	key *ecdsa.PrivateKey
}

func newPair(t testing.TB, p ear.Profile, c elliptic.Curve) pair {
	t.Helper()
	k := newKey(t, c)
	i, err := ear.NewIssuer(issuerConfig(k, p))
	check(t, err)
	r, err := ear.NewReader(readerConfig(k))
	check(t, err)
	return pair{t, i, r, k}
}

func issuerConfig(k *ecdsa.PrivateKey, p ear.Profile) ear.IssuerConfig {
	return ear.IssuerConfig{
		Signer: k, Profile: p, Verifier: ear.VerifierID{Developer: "https://example.org", Build: "verifier 1"},
		Life: 5 * time.Minute, Time: now,
	}
}

func readerConfig(k *ecdsa.PrivateKey) ear.ReaderConfig {
	return ear.ReaderConfig{Keys: []*ecdsa.PublicKey{&k.PublicKey}, Profiles: profiles(), Time: now}
}

func want() ear.Want { return ear.Want{Audience: audience, Nonce: challenge()} }

// result says a to the audience of want.
func result(a policy.Appraisal) ear.Result {
	return ear.Result{Appraisal: a, Audience: audience, Nonce: challenge()}
}

// read issues and reads again.
func (p pair) read(r ear.Result) *ear.EAR {
	p.Helper()
	token, err := p.Issue(r)
	check(p, err)
	e, err := p.Read(token, want())
	check(p, err)
	return e
}

// payload returns the claims of token.
func payload(t testing.TB, token []byte) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(string(bytes.Split(token, []byte("."))[1]))
	check(t, err)
	return string(b)
}

func jweKey(t testing.TB) (keywrap.Recipient, *ecdsa.PrivateKey) {
	t.Helper()
	k := newKey(t, elliptic.P256())
	b, err := k.PublicKey.Bytes()
	check(t, err)
	r, err := keywrap.Parse(keywrap.JWEP256, b, keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP256}})
	check(t, err)
	return r, k
}

// What was issued is read, in both spellings and with both algorithms.
func TestRoundTrip(t *testing.T) {
	recipient, guest := jweKey(t)
	spki, err := x509.MarshalPKIXPublicKey(&guest.PublicKey)
	check(t, err)
	for _, profile := range profiles() {
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
			p := newPair(t, profile, curve)
			r := result(appraise([]*evidence.Verified{verified("snp-report"), verified("cca-token")}))
			r.Key = recipient
			got := p.read(r)
			sum := sha256.Sum256([]byte("document"))
			ids := []string{fmt.Sprintf("sha256:%x", sum)}
			kid, err := ear.KeyID(&p.key.PublicKey)
			check(t, err)
			snp := ear.Submodule{
				Label: "snp-report", Status: ear.Affirming, PolicyIDs: ids, Signed: bytes.Repeat([]byte{10}, 64), Key: spki,
				Vector: ear.Vector{ear.InstanceIdentity: 2, ear.Configuration: 2, ear.Executables: 3, ear.Hardware: 2, ear.RuntimeOpaque: 2},
			}
			cca := ear.Submodule{
				Label: "cca-token", Status: ear.Affirming, PolicyIDs: ids, Signed: bytes.Repeat([]byte{9}, 64),
				Vector: ear.Vector{ear.InstanceIdentity: 2, ear.Configuration: 2, ear.Executables: 3, ear.Hardware: 2},
			}
			subs := []ear.Submodule{cca, snp}
			if profile == ear.KBS {
				snp.Label, cca.Label, snp.TEEKey = "cpu0", "cpu1", recipient.JWK()
				subs = []ear.Submodule{snp, cca}
			}
			want := &ear.EAR{
				Profile: profile, KeyID: kid, Audience: audience, Verifier: ear.VerifierID{Developer: "https://example.org", Build: "verifier 1"},
				Issued: now().Truncate(time.Second), Expires: now().Truncate(time.Second).Add(5 * time.Minute),
				Nonce: challenge(), Status: ear.Affirming, Submodules: subs,
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s:\n%+v\nwant\n%+v", profile, curve.Params().Name, got, want)
			}
		}
	}
}

// The names are those of the draft, and those that KBS services look for.
func TestSpellings(t *testing.T) {
	recipient, _ := jweKey(t)
	for profile, want := range map[ear.Profile]string{
		ear.Draft03: `{"aud":"https://relying.example","ear_status":"affirming","ear_verifier_id":{"developer":"https://example.org","build":"verifier 1"},` +
			`"eat_nonce":"NONCE","eat_profile":"tag:ietf.org,2026:rats/ear#03","exp":1782907500,"iat":1782907200,"submods":{"snp-report":{` +
			`"ear_appraisal_policy_ids":["sha256:DOCUMENT"],"ear_status":"affirming",` +
			`"ear_trustworthiness_vector":{"configuration":2,"executables":3,"hardware":2,"instance-identity":2,"runtime-opaque":2},` +
			`"ear_veraison_key_attestation":{"akpub":"KEY"},"eat_nonce":"SIGNED"}}}`,
		ear.KBS: `{"aud":"https://relying.example","ear.status":"affirming","ear.verifier-id":{"developer":"https://example.org","build":"verifier 1"},` +
			`"eat_nonce":"NONCE","eat_profile":"tag:github.com,2024:confidential-containers/Trustee","exp":1782907500,"iat":1782907200,"submods":{"cpu0":{` +
			`"ear.appraisal-policy-id":"sha256:DOCUMENT","ear.status":"affirming",` +
			`"ear.trustworthiness-vector":{"configuration":2,"executables":3,"hardware":2,"instance-identity":2,"runtime-opaque":2},` +
			`"ear.veraison.annotated-evidence":{"runtime_data_claims":{"nonce":"STANDARD","tee-pubkey":JWK}},` +
			`"ear.veraison.key-attestation":{"akpub":"KEY"},"eat_nonce":"SIGNED"}}}`,
	} {
		p := newPair(t, profile, elliptic.P256())
		r := result(accepted())
		r.Key = recipient
		token, err := p.Issue(r)
		check(t, err)
		e, err := p.Read(token, ear.Want{Audience: audience, AllowAnyNonce: true})
		check(t, err)
		sum := sha256.Sum256([]byte("document"))
		raw := base64.RawURLEncoding
		for old, new := range map[string]string{
			"NONCE": raw.EncodeToString(challenge()), "STANDARD": base64.StdEncoding.EncodeToString(challenge()),
			"SIGNED": raw.EncodeToString(bytes.Repeat([]byte{10}, 64)), "DOCUMENT": fmt.Sprintf("%x", sum),
			"KEY": raw.EncodeToString(e.Submodules[0].Key), "JWK": string(recipient.JWK()),
		} {
			want = string(bytes.ReplaceAll([]byte(want), []byte(old), []byte(new)))
		}
		if got := payload(t, token); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", profile, got, want)
		}
	}
}

// Why evidence was refused is said by the names of claims, and never by their values.
func TestReasons(t *testing.T) {
	for _, profile := range profiles() {
		p := newPair(t, profile, elliptic.P256())
		r := result(appraise([]*evidence.Verified{verified("snp-report")}, "snp.measurement", "snp.tcb.reported.firmware", "snp.measurement"))
		token, err := p.Issue(r)
		check(t, err)
		if bytes.Contains([]byte(payload(t, token)), []byte("secret")) {
			t.Error("a claim is quoted")
		}
		s := p.read(r).Submodules[0]
		if want := []string{"snp.measurement", "snp.tcb.reported.firmware"}; !slices.Equal(s.Reasons, want) || s.Status != ear.Warning {
			t.Errorf("%s: %v, %v", profile, s.Status, s.Reasons)
		}
		if want := (ear.Vector{ear.InstanceIdentity: 2, ear.Executables: 33, ear.Hardware: 32, ear.RuntimeOpaque: 2}); s.Vector != want {
			t.Errorf("%s: %v", profile, s.Vector)
		}
	}
}

// Evidence that is not authentic has no vector but for who it is not.
func TestRefused(t *testing.T) {
	for _, profile := range profiles() {
		p := newPair(t, profile, elliptic.P384())
		for reason, want := range map[evidence.Reason]int8{
			evidence.Malformed: 97, evidence.Unsupported: 97, evidence.Untrusted: 97, evidence.Revoked: 96, evidence.Stale: -1,
			evidence.BadSignature: 99, evidence.NotBound: 97, evidence.Unavailable: -1,
		} {
			e := p.read(ear.Result{Refused: &evidence.Error{Format: "tdx-quote", Reason: reason}, Audience: audience, Nonce: challenge()})
			s := e.Submodules[0]
			status := ear.Contraindicated
			if want == -1 {
				status = ear.None
			}
			if e.Status != status || s.Status != status || s.Vector != (ear.Vector{ear.InstanceIdentity: want}) || !slices.Equal(s.Reasons, []string{string(reason)}) || s.Signed != nil {
				t.Errorf("%s: %v, %+v", reason, e.Status, s)
			}
		}
	}
	p := newPair(t, ear.Draft03, elliptic.P384())
	for format, want := range map[evidence.Format]string{"tdx-quote": "tdx-quote", "": "evidence", "A": "evidence", "a\n": "evidence", "0123456789012345678901234567890123": "evidence"} {
		e := p.read(ear.Result{Refused: &evidence.Error{Format: format, Reason: evidence.Malformed}, Audience: audience, Nonce: challenge()})
		if got := e.Submodules[0].Label; got != want {
			t.Errorf("%q is called %q", format, got)
		}
	}
}

// An EAR does not outlive what its evidence rests on.
func TestLife(t *testing.T) {
	p := newPair(t, ear.Draft03, elliptic.P256())
	v := verified("snp-report")
	v.NotAfter = now().Add(time.Minute)
	if e := p.read(result(appraise([]*evidence.Verified{v, verified("cca-token")}))); e.Expires.Sub(e.Issued) != time.Minute {
		t.Errorf("valid for %v", e.Expires.Sub(e.Issued))
	}
	for _, end := range []time.Time{{}, now(), now().Add(time.Second / 4)} {
		v.NotAfter = end
		if _, err := p.Issue(result(appraise([]*evidence.Verified{v}))); err == nil {
			t.Errorf("issued at %v for what ends at %v", now(), end)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	good := result(accepted())
	hybrid, err := keywrap.Generate(keywrap.MLKEM768X25519)
	check(t, err)
	short := verified("snp-report")
	short.Signed = []byte("short")
	nameless := policy.Appraise([]*evidence.Verified{verified("f-x")}, &policy.Policy{Name: "n", Version: "1", Require: map[evidence.Format]policy.Rule{"f-x": rule{}}})
	huge := appraise(slices.Repeat([]*evidence.Verified{verified("snp-report")}, 300))
	for name, edit := range map[string]func(*ear.Result){
		"no audience":               func(r *ear.Result) { r.Audience = "" },
		"short nonce":               func(r *ear.Result) { r.Nonce = make([]byte, 7) },
		"empty nonce":               func(r *ear.Result) { r.Nonce = []byte{} },
		"long nonce":                func(r *ear.Result) { r.Nonce = make([]byte, 65) },
		"refused and appraised":     func(r *ear.Result) { r.Refused = &evidence.Error{Reason: evidence.Stale} },
		"no nonce in the evidence":  func(r *ear.Result) { r.Appraisal = appraise([]*evidence.Verified{short}) },
		"policy without a document": func(r *ear.Result) { r.Appraisal = nameless },
		"hybrid key":                func(r *ear.Result) { r.Key = hybrid.Recipient() },
		"too long":                  func(r *ear.Result) { r.Appraisal = huge },
	} {
		for _, profile := range profiles() {
			r := good
			edit(&r)
			if token, err := newPair(t, profile, elliptic.P256()).Issue(r); err == nil || token != nil {
				t.Errorf("%s: %s, %v", name, token, err)
			}
		}
	}
	plain, err := keywrap.Generate(keywrap.P256)
	check(t, err)
	r := good
	r.Key = plain.Recipient()
	if _, err := newPair(t, ear.KBS, elliptic.P256()).Issue(r); err == nil {
		t.Error("a KBS token without the key that services look for")
	}
	if e := newPair(t, ear.Draft03, elliptic.P256()).read(r); e.Submodules[0].Key == nil {
		t.Error("no key")
	}
}

// Keys of every suite that has a SubjectPublicKeyInfo are attested.
func TestKeys(t *testing.T) {
	for _, suite := range []keywrap.Suite{keywrap.P256, keywrap.P384, keywrap.X25519, keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521, keywrap.JWERSA} {
		k, err := keywrap.Generate(suite)
		check(t, err)
		r := result(accepted())
		r.Key = k.Recipient()
		s := newPair(t, ear.Draft03, elliptic.P256()).read(r).Submodules[0]
		if _, err := x509.ParsePKIXPublicKey(s.Key); err != nil || s.TEEKey != nil {
			t.Errorf("%s: %v", suite, err)
		}
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	for name, edit := range map[string]func(*ear.IssuerConfig){
		"no signer":        func(c *ear.IssuerConfig) { c.Signer = nil },
		"P-521":            func(c *ear.IssuerConfig) { c.Signer = newKey(t, elliptic.P521()) },
		"no profile":       func(c *ear.IssuerConfig) { c.Profile = "" },
		"other profile":    func(c *ear.IssuerConfig) { c.Profile = "tag:ietf.org,2026:rats/ear#04" },
		"no developer":     func(c *ear.IssuerConfig) { c.Verifier.Developer = "" },
		"no build":         func(c *ear.IssuerConfig) { c.Verifier.Build = "" },
		"no life":          func(c *ear.IssuerConfig) { c.Life = 0 },
		"negative life":    func(c *ear.IssuerConfig) { c.Life = -time.Minute },
		"half a second":    func(c *ear.IssuerConfig) { c.Life = 1500 * time.Millisecond },
		"more than a day":  func(c *ear.IssuerConfig) { c.Life = ear.MaxLife + time.Second },
		"the zero config":  func(c *ear.IssuerConfig) { *c = ear.IssuerConfig{} },
		"a key of no kind": func(c *ear.IssuerConfig) { c.Signer = &ecdsa.PrivateKey{} },
	} {
		cfg := issuerConfig(newKey(t, elliptic.P256()), ear.Draft03)
		edit(&cfg)
		if i, err := ear.NewIssuer(cfg); err == nil || i != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewReaderRefuses(t *testing.T) {
	for name, edit := range map[string]func(*ear.ReaderConfig){
		"no keys":          func(c *ear.ReaderConfig) { c.Keys = nil },
		"no key":           func(c *ear.ReaderConfig) { c.Keys = []*ecdsa.PublicKey{nil} },
		"P-521":            func(c *ear.ReaderConfig) { c.Keys = append(c.Keys, &newKey(t, elliptic.P521()).PublicKey) },
		"an empty key":     func(c *ear.ReaderConfig) { c.Keys = []*ecdsa.PublicKey{{Curve: elliptic.P256()}} },
		"no profiles":      func(c *ear.ReaderConfig) { c.Profiles = nil },
		"unknown profile":  func(c *ear.ReaderConfig) { c.Profiles = append(c.Profiles, "tag:github.com,2023:veraison/ear") },
		"negative skew":    func(c *ear.ReaderConfig) { c.AllowSkew = -1 },
		"too large a skew": func(c *ear.ReaderConfig) { c.AllowSkew = ear.MaxSkew + 1 },
	} {
		cfg := readerConfig(newKey(t, elliptic.P256()))
		edit(&cfg)
		if r, err := ear.NewReader(cfg); err == nil || r != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A signer that fails makes no token.
func TestBrokenSigner(t *testing.T) {
	cfg := issuerConfig(newKey(t, elliptic.P256()), ear.KBS)
	cfg.Signer = broken{cfg.Signer.(*ecdsa.PrivateKey)}
	i, err := ear.NewIssuer(cfg)
	check(t, err)
	if token, err := i.Issue(result(accepted())); !errors.Is(err, errRemoved) || token != nil {
		t.Errorf("%s, %v", token, err)
	}
}

func TestTierText(t *testing.T) {
	for _, tier := range []ear.Tier{-1, 4} {
		if tier.String() != "" {
			t.Errorf("%d is %s", tier, tier)
		}
	}
	for _, c := range []ear.Category{-1, 8} {
		if c.String() != "" {
			t.Errorf("%d is %s", c, c)
		}
	}
	for _, bad := range []string{`null`, `2`, `"good"`, `"Affirming"`, `""`, `[]`} {
		var tier ear.Tier
		if err := json.Unmarshal([]byte(bad), &tier); err == nil {
			t.Errorf("%s is %v", bad, tier)
		}
	}
}
