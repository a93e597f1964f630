package ear_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/jws"
)

// forge signs claims that no Issuer would.
func (p pair) forge(claims string) []byte {
	p.Helper()
	token, err := jws.SignKeyed(p.key, ear.Type, []byte(claims))
	check(p, err)
	return token
}

// full returns the claims of an EAR that has every member there is.
func (p pair) full() string {
	p.Helper()
	recipient, _ := jweKey(p)
	r := result(accepted())
	r.Key = recipient
	token, err := p.Issue(r)
	check(p, err)
	reasons := `"ear_veraison_policy_claims":{"reasons":["snp.vmpl"]},"eat_nonce"`
	c := payload(p, token)
	if strings.Contains(c, "ear.status") {
		reasons = strings.Replace(reasons, "ear_veraison_policy_claims", "ear.veraison.policy-claims", 1)
	}
	at := strings.LastIndex(c, `"eat_nonce"`)
	return c[:at] + reasons + c[at+len(`"eat_nonce"`):]
}

// refuses fails the test unless claims are refused for reason.
func (p pair) refuses(what, claims string, reason ear.Reason) {
	p.Helper()
	e, err := p.Read(p.forge(claims), want())
	var typed *ear.Error
	if !errors.Is(err, reason) || !errors.As(err, &typed) || typed.Reason != reason || e != nil {
		p.Errorf("%s: %v, %v", what, e, err)
	}
}

// Each member is as it has to be: not of another type, not there twice, and there at
// all unless it may be left out.
func TestEveryMember(t *testing.T) {
	optional := []string{
		"eat_nonce", "ear_appraisal_policy_ids", "ear.appraisal-policy-id", "ear_veraison_policy_claims", "ear.veraison.policy-claims",
		"ear_veraison_key_attestation", "ear.veraison.key-attestation", "ear_veraison_annotated_evidence", "ear.veraison.annotated-evidence",
		"reasons", "runtime_data_claims", "tee-pubkey", "nonce",
		"configuration", "executables", "hardware", "instance-identity", "runtime-opaque", "alg", "crv", "kty", "x", "y",
	}
	for _, profile := range profiles() {
		p := newPair(t, profile, elliptic.P256())
		whole := p.full()
		if _, err := p.Read(p.forge(whole), want()); err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		check(t, json.Unmarshal([]byte(whole), &tree))
		seen := 0
		var walk func(at map[string]any)
		walk = func(at map[string]any) {
			for _, name := range slices.Sorted(maps.Keys(at)) {
				seen++
				value := at[name]
				edited := func(what string, v any) {
					at[name] = v
					b, err := json.Marshal(tree)
					check(t, err)
					at[name] = value
					if name == "nonce" { // for services, and not read
						return
					}
					e, err := p.Read(p.forge(string(b)), want())
					if !errors.Is(err, ear.Malformed) && !errors.Is(err, ear.OtherProfile) && !errors.Is(err, ear.OtherAud) || e != nil {
						t.Errorf("%s: %s %s: %v, %v", profile, name, what, e, err)
					}
				}
				for _, other := range []any{nil, true, 1.5, "", " ", []any{}, []any{1}, map[string]any{}, []any{nil}, map[string]any{"a": nil}} {
					if name == "reasons" && fmt.Sprint(other) == "[]" {
						continue // says what its absence says
					}
					switch {
					case fmt.Sprintf("%T", other) == fmt.Sprintf("%T", value) && slices.Contains([]string{
						"ear_veraison_policy_claims", "ear.veraison.policy-claims", "ear.veraison.annotated-evidence", "runtime_data_claims",
						"alg", "crv", "kty", "x", "y", "developer", "build",
						"ear_trustworthiness_vector", "ear.trustworthiness-vector",
					}, name):
						continue // of the type that it has
					}
					edited(fmt.Sprintf("as %#v", other), other)
				}
				// Twice, in the text.
				b, err := json.Marshal(value)
				check(t, err)
				key := fmt.Sprintf("%q:", name)
				at[name] = json.RawMessage(fmt.Sprintf(`%s,%q:%s`, b, name, b))
				twice := encode(t, tree)
				at[name] = value
				p.refuses("twice "+key, twice, ear.Malformed)

				delete(at, name)
				without := encode(t, tree)
				at[name] = value
				if slices.Contains(optional, name) {
					continue
				}
				p.refuses(fmt.Sprintf("%s: no %s", profile, name), without, ear.Malformed)
			}
			for _, name := range slices.Sorted(maps.Keys(at)) {
				if below, ok := at[name].(map[string]any); ok {
					walk(below)
				}
			}
		}
		walk(tree)
		if seen < 24 {
			t.Errorf("%s: %d members", profile, seen)
		}
	}
}

