package keywrap_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
)

// suites are all there are.
func suites() []keywrap.Suite {
	return []keywrap.Suite{
		keywrap.MLKEM768X25519, keywrap.P384, keywrap.P256, keywrap.X25519,
		keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521, keywrap.JWERSA, keywrap.MLKEM1024P384,
	}
}

// only allows one suite, for RSA from 3072 bits.
func only(suite keywrap.Suite) keywrap.Allow {
	return keywrap.Allow{Suites: []keywrap.Suite{suite}, MinRSABits: 3072}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rsaKey is one key for all tests: making one takes long.
var rsaKey = sync.OnceValues(func() (keywrap.Opener, error) { return keywrap.Generate(keywrap.JWERSA) })

func generate(t testing.TB, suite keywrap.Suite) keywrap.Opener {
	t.Helper()
	k, err := rsaKey()
	if suite != keywrap.JWERSA {
		k, err = keywrap.Generate(suite)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type keyVectors struct {
	Keys struct {
		Good []struct {
			Name       string        `json:"name"`
			Suite      keywrap.Suite `json:"suite"`
			Private    string        `json:"private_hex"`
			Public     string        `json:"public_hex"`
			Thumbprint string        `json:"thumbprint_hex"`
		} `json:"good"`
		Refused []struct {
			Name   string        `json:"name"`
			Suite  keywrap.Suite `json:"suite"`
			Public string        `json:"public_hex"`
		} `json:"refused"`
	} `json:"keys"`
}

func TestKeyVectors(t *testing.T) {
	var v keyVectors
	vectors.JSON(t, "wire/vectors/v1_binding.json", &v)
	if len(v.Keys.Good) < 12 || len(v.Keys.Refused) < 133 {
		t.Fatalf("%d good and %d refused keys", len(v.Keys.Good), len(v.Keys.Refused))
	}
	for _, k := range v.Keys.Good {
		public := unhex(t, k.Public)
		r, err := keywrap.Parse(k.Suite, public, only(k.Suite))
		if err != nil {
			t.Errorf("%s: %v", k.Name, err)
			continue
		}
		if got := r.Thumbprint(); hex.EncodeToString(got[:]) != k.Thumbprint {
			t.Errorf("%s: thumbprint %x", k.Name, got)
		}
		if r.Suite() != k.Suite || !bytes.Equal(r.Bytes(), public) {
			t.Errorf("%s: parsed to another key", k.Name)
		}
	}
	for _, k := range v.Keys.Refused {
		// The suite is allowed as it is written: it is the key, or that there is no
		// such suite, that has to be noticed.
		r, err := keywrap.Parse(k.Suite, unhex(t, k.Public), only(k.Suite))
		if !errors.Is(err, keywrap.ErrKey) {
			t.Errorf("%s: %v", k.Name, err)
		}
		if r.Suite() != "" || r.Bytes() != nil || r.Thumbprint() != [32]byte{} {
			t.Errorf("%s: a key beside the error", k.Name)
		}
	}
}

func TestAllow(t *testing.T) {
	for _, suite := range suites() {
		public := generate(t, suite).Recipient().Bytes()
		others := keywrap.Allow{MinRSABits: 2048}
		for _, s := range suites() {
			if s != suite {
				others.Suites = append(others.Suites, s)
			}
		}
		if _, err := keywrap.Parse(suite, public, others); !errors.Is(err, keywrap.ErrKey) {
			t.Errorf("%s: parsed where every other suite is allowed: %v", suite, err)
		}
		if _, err := keywrap.Parse(suite, public, keywrap.Allow{}); !errors.Is(err, keywrap.ErrKey) {
			t.Errorf("%s: parsed where nothing is allowed: %v", suite, err)
		}
		if _, err := keywrap.Parse(suite, public, only(suite)); err != nil {
			t.Errorf("%s: %v", suite, err)
		}
	}
}

func TestMinRSABits(t *testing.T) {
	public := generate(t, keywrap.JWERSA).Recipient().Bytes() // 3072 bits
	for _, tt := range []struct {
		bits int
		ok   bool
	}{{0, false}, {1, false}, {2047, false}, {2048, true}, {3072, true}, {3073, false}, {4096, false}, {-1, false}} {
		_, err := keywrap.Parse(keywrap.JWERSA, public, keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWERSA}, MinRSABits: tt.bits})
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, keywrap.ErrKey) {
			t.Errorf("at least %d bits: %v", tt.bits, err)
		}
	}
}

// parsePoint parses an X25519 point alone and in a hybrid key.
func parsePoint(t *testing.T, u []byte) map[keywrap.Suite]error {
	t.Helper()
	hybrid := generate(t, keywrap.MLKEM768X25519).Recipient().Bytes()
	copy(hybrid[len(hybrid)-32:], u)
	_, alone := keywrap.Parse(keywrap.X25519, u, only(keywrap.X25519))
	_, half := keywrap.Parse(keywrap.MLKEM768X25519, hybrid, only(keywrap.MLKEM768X25519))
	return map[keywrap.Suite]error{keywrap.X25519: alone, keywrap.MLKEM768X25519: half}
}

