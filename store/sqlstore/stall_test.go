package sqlstore_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// A transaction that stalls after it looked at the clock finds a nonce spent that
// expired meanwhile.
func TestRedeemStalled(t *testing.T) {
	dsn := schema(t)
	begin := time.Now().Truncate(time.Second)
	expiry := begin.Add(time.Minute)
	stalled, resume := make(chan struct{}), make(chan struct{})
	stall := false
	slow := open(t, postgresConfig(t, dsn, func() time.Time {
		if stall {
			stalled <- struct{}{}
			<-resume
		}
		return expiry.Add(-time.Second)
	}))
	now := begin
	other := open(t, postgresConfig(t, dsn, func() time.Time { return now }))
	n := nonce.Nonce{1}
	must(t, 0, other.Redeem(t.Context(), n, [32]byte{1}, expiry))
	stall = true
	done := make(chan error, 1)
	go func() { done <- slow.Redeem(t.Context(), n, [32]byte{2}, expiry) }()
	<-stalled
	now = expiry.Add(time.Second) // and what is over is forgotten
	must(t, 0, other.Redeem(t.Context(), nonce.Nonce{2}, [32]byte{3}, expiry.Add(time.Minute)))
	close(resume)
	if err := <-done; !errors.Is(err, nonce.Spent) {
		t.Errorf("redeemed again: %v", err)
	}
}

// A call that panics fails by itself: the next one finds neither its locks nor a
// leader that is gone.
func TestPanic(t *testing.T) {
	for name, config := range map[string]func(t *testing.T) sqlstore.Config{
		"sqlite": func(t *testing.T) sqlstore.Config {
			return sqliteConfig(t, filepath.Join(t.TempDir(), "state.db"), nil)
		},
		"postgres": func(t *testing.T) sqlstore.Config { return postgresConfig(t, schema(t), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			bad := false
			cfg.Decoders = policy.Decoders{snp.Format: func(doc []byte, complete bool) (policy.Rule, error) {
				if bad {
					panic("a decoder")
				}
				return snp.DecodeReferenceValues(doc, complete)
			}}
			first := open(t, cfg)
			owned(t, first, tenant, 1)
			must(t, 0, first.Close())
			s := open(t, cfg) // which has parsed nothing
			bad = true
			_, err := s.Register(t.Context(), tenant, [16]byte{7}, store.Registration{
				Policies: []string{"base"}, Suites: []keywrap.Suite{keywrap.X25519}, Launch: store.Launch{Own: true},
			})
			if err == nil || !strings.Contains(err.Error(), "panicked") {
				t.Error(err)
			}
			bad = false
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			must(t, 0, s.PutSecret(ctx, tenant, instance, "disk", []byte("another")))
		})
	}
}

// What an instance's policies are was edited: a change of one of them fails, since
// it could miss an instance, and for others nothing does.
func TestEditedRegistration(t *testing.T) {
	cfg := sqliteConfig(t, filepath.Join(t.TempDir(), "state.db"), nil)
	s := open(t, cfg)
	owned(t, s, tenant, 1)
	owned(t, s, "other", 1)
	_, err := cfg.Read.ExecContext(t.Context(), `UPDATE instances SET registration = CAST(replace(CAST(registration AS TEXT), 'base', 'mine') AS BLOB) WHERE tenant = 'acme'`)
	must(t, 0, err)
	changed := []byte(strings.Replace(document, `"1"`, `"2"`, 1))
	if err := s.PutPolicy(t.Context(), tenant, "base", changed); !errors.Is(err, sqlstore.ErrForged) {
		t.Error(err)
	}
	if err := s.PutSecret(t.Context(), tenant, instance, "disk", []byte("another")); !errors.Is(err, sqlstore.ErrForged) {
		t.Error(err)
	}
	must(t, 0, s.PutPolicy(t.Context(), "other", "base", changed))
}
