package keywrap_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/keywrap"
)

// For each pair of suites: what is sealed with one opens with its own key only.
func TestOpenRefusesOthers(t *testing.T) {
	others := map[keywrap.Suite]keywrap.Opener{}
	for _, suite := range suites() {
		var err error
		if others[suite], err = keywrap.Generate(suite); err != nil {
			t.Fatal(err)
		}
	}
	for _, suite := range suites() {
		s := seal(t, generate(t, suite).Recipient(), []byte("secret"))
		for other, o := range others {
			if secret, err := o.Open(t.Context(), s, info(suite)); err != keywrap.ErrOpen || secret != nil {
				t.Errorf("%s opened with another key, of %s: %v", suite, other, err)
			}
		}
	}
}

// One private key in two suites: what is sealed with one is not opened as the
// other.
func TestOpenRefusesOtherSuiteOfSameKey(t *testing.T) {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := keywrap.FromECDH(keywrap.P256, k)
	b, err2 := keywrap.FromECDH(keywrap.JWEP256, k)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for _, pair := range [][2]keywrap.Opener{{a, b}, {b, a}} {
		s, err := pair[0].Recipient().Seal([]byte("secret"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pair[0].Open(t.Context(), s, nil); err != nil || string(got) != "secret" {
			t.Errorf("%s: %v", s.Suite(), err)
		}
		if _, err := pair[1].Open(t.Context(), s, nil); err != keywrap.ErrOpen {
			t.Errorf("%s opened as another suite: %v", s.Suite(), err)
		}
	}
}

func TestOpenRefusesOtherInfo(t *testing.T) {
	for _, suite := range suites() {
		o := generate(t, suite)
		s := seal(t, o.Recipient(), []byte("secret"))
		for _, other := range []string{"", "contex", "context ", "Context", "context\x00"} {
			if isJWE(suite) && other == "" {
				continue // the only info that a JWE has
			}
			if _, err := o.Open(t.Context(), s, []byte(other)); err != keywrap.ErrOpen {
				t.Errorf("%s opened with info %q: %v", suite, other, err)
			}
		}
	}
}

func TestOpenAfterCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, suite := range suites() {
		o := generate(t, suite)
		s := seal(t, o.Recipient(), []byte("secret"))
		if _, err := o.Open(ctx, s, info(suite)); !errors.Is(err, keywrap.ErrOpen) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", suite, err)
		}
	}
}

func TestOpenConcurrently(t *testing.T) {
	for _, suite := range suites() {
		o := generate(t, suite)
		s := seal(t, o.Recipient(), []byte("secret"))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if got, err := o.Open(t.Context(), s, info(suite)); err != nil || string(got) != "secret" {
					t.Errorf("%s: %q, %v", suite, got, err)
				}
			})
		}
		wg.Wait()
	}
}

// token is a key that is elsewhere. It counts what it is asked, and answers as
// it is told to.
type token struct {
	ecdh.KeyExchanger
	asked  int
	answer func(z []byte) ([]byte, error)
}

func (k *token) ECDH(pub *ecdh.PublicKey) ([]byte, error) {
	k.asked++
	z, err := k.KeyExchanger.ECDH(pub)
	if err != nil || k.answer == nil {
		return z, err
	}
	return k.answer(z)
}

func newToken(t *testing.T, c ecdh.Curve) *token {
	t.Helper()
	k, err := c.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &token{KeyExchanger: k}
}

func tokenSuites() map[keywrap.Suite]ecdh.Curve {
	return map[keywrap.Suite]ecdh.Curve{
		keywrap.P256: ecdh.P256(), keywrap.P384: ecdh.P384(), keywrap.X25519: ecdh.X25519(),
		keywrap.JWEP256: ecdh.P256(), keywrap.JWEP384: ecdh.P384(), keywrap.JWEP521: ecdh.P521(),
	}
}

func TestToken(t *testing.T) {
	for suite, curve := range tokenSuites() {
		k := newToken(t, curve)
		o, err := keywrap.FromECDH(suite, k)
		if err != nil {
			t.Errorf("%s: %v", suite, err)
			continue
		}
		s := seal(t, o.Recipient(), []byte("secret"))
		if got, err := o.Open(t.Context(), s, info(suite)); err != nil || string(got) != "secret" || k.asked != 1 {
			t.Errorf("%s: %q, %v, asked %d times", suite, got, err, k.asked)
		}
		for name, answer := range map[string]func([]byte) ([]byte, error){
			"error":       func([]byte) ([]byte, error) { return nil, errors.New("no session") },
			"nothing":     func([]byte) ([]byte, error) { return nil, nil },
			"a byte less": func(z []byte) ([]byte, error) { return z[1:], nil },
			"a byte more": func(z []byte) ([]byte, error) { return append([]byte{0}, z...), nil },
			"another":     func(z []byte) ([]byte, error) { z[0] ^= 1; return z, nil },
		} {
			k.answer = answer
			if secret, err := o.Open(t.Context(), s, info(suite)); err != keywrap.ErrOpen || secret != nil {
				t.Errorf("%s: token answers %s: %v", suite, name, err)
			}
		}
	}
}

