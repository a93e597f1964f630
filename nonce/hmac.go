package nonce

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Config configures an [HMAC].
type Config struct {
	// Key is 32 random bytes of no other use, the same in every replica. Whoever
	// has it can make challenges in advance and for any expiry. Zero is an error.
	Key [32]byte

	// Generation is that of the database; another one voids all nonces.
	Generation uint64

	// Life is how long a nonce lives at most: whole minutes, 2 to 60, of which
	// the last one may be cut short. If zero, 5 minutes.
	Life time.Duration

	Time func() time.Time // if nil, time.Now
}

// HMAC is an [Issuer] whose nonces are r(12) ‖ u32 expiry minute ‖ the first 16 of
// HMAC-SHA-256(Key, LP(profile) ‖ u64 Generation ‖ u32 expiry minute ‖ r), as
// section 2 of the protocol says. r is random, a minute is Unix time / 60, and
// integers are big-endian. The zero HMAC issues nothing and knows no nonce. An
// HMAC is safe for concurrent use if its clock is.
type HMAC struct {
	key        [32]byte
	generation uint64
	minutes    int64
	now        func() time.Time
}

// NewHMAC returns an HMAC, or an error that names the field of cfg at fault.
func NewHMAC(cfg Config) (*HMAC, error) {
	h := &HMAC{cfg.Key, cfg.Generation, 5, cfg.Time}
	if cfg.Key == [32]byte{} {
		return nil, errors.New("nonce: Config.Key is zero")
	}
	if cfg.Life != 0 {
		if cfg.Life%time.Minute != 0 || cfg.Life < 2*time.Minute || cfg.Life > time.Hour {
			return nil, fmt.Errorf("nonce: Config.Life is %v, want 2 to 60 whole minutes", cfg.Life)
		}
		h.minutes = int64(cfg.Life / time.Minute)
	}
	if h.now == nil {
		h.now = time.Now
	}
	return h, nil
}

// errClock is the error of New at a time that 32 bits of minutes can't count.
var errClock = errors.New("nonce: clock out of range")

// New implements [Issuer]. It fails if the clock is before 1970 or after 10135.
func (h *HMAC) New(p Profile) (Nonce, time.Time, error) {
	if h.now == nil {
		return Nonce{}, time.Time{}, errors.New("nonce: HMAC was not made by NewHMAC")
	}
	now := h.now().Unix()
	minute := now/60 + h.minutes
	if now < 0 || minute > math.MaxUint32 {
		return Nonce{}, time.Time{}, errClock
	}
	var n Nonce
	rand.Read(n[:12])
	binary.BigEndian.PutUint32(n[12:16], uint32(minute))
	copy(n[16:], h.sum(p, n))
	return n, expiry(n), nil
}

// Open implements [Issuer].
func (h *HMAC) Open(p Profile, n Nonce) (time.Time, error) {
	// Without a clock h is zero, and so is its key, which everybody knows.
	if h.now == nil || !hmac.Equal(n[16:], h.sum(p, n)) || !h.now().Before(expiry(n)) {
		return time.Time{}, Spent
	}
	return expiry(n), nil
}

// expiry returns the instant at which n ends, whoever made it.
func expiry(n Nonce) time.Time {
	return time.Unix(int64(binary.BigEndian.Uint32(n[12:16]))*60, 0)
}

// sum returns the last 16 bytes of the nonce for p that begins as n.
func (h *HMAC) sum(p Profile, n Nonce) []byte {
	b := appendLP(nil, string(p))
	b = binary.BigEndian.AppendUint64(b, h.generation)
	b = append(b, n[12:16]...)
	b = append(b, n[:12]...)
	m := hmac.New(sha256.New, h.key[:])
	m.Write(b)
	return m.Sum(nil)[:16]
}

// appendLP appends x after its length, 4 bytes big-endian.
func appendLP[T string | []byte](b []byte, x T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
}
