package sqlstore_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

const document = `{"policy": "teebroker/1", "name": "n", "version": "1", "scope": "global", "require": {"snp-report": [{
"measurements": ["000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001"],
"vmpls": [0], "lines": ["Milan"], "keys": ["VCEK"], "chips": "*", "host_data": "*",
"id_keys": "*", "author_keys": "*", "family_ids": "*", "image_ids": "*", "allow_smt": true,
"v2_floors": [{"line": "Milan", "reported": "*", "committed": "*", "launch": "*"}]}]}}`

const tenant = "acme"

var instance = [16]byte{1}

// owned registers an instance with a secret, and authorizes uses guest keys.
func owned(t testing.TB, s *sqlstore.Store, tenant string, uses int) teebroker.Authorization {
	t.Helper()
	if err := s.PutPolicy(t.Context(), tenant, "base", []byte(document)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Register(t.Context(), tenant, instance, store.Registration{
		Policies: []string{"base"}, Suites: []keywrap.Suite{keywrap.X25519}, Launch: store.Launch{Own: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutSecret(t.Context(), tenant, instance, "disk", []byte("secret of "+tenant)); err != nil {
		t.Fatal(err)
	}
	a, err := s.Authorize(t.Context(), teebroker.Authorization{
		Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, Uses: uses, NotAfter: time.Now().Add(time.Hour),
	})
	return must(t, a, err)
}

// grant is what the n-th guest asks, each with a key of its own.
func grant(tenant string, n uint64) teebroker.Grant {
	g := teebroker.Grant{
		Profile: nonce.ProfileV1, Tenant: tenant, Instance: instance, Generation: 2, Purpose: "disk",
		Policies: [][32]byte{sha256.Sum256([]byte(document))}, ConfirmKey: make([]byte, 32),
	}
	binary.BigEndian.PutUint64(g.Request[:], n+1)
	binary.BigEndian.PutUint64(g.Key[:], n+1)
	return g
}

// release is what a Broker does for g. The sealed bytes and the receipt are as
// long as they usually are.
func release(ctx context.Context, s *sqlstore.Store, g teebroker.Grant) (teebroker.Response, error) {
	if err := s.Redeem(ctx, nonce.Nonce(g.Request), g.Request, time.Now().Add(5*time.Minute)); err != nil {
		return teebroker.Response{}, err
	}
	return commit(ctx, s, g)
}

func commit(ctx context.Context, s *sqlstore.Store, g teebroker.Grant) (teebroker.Response, error) {
	for {
		terms, err := s.Check(ctx, g)
		if err != nil {
			return teebroker.Response{}, err
		}
		g.Authorization = terms.Authorization
		r := teebroker.Response{Release: [16]byte(g.Request[:16]), Sealed: make([]byte, 1800), Receipt: make([]byte, 1500)}
		kind := teebroker.KindRelease
		if terms.Release != [16]byte{} {
			r.Release, r.Sealed, g.ConfirmKey, kind = terms.Release, terms.Sealed, nil, teebroker.KindRedelivery
		}
		copy(r.Receipt, g.Request[:])
		e := teebroker.Entry{Chain: teebroker.Decisions, Tenant: g.Tenant, Kind: kind, Body: fmt.Appendf(nil, `{"request":"%x"}`, g.Request)}
		stored, err := s.Commit(ctx, g, r, e)
		if err != teebroker.ErrAgain {
			return stored, err
		}
	}
}

func benchmark(b *testing.B, s *sqlstore.Store) {
	owned(b, s, tenant, store.MaxUses)
	var n atomic.Uint64
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := release(b.Context(), s, grant(tenant, n.Add(1))); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// Redeem, Check and Commit of one release.
func BenchmarkSQLite(b *testing.B) {
	benchmark(b, open(b, sqliteConfig(b, filepath.Join(b.TempDir(), "state.db"), nil)))
}

func BenchmarkPostgreSQL(b *testing.B) {
	benchmark(b, open(b, postgresConfig(b, schema(b), nil)))
}
