package spiffe

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/jws"
)

const myID = "spiffe://example.org/acme/00000000-0000-0000-0000-000000000001"

// An accepted guest gets a certificate over the key that it made, once for each use,
// and the verifier of go-spiffe takes it for what it is.
func TestX509(t *testing.T) {
	w := newWorld(t, nil)
	key := newKey(elliptic.P256())
	presented := must(NewRequest(key, me(PurposeX509)))
	if _, err := w.ask(PurposeX509, presented); !errors.Is(err, teebroker.NotAuthorized) {
		t.Fatalf("not authorized: %v", err)
	}
	w.authorize(PurposeX509)
	secret, err := w.ask(PurposeX509, presented)
	w.check(err)
	svid, err := ParseX509(secret, key, me(PurposeX509), w.bundle())
	w.check(err)
	id, chains, err := x509svid.Verify(svid.Certificates, w.bundle())
	if err != nil || id.String() != myID || len(chains) != 1 {
		t.Errorf("%v, %v", id, err)
	}
	leaf := svid.Certificates[0]
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if len(svid.Certificates) != 1 || leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.URIs) != 1 || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) != 0 ||
		life > time.Hour+backdated || life < time.Hour-time.Minute {
		t.Errorf("%v, good for %v", leaf, life)
	}
	if _, err := w.ask(PurposeX509, presented); !errors.Is(err, teebroker.OtherKey) {
		t.Errorf("a second time: %v", err)
	}
	w.authorize(PurposeX509)
	next := must(w.ask(PurposeX509, presented)) // the next use
	if again := must(x509.ParseCertificate(next)); again.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("the same serial number")
	}

	// Not for others.
	if _, err := ParseX509(secret, newKey(elliptic.P256()), me(PurposeX509), w.bundle()); !errors.Is(err, ErrSVID) {
		t.Errorf("another key: %v", err)
	}
	if _, err := ParseX509(secret, key, me(PurposeJWT), nil); !errors.Is(err, ErrSVID) {
		t.Errorf("as a token: %v", err)
	}
	other := me(PurposeX509)
	other.Instance[0]++
	if _, err := ParseX509(secret, key, other, w.bundle()); !errors.Is(err, ErrSVID) {
		t.Errorf("another guest: %v", err)
	}
	stranger := newWorld(t, nil)
	if _, err := ParseX509(secret, key, me(PurposeX509), stranger.bundle()); !errors.Is(err, ErrSVID) {
		t.Errorf("another authority: %v", err)
	}
	if _, _, err := x509svid.Verify(svid.Certificates, w.bundle(), x509svid.WithTime(leaf.NotAfter.Add(time.Second))); err == nil {
		t.Error("good when it has expired")
	}
}

// A token is for its audience, names the guest's key, and is verified by go-spiffe.
func TestJWT(t *testing.T) {
	w := newWorld(t, nil)
	w.authorize(PurposeJWT)
	key := newKey(elliptic.P384())
	presented := must(NewRequest(key, me(PurposeJWT)))
	secret, err := w.ask(PurposeJWT, presented)
	w.check(err)
	svid, err := jwtsvid.ParseAndValidate(string(secret), w.bundle(), []string{"db.example.org"})
	w.check(err)
	if svid.ID.String() != myID || len(svid.Audience) != 1 || time.Until(svid.Expiry) > 5*time.Minute || time.Until(svid.Expiry) < 4*time.Minute {
		t.Errorf("%+v", svid)
	}
	sum, err := jws.Thumbprint(&key.PublicKey)
	w.check(err)
	cnf, ok := svid.Claims["cnf"].(map[string]any)
	if !ok || cnf["jkt"] != base64.RawURLEncoding.EncodeToString(sum[:]) {
		t.Errorf("cnf %v", svid.Claims["cnf"])
	}
	if _, err := jwtsvid.ParseAndValidate(string(secret), w.bundle(), []string{"other"}); err == nil {
		t.Error("for another audience")
	}
	if _, err := ParseJWT(secret, me(PurposeJWT), w.bundle()); err != nil {
		t.Error(err)
	}
	if _, err := ParseJWT(secret, me(PurposeJWT), nil); err != nil {
		t.Error(err)
	}
	other := me(PurposeJWT)
	other.Instance[0]++
	if _, err := ParseJWT(secret, other, w.bundle()); !errors.Is(err, ErrSVID) {
		t.Errorf("another guest: %v", err)
	}
	if _, err := ParseJWT(secret, me(PurposeJWT), newWorld(t, nil).bundle()); !errors.Is(err, ErrSVID) {
		t.Errorf("another authority: %v", err)
	}
	if _, err := ParseJWT(secret, me(PurposeX509), nil); !errors.Is(err, ErrSVID) {
		t.Errorf("as a certificate: %v", err)
	}
}

// An expired token is refused by go-spiffe: it is made by an authority whose clock is behind.
func TestExpired(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) {
		c.Time = func() time.Time { return time.Now().Add(-30 * time.Minute) }
	})
	w.authorize(PurposeJWT)
	secret := must(w.ask(PurposeJWT, must(NewRequest(newKey(elliptic.P256()), me(PurposeJWT)))))
	if _, err := ParseJWT(secret, me(PurposeJWT), w.bundle()); !errors.Is(err, ErrSVID) {
		t.Error(err)
	}
}