// A token computes with no point that is not on its curve, or is of low order.
func TestTokenSeesNoBadPoint(t *testing.T) {
	bad := map[keywrap.Suite][][]byte{}
	for suite, curve := range map[keywrap.Suite]ecdh.Curve{keywrap.P256: ecdh.P256(), keywrap.P384: ecdh.P384()} {
		point := newToken(t, curve).PublicKey().Bytes()
		off := bytes.Clone(point)
		off[len(off)-1] ^= 1
		compressed := append([]byte{2}, point[1:1+len(point)/2]...)
		bad[suite] = [][]byte{off, make([]byte, len(point)), {0}, compressed, append([]byte{4}, make([]byte, len(point)-1)...)}
	}
	top := newToken(t, ecdh.X25519()).PublicKey().Bytes()
	top[31] |= 0x80
	bad[keywrap.X25519] = [][]byte{
		make([]byte, 32), append([]byte{1}, make([]byte, 31)...), top,
		append(append([]byte{0xed}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f),
	}
	for suite, points := range bad {
		k := newToken(t, tokenSuites()[suite])
		o, err := keywrap.FromECDH(suite, k)
		if err != nil {
			t.Fatal(err)
		}
		sealed := marshal(t, seal(t, o.Recipient(), []byte("secret")))
		for _, point := range points {
			m := fields(t, sealed)
			m["enc"] = base64url(point)
			refused(t, string(suite), o, join(t, m), info(suite))
		}
		if k.asked != 0 {
			t.Errorf("%s: token asked %d times", suite, k.asked)
		}
	}
	for _, suite := range []keywrap.Suite{keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521} {
		k := newToken(t, tokenSuites()[suite])
		o, err := keywrap.FromECDH(suite, k)
		if err != nil {
			t.Fatal(err)
		}
		sealed := marshal(t, seal(t, o.Recipient(), []byte("secret")))
		for _, edit := range []func(x, y []byte){
			func(x, y []byte) { y[len(y)-1] ^= 1 },
			func(x, y []byte) { clear(x); clear(y) },
			func(x, y []byte) { copy(x, bytes.Repeat([]byte{0xff}, len(x))) },
		} {
			refused(t, string(suite), o, editEPK(t, sealed, edit), nil)
		}
		if k.asked != 0 {
			t.Errorf("%s: token asked %d times", suite, k.asked)
		}
	}
}

// editEPK changes the coordinates in the header of a JWE.
func editEPK(t *testing.T, sealed []byte, edit func(x, y []byte)) []byte {
	t.Helper()
	m := fields(t, sealed)
	var h struct {
		Alg string            `json:"alg"`
		Enc string            `json:"enc"`
		EPK map[string]string `json:"epk"`
	}
	if err := json.Unmarshal(unbase64(t, m["protected"]), &h); err != nil {
		t.Fatal(err)
	}
	x, y := unbase64(t, h.EPK["x"]), unbase64(t, h.EPK["y"])
	edit(x, y)
	h.EPK["x"], h.EPK["y"] = base64url(x), base64url(y)
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	m["protected"] = base64url(b)
	return join(t, m)
}

func TestHybridWithHalfInToken(t *testing.T) {
	pq, err := mlkem.GenerateKey1024()
	if err != nil {
		t.Fatal(err)
	}
	half := newToken(t, ecdh.P384())
	k, err := hpke.NewHybridPrivateKey(pq, half)
	if err != nil {
		t.Fatal(err)
	}
	o, err := keywrap.FromHPKE(k)
	if err != nil {
		t.Fatal(err)
	}
	s := seal(t, o.Recipient(), []byte("secret"))
	if got, err := o.Open(t.Context(), s, []byte("context")); err != nil || string(got) != "secret" || half.asked != 1 {
		t.Errorf("%q, %v, asked %d times", got, err, half.asked)
	}
}

// rsaToken decrypts with a key that is elsewhere.
type rsaToken struct {
	crypto.Decrypter
	asked  int
	opts   crypto.DecrypterOpts
	answer func(cek []byte) ([]byte, error)
}

func (k *rsaToken) Decrypt(r io.Reader, ct []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	k.asked++
	k.opts = opts
	cek, err := k.Decrypter.Decrypt(r, ct, opts)
	if err != nil || k.answer == nil {
		return cek, err
	}
	return k.answer(cek)
}

func TestRSAToken(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	k := &rsaToken{Decrypter: private}
	o, err := keywrap.FromRSA(k)
	if err != nil {
		t.Fatal(err)
	}
	s := seal(t, o.Recipient(), []byte("secret"))
	if got, err := o.Open(t.Context(), s, nil); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	opts, ok := k.opts.(*rsa.OAEPOptions)
	if !ok || opts.Hash != crypto.SHA256 || opts.MGFHash != 0 && opts.MGFHash != crypto.SHA256 || opts.Label != nil {
		t.Errorf("asked to decrypt with %#v", k.opts)
	}
	// What was sealed to a longer key has a longer wrapped key.
	k.asked = 0
	longer := seal(t, generate(t, keywrap.JWERSA).Recipient(), []byte("secret"))
	if _, err := o.Open(t.Context(), longer, nil); err != keywrap.ErrOpen || k.asked != 0 {
		t.Errorf("sealed to another size: %v, asked %d times", err, k.asked)
	}
	for name, answer := range map[string]func([]byte) ([]byte, error){
		"error":       func([]byte) ([]byte, error) { return nil, rsa.ErrDecryption },
		"nothing":     func([]byte) ([]byte, error) { return nil, nil },
		"16 bytes":    func(cek []byte) ([]byte, error) { return cek[:16], nil },
		"a byte more": func(cek []byte) ([]byte, error) { return append(cek, 0), nil },
		"another":     func(cek []byte) ([]byte, error) { cek[0] ^= 1; return cek, nil },
	} {
		k.answer = answer
		if secret, err := o.Open(t.Context(), s, nil); err != keywrap.ErrOpen || secret != nil {
			t.Errorf("token answers %s: %v", name, err)
		}
	}
}

// The content key, which only the token sees, is random each time.
func TestContentKeyIsFresh(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]bool{{}: true}
	o, err := keywrap.FromRSA(&rsaToken{Decrypter: private, answer: func(cek []byte) ([]byte, error) {
		if seen[[32]byte(cek)] {
			t.Error("a content key that is zero or was used before")
		}
		seen[[32]byte(cek)] = true
		return cek, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if _, err := o.Open(t.Context(), seal(t, o.Recipient(), []byte("secret")), nil); err != nil {
			t.Error(err)
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d content keys", len(seen)-1)
	}
}

// otherPublic is a key whose public key is another.
type otherPublic struct {
	*rsa.PrivateKey
	public crypto.PublicKey
}

func (k otherPublic) Public() crypto.PublicKey { return k.public }

// otherCurve is a key that contradicts itself.
type otherCurve struct{ *ecdh.PrivateKey }

func (otherCurve) Curve() ecdh.Curve { return ecdh.P384() }

func TestOpenersRefuse(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256 := newToken(t, ecdh.P256()).KeyExchanger.(*ecdh.PrivateKey)
	p521, err := hpke.DHKEM(ecdh.P521()).GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pure, err := hpke.MLKEM768().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() (keywrap.Opener, error){
		"Generate of no suite":        func() (keywrap.Opener, error) { return keywrap.Generate("") },
		"Generate of unknown suite":   func() (keywrap.Opener, error) { return keywrap.Generate("HPKE-P521") },
		"no HPKE key":                 func() (keywrap.Opener, error) { return keywrap.FromHPKE(nil) },
		"KEM of no suite":             func() (keywrap.Opener, error) { return keywrap.FromHPKE(p521) },
		"ML-KEM alone":                func() (keywrap.Opener, error) { return keywrap.FromHPKE(pure) },
		"no ECDH key":                 func() (keywrap.Opener, error) { return keywrap.FromECDH(keywrap.P256, nil) },
		"P-256 for HPKE-P384":         func() (keywrap.Opener, error) { return keywrap.FromECDH(keywrap.P384, p256) },
		"P-256 for JWE P-384":         func() (keywrap.Opener, error) { return keywrap.FromECDH(keywrap.JWEP384, p256) },
		"P-256 for X25519":            func() (keywrap.Opener, error) { return keywrap.FromECDH(keywrap.X25519, p256) },
		"P-256 for RSA":               func() (keywrap.Opener, error) { return keywrap.FromECDH(keywrap.JWERSA, p256) },
		"P-256 for a hybrid suite":    func() (keywrap.Opener, error) { return keywrap.FromECDH(keywrap.MLKEM768X25519, p256) },
		"P-256 for no suite":          func() (keywrap.Opener, error) { return keywrap.FromECDH("", p256) },
		"P-256 that says it is P-384": func() (keywrap.Opener, error) { return keywrap.FromECDH(keywrap.JWEP384, otherCurve{p256}) },
		"no RSA key":                  func() (keywrap.Opener, error) { return keywrap.FromRSA(nil) },
		"RSA of 1024 bits":            func() (keywrap.Opener, error) { return keywrap.FromRSA(small) },
		"RSA with an EC public key":   func() (keywrap.Opener, error) { return keywrap.FromRSA(otherPublic{small, &ec.PublicKey}) },
		"RSA with no public key":      func() (keywrap.Opener, error) { return keywrap.FromRSA(otherPublic{small, (*rsa.PublicKey)(nil)}) },
		"RSA with no modulus":         func() (keywrap.Opener, error) { return keywrap.FromRSA(otherPublic{small, &rsa.PublicKey{E: 65537}}) },
	} {
		if o, err := open(); !errors.Is(err, keywrap.ErrKey) || o != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
