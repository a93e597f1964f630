package keyfile

import (
	"crypto/hpke"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// request is one request key. One without a seed opens nothing any more; its ID
// stays.
type request struct {
	ID        string            `json:"kid"`
	Suite     keywrap.Suite     `json:"suite"` // keywrap.MLKEM768X25519
	Seed      strictjson.Base64 `json:"seed,omitempty"`
	NotBefore int64             `json:"not_before"` // seconds since 1970
	NotAfter  int64             `json:"not_after,omitzero"`
}

// requestGrace is how long a seed stays in the file at least after its key was
// replaced. The broker opens with it for as long as it said, which is less.
const requestGrace = 2 * time.Hour

// AddRequest makes a request key and puts it before all others: guests seal to it
// from notBefore on, and to none of the others, which open for about an hour more.
// Seeds of keys that are over for two hours are forgotten.
func (f *File) AddRequest(kid string, notBefore time.Time) error {
	if f.request(kid) != nil {
		return fmt.Errorf("%w: there is a request key %q", ErrFile, kid)
	}
	k, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return fmt.Errorf("keyfile: %w", err)
	}
	seed, err := k.Bytes()
	if err != nil {
		return fmt.Errorf("keyfile: %w", err)
	}
	added := request{ID: kid, Suite: keywrap.MLKEM768X25519, Seed: seed, NotBefore: notBefore.Unix()}
	rs := slices.Clone(f.requests)
	for i := range rs {
		if r := &rs[i]; r.NotAfter == 0 || r.NotAfter > added.NotBefore {
			r.NotAfter = max(added.NotBefore, r.NotBefore+1)
		}
	}
	rs = slices.Insert(rs, 0, added)
	if err := checkRequests(rs); err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	for i := range rs {
		if r := &rs[i]; r.NotAfter != 0 && notBefore.Sub(time.Unix(r.NotAfter, 0)) > requestGrace {
			clear(r.Seed)
			r.Seed = nil
		}
	}
	f.requests = rs
	return nil
}

// RetireRequest ends a request key: it opens nothing any more, and its seed is
// forgotten.
func (f *File) RetireRequest(kid string) error {
	r := f.request(kid)
	if r == nil {
		return fmt.Errorf("%w: there is no request key %.64q", ErrFile, kid)
	}
	clear(r.Seed)
	r.Seed = nil
	return nil
}

// RequestKeys returns the request keys that open, for [teebroker.Config].
func (f *File) RequestKeys() ([]teebroker.RequestKey, error) {
	var ks []teebroker.RequestKey
	for _, r := range f.requests {
		if r.Seed == nil {
			continue
		}
		o, err := r.open()
		if err != nil {
			return nil, fmt.Errorf("keyfile: request key %q: %w", r.ID, err)
		}
		k := teebroker.RequestKey{ID: r.ID, Opener: o, NotBefore: time.Unix(r.NotBefore, 0)}
		if r.NotAfter != 0 {
			k.NotAfter = time.Unix(r.NotAfter, 0)
		}
		ks = append(ks, k)
	}
	return ks, nil
}

// Requests returns all request keys, the first the one to seal to.
func (f *File) Requests() []Entry {
	es := make([]Entry, 0, len(f.requests))
	for _, r := range f.requests {
		e := Entry{ID: r.ID, Suite: r.Suite, NotBefore: time.Unix(r.NotBefore, 0), Retired: r.Seed == nil}
		if r.NotAfter != 0 {
			e.NotAfter = time.Unix(r.NotAfter, 0)
		}
		es = append(es, e)
	}
	return es
}

func (f *File) request(kid string) *request {
	i := slices.IndexFunc(f.requests, func(r request) bool { return r.ID == kid })
	if i < 0 {
		return nil
	}
	return &f.requests[i]
}

func (r request) open() (keywrap.Opener, error) {
	k, err := hpke.MLKEM768X25519().NewPrivateKey(r.Seed)
	if err != nil {
		return nil, errors.New("not a seed")
	}
	return keywrap.FromHPKE(k)
}

// checkRequests returns an error unless every one is whole.
func checkRequests(rs []request) error {
	if len(rs) > maxKeys {
		return errors.New("too many request keys")
	}
	ids := map[string]bool{}
	for i, r := range rs {
		var err error
		switch {
		case !names.KeyID(r.ID) || ids[r.ID]:
			err = errors.New("not a key id, or one that is there twice")
		case r.Suite != keywrap.MLKEM768X25519:
			err = errors.New("not the suite of request keys")
		case r.NotBefore < 0 || r.NotAfter != 0 && r.NotAfter <= r.NotBefore:
			err = errors.New("not a time to seal in")
		case r.Seed != nil:
			_, err = r.open()
		}
		if err != nil {
			return fmt.Errorf("request key %d: %w", i, err)
		}
		ids[r.ID] = true
	}
	return nil
}