// No identity outlives the evidence or the authority.
func TestUntil(t *testing.T) {
	key := newKey(elliptic.P256())
	presented := must(NewRequest(key, me(PurposeX509)))
	end := time.Now().Add(10 * time.Minute).Truncate(time.Second)
	for name, edit := range map[string]func(*world, *Config){
		"evidence": func(w *world, c *Config) { w.evidence = end },
		"authority": func(w *world, c *Config) {
			k := newKey(elliptic.P384())
			c.Keys = []Keys{{k, must(NewCertificate(domain, k, time.Now().Add(-time.Hour), end)), newKey(elliptic.P256())}}
		},
	} {
		w := newWorld(t, edit)
		leaf := must(x509.ParseCertificate(must(w.credential(presented, me(PurposeX509)))))
		if !leaf.NotAfter.Equal(end) {
			t.Errorf("%s until %v, certificate until %v", name, end, leaf.NotAfter)
		}
	}
	w := newWorld(t, func(w *world, c *Config) { c.Time = func() time.Time { return time.Now().AddDate(2, 0, 0) } })
	w.evidence = time.Now().AddDate(3, 0, 0)
	w.authorize(PurposeX509)
	if _, err := w.credential(presented, me(PurposeX509)); err == nil {
		t.Error("an authority that has ended signs")
	}
	w.authorize(PurposeX509)
	if _, err := w.ask(PurposeX509, presented); !errors.Is(err, teebroker.Unavailable) {
		t.Errorf("an authority that has ended: %v", err)
	}
}