// encode is json.Marshal that does not look into raw messages.
func encode(t testing.TB, v any) string {
	t.Helper()
	switch x := v.(type) {
	case json.RawMessage:
		return string(x)
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(x)) {
			parts = append(parts, fmt.Sprintf("%q:%s", name, encode(t, x[name])))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	b, err := json.Marshal(v)
	check(t, err)
	return string(b)
}

// Changes of what members say are refused, each for its reason.
func TestTampering(t *testing.T) {
	type edit struct {
		name, old, new string
		reason         ear.Reason
	}
	for _, profile := range profiles() {
		p := newPair(t, profile, elliptic.P384())
		whole := p.full()
		status, vector := `"ear_status":`, `"ear_trustworthiness_vector":`
		if profile == ear.KBS {
			status, vector = `"ear.status":`, `"ear.trustworthiness-vector":`
		}
		for _, tt := range []edit{
			{"other profile", string(profile), "tag:ietf.org,2026:rats/ear#04", ear.OtherProfile},
			{"other audience", audience, audience + "/", ear.OtherAud},
			{"audience in a list", `"https://relying.example"`, `["https://relying.example"]`, ear.Malformed},
			{"issued in the future", `"iat":1782907200`, `"iat":1782907202`, ear.NotYetValid},
			{"issued never", `"iat":1782907200`, `"iat":0`, ear.Malformed},
			{"issued before 1970", `"iat":1782907200`, `"iat":-1`, ear.Malformed},
			{"a floating point time", `"iat":1782907200`, `"iat":1782907200.0`, ear.Malformed},
			{"an exponent", `"exp":1782907500`, `"exp":1782907500e0`, ear.Malformed},
			{"expired", `"exp":1782907500,"iat":1782907200`, `"exp":1782907200,"iat":1782907000`, ear.Expired},
			{"expires before it is issued", `"exp":1782907500`, `"exp":1782907200`, ear.Malformed},
			{"expires too late to count", `"exp":1782907500`, `"exp":1099511627777`, ear.Malformed},
			{"expires later than 64 bits", `"exp":1782907500`, `"exp":99999999999999999999`, ear.Malformed},
			{"other nonce", `"eat_nonce":"Bwc`, `"eat_nonce":"Awc`, ear.OtherNonce},
			{"short nonce", `"eat_nonce":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"`, `"eat_nonce":"BwcHBwcHBw"`, ear.Malformed},
			{"nonce padded", `BwcHBwcHBwc","eat_profile`, `BwcHBwcHBwc=","eat_profile`, ear.Malformed},
			{"nonces", `"eat_nonce":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"`, `"eat_nonce":["BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"]`, ear.Malformed},
			{"status better than the vector", `"executables":3`, `"executables":33`, ear.Inconsistent},
			{"a value that the vector has not said", `"executables":3`, `"executables":1`, ear.Inconsistent},
			{"a malfunction", `"executables":3`, `"executables":-1`, ear.Inconsistent},
			{"contraindicated", `"executables":3`, `"executables":127`, ear.Inconsistent},
			{"contraindicated below", `"executables":3`, `"executables":-128`, ear.Inconsistent},
			{"a value of nine bits", `"executables":3`, `"executables":128`, ear.Malformed},
			{"a value with a point", `"executables":3`, `"executables":3.0`, ear.Malformed},
			{"a category of the future", `"executables":3`, `"quality":3`, ear.Malformed},
			{"a category in another case", `"executables":3`, `"Executables":3`, ear.Malformed},
			{"no category", vector + `{"configuration":2,"executables":3,"hardware":2,"instance-identity":2,"runtime-opaque":2}`, vector + `{}`, ear.Inconsistent},
			{"a status of numbers", status + `"affirming"`, status + `2`, ear.Malformed},
			{"a status in capitals", status + `"affirming"`, status + `"Affirming"`, ear.Malformed},
			{"no submodule", whole[strings.Index(whole, `"submods":`):], `"submods":{}}`, ear.Malformed},
			{"a submodule that is text", whole[strings.Index(whole, `"submods":`):], `"submods":{"x":"y"}}`, ear.Malformed},
			{"a submodule without anything", whole[strings.Index(whole, `"submods":`):], `"submods":{"x":{}}}`, ear.Malformed},
			{"names of the draft as well", `{"aud"`, `{"ear_raw_evidence":"AA","ear.raw-evidence":"AA","aud"`, ear.Malformed},
			{"a name in capitals", `{"aud"`, `{"EAR_x":"AA","EAR.x":"AA","aud"`, ear.Malformed},
			{"a member in another case", `{"aud"`, `{"AUD":"","aud"`, ear.Malformed},
			{"trailing", `{"aud"`, `{}{"aud"`, ear.Malformed},
			{"nested too deeply", `{"aud"`, `{"deep":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `,"aud"`, ear.Malformed},
			{"not UTF-8", `verifier 1`, "verifier \xff", ear.Malformed},
			{"an empty policy", `sha256:`, ` sha256:`, ear.Malformed},
		} {
			if tt.name == "an empty policy" && profile == ear.Draft03 {
				tt.new, tt.old = `["",`, `["sha256`
				tt.new += `"sha256`
			}
			claims := strings.Replace(whole, tt.old, tt.new, 1)
			if claims == whole {
				t.Errorf("%s: %q is not in it", tt.name, tt.old)
			}
			p.refuses(string(profile)+": "+tt.name, claims, tt.reason)
		}
		// The status of the whole is the first; of the submodule, the last.
		at := strings.LastIndex(whole, status)
		p.refuses("better than its submodule", whole[:at]+strings.Replace(whole[at:], "affirming", "warning", 1), ear.Inconsistent)
		for _, lower := range []string{"none", "warning", "contraindicated"} {
			if _, err := p.Read(p.forge(strings.ReplaceAll(whole, `"affirming"`, fmt.Sprintf("%q", lower))), want()); err != nil {
				t.Errorf("%s: worse than the vector: %v", profile, err)
			}
		}
		// What no profile has is passed over, as section 4 of the draft asks.
		if _, err := p.Read(p.forge(strings.Replace(whole, `{"aud"`, `{"iss":"https://example.org","extension":{"a":[1]},"aud"`, 1)), want()); err != nil {
			t.Errorf("%s: an extension: %v", profile, err)
		}
	}
}

// An EAR of either profile in the names of the other is none.
func TestNamesOfTheOtherProfile(t *testing.T) {
	for _, profile := range profiles() {
		p := newPair(t, profile, elliptic.P256())
		other := ear.KBS
		if profile == ear.KBS {
			other = ear.Draft03
		}
		p.refuses(string(profile), strings.Replace(p.full(), string(profile), string(other), 1), ear.Malformed)
	}
}

func TestWant(t *testing.T) {
	p := newPair(t, ear.Draft03, elliptic.P256())
	token, err := p.Issue(result(accepted()))
	check(t, err)
	plain := result(accepted())
	plain.Nonce = nil
	without, err := p.Issue(plain)
	check(t, err)
	for _, tt := range []struct {
		name   string
		token  []byte
		want   ear.Want
		reason ear.Reason // or "" for none
	}{
		{"as asked", token, want(), ""},
		{"any nonce", token, ear.Want{Audience: audience, AllowAnyNonce: true}, ""},
		{"none, any nonce", without, ear.Want{Audience: audience, AllowAnyNonce: true}, ""},
		{"nothing asked", token, ear.Want{}, ear.OtherAud},
		{"no audience", token, ear.Want{Nonce: challenge()}, ear.OtherAud},
		{"other audience", token, ear.Want{Audience: "other", Nonce: challenge()}, ear.OtherAud},
		{"other audience, any nonce", token, ear.Want{Audience: "other", AllowAnyNonce: true}, ear.OtherAud},
		{"no nonce asked", token, ear.Want{Audience: audience}, ear.OtherNonce},
		{"no nonce asked or there", without, ear.Want{Audience: audience}, ear.OtherNonce},
		{"an empty nonce asked", without, ear.Want{Audience: audience, Nonce: []byte{}}, ear.OtherNonce},
		{"none there", without, want(), ear.OtherNonce},
		{"a part of it", token, ear.Want{Audience: audience, Nonce: challenge()[:16]}, ear.OtherNonce},
		{"more than it", token, ear.Want{Audience: audience, Nonce: append(challenge(), 0)}, ear.OtherNonce},
	} {
		e, err := p.Read(tt.token, tt.want)
		if (tt.reason == "") != (err == nil) || (e == nil) != (err != nil) || tt.reason != "" && !errors.Is(err, tt.reason) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A token is taken from the second in which it was issued to the one in which it
// expires, and for the skew around.
func TestTime(t *testing.T) {
	p := newPair(t, ear.KBS, elliptic.P256())
	token, err := p.Issue(result(accepted()))
	check(t, err)
	iat, exp := now().Truncate(time.Second), now().Truncate(time.Second).Add(5*time.Minute)
	for _, tt := range []struct {
		at     time.Time
		skew   time.Duration
		reason ear.Reason
	}{
		{iat, 0, ""},
		{iat.Add(-1), 0, ear.NotYetValid},
		{exp.Add(-1), 0, ""},
		{exp, 0, ear.Expired},
		{iat.Add(-time.Minute), time.Minute, ""},
		{iat.Add(-time.Minute - 1), time.Minute, ear.NotYetValid},
		{exp.Add(time.Minute - 1), time.Minute, ""},
		{exp.Add(time.Minute), time.Minute, ear.Expired},
		{time.Time{}, 0, ear.NotYetValid},
	} {
		cfg := readerConfig(p.key)
		cfg.AllowSkew, cfg.Time = tt.skew, func() time.Time { return tt.at }
		r, err := ear.NewReader(cfg)
		check(t, err)
		if _, err := r.Read(token, want()); (tt.reason == "") != (err == nil) || tt.reason != "" && !errors.Is(err, tt.reason) {
			t.Errorf("at %v: %v", tt.at, err)
		}
	}
}

// A reader takes the profiles that it was given, and no other.
func TestReaderProfiles(t *testing.T) {
	for _, profile := range profiles() {
		p := newPair(t, profile, elliptic.P256())
		token, err := p.Issue(result(accepted()))
		check(t, err)
		for _, takes := range profiles() {
			cfg := readerConfig(p.key)
			cfg.Profiles = []ear.Profile{takes}
			r, err := ear.NewReader(cfg)
			check(t, err)
			if _, err := r.Read(token, want()); (err == nil) != (takes == profile) || err != nil && !errors.Is(err, ear.OtherProfile) {
				t.Errorf("%s by a reader of %s: %v", profile, takes, err)
			}
		}
	}
}

// The algorithm is that of the key, and the key one that the reader has.
func TestAlgorithmConfusion(t *testing.T) {
	p := newPair(t, ear.Draft03, elliptic.P256())
	claims, spki := p.full(), must(p.key.PublicKey.Bytes())
	kid := must(ear.KeyID(&p.key.PublicKey))
	raw := base64.RawURLEncoding
	header := func(alg string) string {
		return raw.EncodeToString(fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":"eat+jwt"}`, alg, kid)) + "." + raw.EncodeToString([]byte(claims))
	}
	mac := hmac.New(sha256.New, spki)
	mac.Write([]byte(header("HS256")))
	with := func(alg jose.SignatureAlgorithm, key crypto.PrivateKey) []byte {
		opts := (&jose.SignerOptions{}).WithType("eat+jwt").WithHeader("kid", kid)
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
		check(t, err)
		signed, err := s.Sign([]byte(claims))
		check(t, err)
		return []byte(must(signed.CompactSerialize()))
	}
	if _, err := p.Read(with(jose.ES256, p.key), want()); err != nil {
		t.Fatalf("go-jose's: %v", err)
	}
	for name, tt := range map[string]struct {
		token  []byte
		reason ear.Reason
	}{
		"none":              {[]byte(header("none") + "."), ear.Malformed},
		"HS256":             {[]byte(header("HS256") + "." + raw.EncodeToString(mac.Sum(nil))), ear.Malformed},
		"ES384":             {with(jose.ES384, newKey(t, elliptic.P384())), ear.Malformed},
		"ES512":             {with(jose.ES512, newKey(t, elliptic.P521())), ear.Malformed},
		"ES256 by another":  {with(jose.ES256, newKey(t, elliptic.P256())), ear.BadSignature},
		"an unknown key":    {must(jws.SignKeyed(newKey(t, elliptic.P256()), ear.Type, []byte(claims))), ear.UnknownKey},
		"of another type":   {must(jws.SignKeyed(p.key, "JWT", []byte(claims))), ear.Malformed},
		"a receipt's type":  {must(jws.SignKeyed(p.key, "teebroker-receipt+jws", []byte(claims))), ear.Malformed},
		"too long":          {bytes.Repeat([]byte("A"), 1<<20), ear.Malformed},
		"nothing":           {nil, ear.Malformed},
		"no JSON":           {p.forge("no JSON"), ear.Malformed},
		"JSON of no object": {p.forge("[]"), ear.Malformed},
	} {
		if e, err := p.Read(tt.token, want()); !errors.Is(err, tt.reason) || e != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// No bit of a token can be changed. The last byte of a base64 part has bits that are
// not of the bytes; their canonical form is asked for.
func TestFlippedBits(t *testing.T) {
	p := newPair(t, ear.KBS, elliptic.P256())
	token, err := p.Issue(result(appraise([]*evidence.Verified{verified("snp-report")})))
	check(t, err)
	for bit := range 8 * len(token) {
		bad := bytes.Clone(token)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := p.Read(bad, want()); err == nil {
			t.Errorf("bit %d flipped: accepted", bit)
		}
	}
	for n := range len(token) {
		if _, err := p.Read(token[:n], want()); err == nil {
			t.Errorf("cut to %d: accepted", n)
		}
	}
}

// Errors say what is wrong, and nothing of what the token says.
func TestErrorText(t *testing.T) {
	p := newPair(t, ear.Draft03, elliptic.P256())
	_, err := p.Read(p.forge(strings.Replace(p.full(), `"iat":1782907200`, `"iat":"secret"`, 1)), want())
	if err == nil || !strings.HasPrefix(err.Error(), "ear: malformed: iat: ") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	if text := (&ear.Error{Reason: ear.Expired, Member: "exp"}).Error(); text != "ear: expired: exp" {
		t.Error(text)
	}
}

// The reader keeps nothing of its Config: neither keys nor profiles.
func TestReaderCopies(t *testing.T) {
	k := newKey(t, elliptic.P256())
	cfg := readerConfig(k)
	pub := k.PublicKey
	cfg.Keys = []*ecdsa.PublicKey{&pub}
	r, err := ear.NewReader(cfg)
	check(t, err)
	i, err := ear.NewIssuer(issuerConfig(k, ear.Draft03))
	check(t, err)
	token, err := i.Issue(result(accepted()))
	check(t, err)
	pub = newKey(t, elliptic.P256()).PublicKey
	cfg.Profiles[0], cfg.Profiles[1] = "", ""
	if _, err := r.Read(token, want()); err != nil {
		t.Error(err)
	}
}
