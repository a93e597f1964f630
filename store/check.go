package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// What an authorization may have at most. Every request for a release looks
// through the open authorizations of its instance.
const (
	MaxPurposes = 256
	MaxChips    = 4096
	MaxUses     = 1 << 20
	MaxOpen     = 256 // open authorizations of one instance
)

// CheckInstance returns an error that wraps [Invalid] unless the two can name
// an instance.
func CheckInstance(tenant string, id [16]byte) error {
	switch {
	case !names.Tenant(tenant):
		return fmt.Errorf("%w: %.80q is not a tenant", Invalid, tenant)
	case id == [16]byte{}:
		return fmt.Errorf("%w: no instance id", Invalid)
	}
	return nil
}

// CheckPurpose returns an error that wraps [Invalid] unless s can be registered.
func CheckPurpose(s string) error {
	if !names.Registrable(s) {
		return fmt.Errorf("%w: %.80q is not a purpose", Invalid, s)
	}
	return nil
}

// CheckSecret returns an error that wraps [Invalid] unless value can be stored.
func CheckSecret(value []byte) error {
	if len(value) == 0 || len(value) > MaxSecret {
		return fmt.Errorf("%w: a secret of %d bytes, want 1 to %d", Invalid, len(value), MaxSecret)
	}
	return nil
}

// CheckBlob returns an error that wraps [Invalid] unless digest is that of
// wrapped, if there is a copy.
func CheckBlob(digest [32]byte, wrapped []byte) error {
	if digest == [32]byte{} {
		return fmt.Errorf("%w: no digest of a wrapped blob", Invalid)
	}
	if wrapped == nil {
		return nil
	}
	w, err := keywrap.ParseWrapped(wrapped)
	switch {
	case err != nil:
		return fmt.Errorf("%w: wrapped blob: %w", Invalid, err)
	case w.Digest() != digest:
		return fmt.Errorf("%w: the digest is not that of the wrapped blob", Invalid)
	}
	return nil
}

// CheckAuthorization returns a with its defaults filled in and without shared
// memory, or an error that wraps [Invalid] if it can't be meant. An empty list
// where nil has a meaning would authorize nothing.
func CheckAuthorization(a teebroker.Authorization) (teebroker.Authorization, error) {
	if err := CheckInstance(a.Tenant, a.Instance); err != nil {
		return a, err
	}
	if err := checkAuthorization(a); err != nil {
		return a, fmt.Errorf("%w: %w", Invalid, err)
	}
	a.Uses = max(a.Uses, 1)
	if a.Profiles == nil {
		a.Profiles = []nonce.Profile{nonce.ProfileV1}
	}
	return CloneAuthorization(a), nil
}

func checkAuthorization(a teebroker.Authorization) error {
	switch {
	case len(a.Purposes) == 0 || len(a.Purposes) > MaxPurposes:
		return fmt.Errorf("an authorization of %d purposes, want 1 to %d", len(a.Purposes), MaxPurposes)
	case a.Uses < 0 || a.Uses > MaxUses:
		return fmt.Errorf("an authorization of %d uses, want 1 to %d", a.Uses, MaxUses)
	case a.NotAfter.IsZero() || !a.NotBefore.Before(a.NotAfter):
		return errors.New("an authorization without a window: not_after is required, and after not_before")
	case !storable(a.NotAfter) || !a.NotBefore.IsZero() && !storable(a.NotBefore):
		return errors.New("an authorization with a window before 1970 or after 2200")
	case a.Chips != nil && len(a.Chips) == 0 || len(a.Chips) > MaxChips:
		return fmt.Errorf("an authorization with a list of %d chips, want 1 to %d", len(a.Chips), MaxChips)
	}
	for _, p := range a.Purposes {
		if !names.Registrable(p) {
			return fmt.Errorf("%.80q is not a purpose", p)
		}
	}
	if a.Profiles != nil {
		if err := checkReleasing(a.Profiles); err != nil {
			return fmt.Errorf("profiles: %w", err)
		}
	}
	for _, c := range a.Chips {
		if len(c) > 64 || zero(c) {
			return errors.New("a masked or overlong chip in a list")
		}
	}
	return nil
}

// storable reports whether t can be counted in nanoseconds since 1970, with room
// for what is added to it.
func storable(t time.Time) bool {
	return t.Unix() >= 0 && t.Unix() < math.MaxInt64/int64(time.Second)-int64(62*365*24*3600) // the year 2200
}

// CloneAuthorization returns a copy of a that shares no memory with it.
func CloneAuthorization(a teebroker.Authorization) teebroker.Authorization {
	a.Purposes = append([]string(nil), a.Purposes...)
	a.Profiles = append([]nonce.Profile(nil), a.Profiles...)
	if a.Chips != nil {
		chips := make([][]byte, len(a.Chips))
		for i, c := range a.Chips {
			chips[i] = bytes.Clone(c)
		}
		a.Chips = chips
	}
	return a
}