// The refused points are those that the standard library finds, and no others.
func TestX25519LowOrder(t *testing.T) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := k.PublicKey().Bytes()
	points := [][]byte{good, append([]byte{2}, make([]byte, 31)...), append([]byte{9}, make([]byte, 31)...)}
	for _, h := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"ebffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		points = append(points, unhex(t, h))
	}
	low := 0
	for _, u := range points {
		pub, err := ecdh.X25519().NewPublicKey(u)
		if err != nil {
			t.Fatal(err)
		}
		_, oracle := k.ECDH(pub)
		if oracle != nil {
			low++
		}
		for name, err := range parsePoint(t, u) {
			if (err == nil) != (oracle == nil) {
				t.Errorf("%s: %x: %v, but crypto/ecdh says %v", name, u, err, oracle)
			}
		}
	}
	if low != 5 {
		t.Errorf("%d points of low order", low)
	}
}

// A point that is reduced but looks nearly as if it were not is a key.
func TestX25519NearPrime(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(u []byte)
		ok   bool
	}{
		{"2^255-20 is of low order", func(u []byte) { u[0] = 0xec }, false},
		{"2^255-19", func(u []byte) { u[0] = 0xed }, false},
		{"2^255-1", func(u []byte) {}, false},
		{"2^255-21", func(u []byte) { u[0] = 0xeb }, true},
		{"a byte in the middle", func(u []byte) { u[15] = 0xfe }, true},
		{"the byte above the lowest", func(u []byte) { u[1] = 0xfe }, true},
		{"the byte below the highest", func(u []byte) { u[30] = 0xfe }, true},
		{"highest byte", func(u []byte) { u[31] = 0x7e }, true},
		{"top bit", func(u []byte) { u[31] = 0xfe }, false},
	} {
		u := append(bytes.Repeat([]byte{0xff}, 31), 0x7f)
		tt.set(u)
		for name, err := range parsePoint(t, u) {
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, keywrap.ErrKey) {
				t.Errorf("%s: %s: %v", name, tt.name, err)
			}
		}
	}
}

func TestXY(t *testing.T) {
	size := map[keywrap.Suite]int{keywrap.P256: 32, keywrap.P384: 48, keywrap.JWEP256: 32, keywrap.JWEP384: 48, keywrap.JWEP521: 66}
	for _, suite := range suites() {
		r := generate(t, suite).Recipient()
		x, y, ok := r.XY()
		if ok != (size[suite] != 0) || len(x) != size[suite] || len(y) != size[suite] {
			t.Errorf("%s: %d, %d, %v", suite, len(x), len(y), ok)
		}
		if ok && !bytes.Equal(r.Bytes(), append(append([]byte{4}, x...), y...)) {
			t.Errorf("%s: other coordinates", suite)
		}
	}
}

func TestZeroRecipient(t *testing.T) {
	var r keywrap.Recipient
	if _, err := r.Seal([]byte("secret"), nil); !errors.Is(err, keywrap.ErrKey) {
		t.Errorf("zero Recipient seals: %v", err)
	}
	if _, _, ok := r.XY(); ok || r.Suite() != "" || r.Bytes() != nil || r.JWK() != nil || r.Thumbprint() != [32]byte{} {
		t.Error("zero Recipient is a key")
	}
}

// The same bytes are different keys in different suites.
func TestThumbprintNamesSuite(t *testing.T) {
	public := generate(t, keywrap.P256).Recipient().Bytes()
	a, err1 := keywrap.Parse(keywrap.P256, public, only(keywrap.P256))
	b, err2 := keywrap.Parse(keywrap.JWEP256, public, only(keywrap.JWEP256))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if a.Thumbprint() == b.Thumbprint() {
		t.Error("one thumbprint for two suites")
	}
}

// What the caller does with its slices afterwards changes nothing.
func TestRecipientOwnsItsBytes(t *testing.T) {
	for _, suite := range suites() {
		k := generate(t, suite)
		public := k.Recipient().Bytes()
		r, err := keywrap.Parse(suite, public, only(suite))
		if err != nil {
			t.Fatal(err)
		}
		before := r.Thumbprint()
		clear(public)
		clear(r.Bytes())
		x, y, _ := r.XY()
		clear(x)
		clear(y)
		clear(r.JWK())
		if r.Thumbprint() != before || r.Thumbprint() != k.Recipient().Thumbprint() {
			t.Errorf("%s: changed from outside", suite)
		}
		s, err := r.Seal([]byte("secret"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Open(t.Context(), s, nil); err != nil || string(got) != "secret" {
			t.Errorf("%s: %q, %v", suite, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, suite := range suites() {
		f.Add(string(suite), generate(f, suite).Recipient().Bytes())
	}
	f.Fuzz(func(t *testing.T, suite string, public []byte) {
		r, err := keywrap.Parse(keywrap.Suite(suite), public, keywrap.Allow{Suites: suites(), MinRSABits: 2048})
		if err != nil {
			if !errors.Is(err, keywrap.ErrKey) {
				t.Errorf("not ErrKey: %v", err)
			}
			return
		}
		if !bytes.Equal(r.Bytes(), public) || r.Suite() != keywrap.Suite(suite) {
			t.Error("parsed to another key")
		}
		if _, err := r.Seal([]byte("secret"), nil); err != nil {
			t.Errorf("a key that can't be sealed to: %v", err)
		}
	})
}
