package memory

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
)

type redeemed struct {
	request [32]byte
	at      time.Time
}

// Redeem implements [nonce.Store].
func (s *Store) Redeem(ctx context.Context, n nonce.Nonce, request [32]byte, expiry time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.now()
	if err != nil {
		return err
	}
	r, ok := s.nonces[n]
	switch {
	case ok && r.request == request && now.Sub(r.at) < inProgress:
		return nonce.InProgress
	case ok || !now.Before(expiry):
		return nonce.Spent
	}
	s.nonces[n] = redeemed{request, now}
	s.later(expiry, func() { delete(s.nonces, n) })
	return nil
}

type kept struct {
	value  []byte
	expiry time.Time
}

// Put implements [teebroker.Kept]. An id is used once.
func (s *Store) Put(ctx context.Context, key string, value []byte, expiry time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.now(); err != nil {
		return err
	}
	if _, ok := s.kept[key]; ok {
		return errors.New("memory: kept before")
	}
	s.kept[key] = kept{bytes.Clone(value), expiry}
	s.later(expiry, func() { delete(s.kept, key) })
	return nil
}

// Get implements [teebroker.Kept].
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.now()
	if err != nil {
		return nil, err
	}
	k, ok := s.kept[key]
	if !ok || !now.Before(k.expiry) {
		return nil, teebroker.Gone
	}
	return bytes.Clone(k.value), nil
}