// What is presented is for this guest and purpose, and signed by the key in it.
func TestParseRequest(t *testing.T) {
	w := newWorld(t, nil)
	key := newKey(elliptic.P256())
	good := must(NewRequest(key, me(PurposeX509)))
	if _, err := w.credential(good, me(PurposeX509)); err != nil {
		t.Fatal(err)
	}
	var parts map[string]string
	w.check(json.Unmarshal(good, &parts))
	with := func(name, value string) []byte {
		m := map[string]string{"protected": parts["protected"], "enc": parts["enc"], "ciphertext": parts["ciphertext"]}
		m[name] = base64.RawURLEncoding.EncodeToString([]byte(value))
		return must(json.Marshal(m))
	}
	header := string(must(base64.RawURLEncoding.DecodeString(parts["protected"])))
	signed := func(edit func(*Request)) []byte {
		r := me(PurposeX509)
		edit(&r)
		return must(NewRequest(key, r))
	}
	p521 := must(x509.MarshalPKIXPublicKey(&newKey(elliptic.P521()).PublicKey))
	another := must(x509.MarshalPKIXPublicKey(&newKey(elliptic.P256()).PublicKey))
	for name, presented := range map[string][]byte{
		"another tenant":    signed(func(r *Request) { r.Tenant = "other" }),
		"another instance":  signed(func(r *Request) { r.Instance[0]++ }),
		"another purpose":   must(NewRequest(key, me(PurposeJWT))),
		"another key":       with("enc", string(another)),
		"a key on P-521":    with("enc", string(p521)),
		"no key":            with("enc", "x"),
		"another signature": with("ciphertext", "x"),
		"no header":         with("protected", "x"),
		"another version":   with("protected", strings.Replace(header, `"v":1`, `"v":2`, 1)),
		"by the owner":      with("protected", strings.Replace(header, `guest`, `owner`, 1)),
		"one more member":   with("protected", `{"x":1,`+header[1:]),
		"a header edited":   with("protected", header+" "),
		"much":              with("protected", header+strings.Repeat(" ", maxPart)),
	} {
		_, err := w.credential(presented, me(PurposeX509))
		if !errors.Is(err, teebroker.MalformedRequest) || !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.authorize(PurposeX509, PurposeJWT)
	if _, err := w.ask(PurposeX509, nil); !errors.Is(err, teebroker.MalformedRequest) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := w.ask(PurposeJWT, good); !errors.Is(err, teebroker.MalformedRequest) {
		t.Errorf("of another purpose: %v", err)
	}
	for name, r := range map[string]Request{
		"tenant": {Tenant: "A", Instance: [16]byte{1}, Purpose: PurposeX509}, "instance": {Tenant: "acme", Purpose: PurposeX509},
		"purpose":          {Tenant: "acme", Instance: [16]byte{1}, Purpose: "disk"},
		"no audience":      {Tenant: "acme", Instance: [16]byte{1}, Purpose: PurposeJWT},
		"an audience":      {Tenant: "acme", Instance: [16]byte{1}, Purpose: PurposeX509, Audience: []string{"x"}},
		"many audiences":   {Tenant: "acme", Instance: [16]byte{1}, Purpose: PurposeJWT, Audience: make([]string, 9)},
		"an empty one":     {Tenant: "acme", Instance: [16]byte{1}, Purpose: PurposeJWT, Audience: []string{""}},
		"one that is long": {Tenant: "acme", Instance: [16]byte{1}, Purpose: PurposeJWT, Audience: []string{strings.Repeat("a", 257)}},
	} {
		if _, err := NewRequest(key, r); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewRequest(newKey(elliptic.P521()), me(PurposeX509)); !errors.Is(err, ErrRequest) {
		t.Error("a key on P-521")
	}
}

func TestNewRefuses(t *testing.T) {
	k := newKeys(domain)
	leafKey := newKey(elliptic.P384())
	other := newKeys("example.com")
	for name, edit := range map[string]func(*Config){
		"no domain":        func(c *Config) { c.TrustDomain = "" },
		"a path":           func(c *Config) { c.TrustDomain = "example.org/x" },
		"a URI":            func(c *Config) { c.TrustDomain = "spiffe://example.org" },
		"capitals":         func(c *Config) { c.TrustDomain = "Example.org" },
		"no keys":          func(c *Config) { c.Keys = nil },
		"no key":           func(c *Config) { c.Keys = []Keys{{nil, k.Certificate, k.JWT}} },
		"no key of tokens": func(c *Config) { c.Keys = []Keys{{k.X509, k.Certificate, nil}} },
		"one for both":     func(c *Config) { c.Keys = []Keys{{k.X509, k.Certificate, k.X509}} },
		"another's":        func(c *Config) { c.Keys = []Keys{{leafKey, k.Certificate, k.JWT}} },
		"no certificate":   func(c *Config) { c.Keys = []Keys{{k.X509, []byte("x"), k.JWT}} },
		"another domain":   func(c *Config) { c.Keys = []Keys{other} },
		"a later one":      func(c *Config) { c.Keys = []Keys{k, other} },
		"a long life":      func(c *Config) { c.X509Life = 25 * time.Hour },
		"a long token":     func(c *Config) { c.JWTLife = 2 * time.Hour },
		"a negative life":  func(c *Config) { c.JWTLife = -1 },
	} {
		c := Config{TrustDomain: domain, Keys: []Keys{k}}
		edit(&c)
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewCertificate(domain, newKey(elliptic.P256()), time.Now(), time.Now()); !errors.Is(err, ErrConfig) {
		t.Error("an authority on P-256")
	}
}

// The bundle has what signed before, and is for everybody.
func TestBundle(t *testing.T) {
	old := newKeys(domain)
	before := newWorld(t, func(_ *world, c *Config) { c.Keys = []Keys{old} })
	key := newKey(elliptic.P256())
	secret := must(before.credential(must(NewRequest(key, me(PurposeX509))), me(PurposeX509)))
	token := must(before.credential(must(NewRequest(key, me(PurposeJWT))), me(PurposeJWT)))
	w := newWorld(t, func(_ *world, c *Config) { c.Keys = append(c.Keys, old) })
	s := httptest.NewServer(w.authority)
	defer s.Close()
	resp, err := http.Get(s.URL)
	w.check(err)
	defer resp.Body.Close()
	b, err := spiffebundle.Read(spiffeid.RequireTrustDomainFromString(domain), resp.Body)
	w.check(err)
	if resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "max-age=600" {
		t.Error(resp.Header)
	}
	if hint, ok := b.RefreshHint(); !ok || hint != 10*time.Minute || len(b.X509Authorities()) != 2 || len(b.JWTAuthorities()) != 2 {
		t.Errorf("%v, %d and %d", hint, len(b.X509Authorities()), len(b.JWTAuthorities()))
	}
	if _, err := ParseX509(secret, key, me(PurposeX509), b); err != nil {
		t.Errorf("signed before: %v", err)
	}
	if _, err := ParseJWT(token, me(PurposeJWT), b); err != nil {
		t.Errorf("signed before: %v", err)
	}
	posted, err := http.Post(s.URL, "application/json", bytes.NewReader(nil))
	w.check(err)
	defer posted.Body.Close()
	if posted.StatusCode != http.StatusMethodNotAllowed {
		t.Error(posted.Status)
	}
}

func FuzzParseRequest(f *testing.F) {
	good := must(NewRequest(newKey(elliptic.P256()), me(PurposeJWT)))
	var parts map[string]string
	if err := json.Unmarshal(good, &parts); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(parts["protected"]), []byte(parts["enc"]), []byte(parts["ciphertext"]))
	f.Add([]byte("e30"), []byte(parts["enc"]), []byte("AA"))
	f.Fuzz(func(t *testing.T, protected, enc, ciphertext []byte) {
		r, key, err := parseRequest(wrapped(protected, enc, ciphertext))
		if (err == nil) != (key != nil) || err == nil && r.check() != nil {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func BenchmarkCredential(b *testing.B) {
	for _, purpose := range []string{PurposeX509, PurposeJWT} {
		w := newWorld(b, nil)
		presented := must(NewRequest(newKey(elliptic.P256()), me(purpose)))
		b.Run(purpose[len("spiffe/"):], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.credential(presented, me(purpose)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
