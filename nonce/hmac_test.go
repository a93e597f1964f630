package nonce_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"testing"
	"time"

	"github.com/teebroker/teebroker/nonce"
)

var start = time.Date(2026, 1, 1, 0, 0, 30, 0, time.UTC)

// newHMAC returns an issuer of cfg, with a key and a clock if cfg has none.
func newHMAC(t testing.TB, cfg nonce.Config) *nonce.HMAC {
	t.Helper()
	if cfg.Key == [32]byte{} {
		cfg.Key = [32]byte{1, 2, 3}
	}
	if cfg.Time == nil {
		cfg.Time = func() time.Time { return start }
	}
	h, err := nonce.NewHMAC(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// issue returns a nonce of h for p.
func issue(t testing.TB, h *nonce.HMAC, p nonce.Profile) (nonce.Nonce, time.Time) {
	t.Helper()
	n, expiry, err := h.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return n, expiry
}

// sum is the last half of a nonce as section 2 of the protocol says.
func sum(key [32]byte, p string, generation uint64, n nonce.Nonce) []byte {
	m := hmac.New(sha256.New, key[:])
	binary.Write(m, binary.BigEndian, uint32(len(p)))
	m.Write([]byte(p))
	binary.Write(m, binary.BigEndian, generation)
	m.Write(n[12:16])
	m.Write(n[:12])
	return m.Sum(nil)[:16]
}

// A nonce is r ‖ expiry minute ‖ HMAC, byte by byte.
func TestHMACBytes(t *testing.T) {
	key := [32]byte{31: 9}
	h := newHMAC(t, nonce.Config{Key: key, Generation: 0x0102030405060708})
	n, expiry := issue(t, h, nonce.ProfileSVSM)
	minute := binary.BigEndian.Uint32(n[12:16])
	if want := start.Truncate(time.Minute).Add(5 * time.Minute); !expiry.Equal(want) || int64(minute) != want.Unix()/60 {
		t.Errorf("expiry %v, minute %d, want %v", expiry, minute, want)
	}
	if !bytes.Equal(n[16:], sum(key, "kbs-svsm", 0x0102030405060708, n)) {
		t.Errorf("%x has another HMAC", n)
	}
	if got, err := h.Open(nonce.ProfileSVSM, n); err != nil || !got.Equal(expiry) {
		t.Errorf("Open = %v, %v", got, err)
	}
}

// A nonce opens for the key, generation and profile it was made for, and until
// its expiry. Nothing else opens it, and callers can't tell why.
func TestOpen(t *testing.T) {
	made := newHMAC(t, nonce.Config{})
	n, expiry := issue(t, made, nonce.ProfileV1)
	at := func(now time.Time) nonce.Config { return nonce.Config{Time: func() time.Time { return now }} }
	for _, tt := range []struct {
		name string
		h    *nonce.HMAC
		p    nonce.Profile
		want error
	}{
		{"itself", made, nonce.ProfileV1, nil},
		{"replica", newHMAC(t, nonce.Config{}), nonce.ProfileV1, nil},
		{"replica of another life", newHMAC(t, nonce.Config{Life: time.Hour}), nonce.ProfileV1, nil},
		{"last moment", newHMAC(t, at(expiry.Add(-1))), nonce.ProfileV1, nil},
		{"expired", newHMAC(t, at(expiry)), nonce.ProfileV1, nonce.Spent},
		{"long expired", newHMAC(t, at(expiry.AddDate(9000, 0, 0))), nonce.ProfileV1, nonce.Spent},
		{"another profile", made, nonce.ProfileCoCo, nonce.Spent},
		{"no profile", made, "", nonce.Spent},
		{"another key", newHMAC(t, nonce.Config{Key: [32]byte{1}}), nonce.ProfileV1, nonce.Spent},
		{"another generation", newHMAC(t, nonce.Config{Generation: 1}), nonce.ProfileV1, nonce.Spent},
	} {
		got, err := tt.h.Open(tt.p, n)
		if err != tt.want || (err == nil) != got.Equal(expiry) || (err != nil) != got.IsZero() {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

// A nonce of which any bit is changed does not open.
func TestOpenBits(t *testing.T) {
	h := newHMAC(t, nonce.Config{})
	n, _ := issue(t, h, nonce.ProfileV1)
	for bit := range 8 * len(n) {
		bad := n
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := h.Open(nonce.ProfileV1, bad); err != nonce.Spent {
			t.Errorf("bit %d flipped: %v", bit, err)
		}
	}
}

func TestNewHMAC(t *testing.T) {
	key := [32]byte{1}
	for _, tt := range []struct {
		name string
		cfg  nonce.Config
		life time.Duration // if zero, refused
	}{
		{"zero", nonce.Config{}, 0},
		{"no key", nonce.Config{Life: 5 * time.Minute}, 0},
		{"no life", nonce.Config{Key: key}, 5 * time.Minute},
		{"least", nonce.Config{Key: key, Life: 2 * time.Minute}, 2 * time.Minute},
		{"most", nonce.Config{Key: key, Life: time.Hour}, time.Hour},
		{"negative", nonce.Config{Key: key, Life: -5 * time.Minute}, 0},
		{"least negative", nonce.Config{Key: key, Life: math.MinInt64}, 0},
		{"a minute", nonce.Config{Key: key, Life: time.Minute}, 0},
		{"part of a minute", nonce.Config{Key: key, Life: 150 * time.Second}, 0},
		{"seconds for minutes", nonce.Config{Key: key, Life: 5 * time.Second}, 0},
		{"too long", nonce.Config{Key: key, Life: 61 * time.Minute}, 0},
	} {
		tt.cfg.Time = func() time.Time { return start }
		h, err := nonce.NewHMAC(tt.cfg)
		if (err == nil) != (tt.life != 0) || (err == nil) != (h != nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if h == nil {
			continue
		}
		if _, expiry := issue(t, h, "v1"); !expiry.Equal(start.Truncate(time.Minute).Add(tt.life)) {
			t.Errorf("%s: lives until %v", tt.name, expiry)
		}
	}
}

// The zero HMAC has a key that everybody knows. It knows no nonce.
func TestZeroHMAC(t *testing.T) {
	var h nonce.HMAC
	if n, _, err := h.New("v1"); err == nil || n != (nonce.Nonce{}) {
		t.Errorf("New = %x, %v", n, err)
	}
	n := nonce.Nonce{12: 0xff}
	copy(n[16:], sum([32]byte{}, "v1", 0, n))
	if _, err := h.Open("v1", n); err != nonce.Spent {
		t.Errorf("Open: %v", err)
	}
}

// A clock that minutes of 32 bits can't count gives no nonce, rather than one
// that is expired or far ahead.
func TestClock(t *testing.T) {
	last := time.Unix(math.MaxUint32*60, 0)
	for _, tt := range []struct {
		name string
		now  time.Time
		ok   bool
	}{
		{"epoch", time.Unix(0, 0), true},
		{"before the epoch", time.Unix(-1, 0), false},
		{"no clock", time.Time{}, false},
		{"last minute", last.Add(-5 * time.Minute), true},
		{"a minute later", last.Add(-4 * time.Minute), false},
		{"far ahead", time.Unix(math.MaxInt64/2, 0), false},
		{"end of time", time.Unix(math.MaxInt64, 0), false},
	} {
		h := newHMAC(t, nonce.Config{Time: func() time.Time { return tt.now }})
		n, expiry, err := h.New("v1")
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		got, openErr := h.Open("v1", n)
		if (openErr == nil) != tt.ok || !got.Equal(expiry) {
			t.Errorf("%s: Open = %v, %v, want %v", tt.name, got, openErr, expiry)
		}
	}
}

// Nonces differ, and the 96 bits that are random look it: each is set in about
// half of them. Six standard deviations are 0.5 ± 0.03 for 10000.
func TestRandom(t *testing.T) {
	const count = 10000
	h := newHMAC(t, nonce.Config{})
	seen := map[[12]byte]bool{}
	set := [96]int{}
	for range count {
		n, _ := issue(t, h, nonce.ProfileV1)
		seen[[12]byte(n[:12])] = true
		for i := range set {
			set[i] += bits.OnesCount8(n[i/8] & (1 << (i % 8)))
		}
	}
	if len(seen) != count {
		t.Errorf("%d of %d nonces differ", len(seen), count)
	}
	for i, n := range set {
		if n < 0.47*count || n > 0.53*count {
			t.Errorf("bit %d is set in %d of %d", i, n, count)
		}
	}
}

func TestParse(t *testing.T) {
	for _, size := range []int{0, 1, 16, 31, 33, 64} {
		if n, err := nonce.Parse(make([]byte, size)); err == nil || n != (nonce.Nonce{}) {
			t.Errorf("%d bytes accepted", size)
		}
	}
	b := bytes.Repeat([]byte{7}, 32)
	n, err := nonce.Parse(b)
	clear(b)
	if err != nil || n != nonce.Nonce(bytes.Repeat([]byte{7}, 32)) {
		t.Errorf("%x, %v", n, err)
	}
}

// Errors are spelled as on the wire and match themselves.
func TestErrors(t *testing.T) {
	for text, err := range map[string]error{"nonce-spent": nonce.Spent, "in-progress": nonce.InProgress} {
		if err.Error() != text || !errors.Is(err, err) {
			t.Errorf("%q is spelled %q", text, err)
		}
	}
	if errors.Is(nonce.Spent, nonce.InProgress) {
		t.Error("Spent is InProgress")
	}
}

func BenchmarkNew(b *testing.B) {
	h := newHMAC(b, nonce.Config{})
	b.ReportAllocs()
	for b.Loop() {
		issue(b, h, nonce.ProfileV1)
	}
}

func BenchmarkOpen(b *testing.B) {
	h := newHMAC(b, nonce.Config{})
	n, _ := issue(b, h, nonce.ProfileV1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Open(nonce.ProfileV1, n); err != nil {
			b.Fatal(err)
		}
	}
}
