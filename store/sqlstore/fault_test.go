package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// What a database was begun with, it keeps, and settings that would lose what was
// acknowledged are refused.
func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	good := func() sqlstore.Config { return sqliteConfig(t, path, nil) }
	_ = open(t, good()).Close()
	another, err := store.NewAES([32]byte{2})
	must(t, 0, err)
	pragma := func(from, to string) func(*sqlstore.Config) {
		return func(c *sqlstore.Config) { c.Read = database(t, "sqlite", strings.Replace(dsn(path), from, to, 1)) }
	}
	for name, tt := range map[string]struct {
		edit func(*sqlstore.Config)
		want error
	}{
		"simulated":     {func(c *sqlstore.Config) { c.Simulated = true }, sqlstore.ErrSimulated},
		"cipher":        {func(c *sqlstore.Config) { c.Cipher = another }, store.ErrCipher},
		"in memory":     {func(c *sqlstore.Config) { c.DB = database(t, "sqlite", ":memory:") }, sqlstore.ErrSettings},
		"not flushed":   {pragma("synchronous(FULL)", "synchronous(NORMAL)"), sqlstore.ErrSettings},
		"not erased":    {pragma("secure_delete(ON)", "secure_delete(OFF)"), sqlstore.ErrSettings},
		"no timeout":    {pragma("busy_timeout(10000)", "busy_timeout(0)"), sqlstore.ErrSettings},
		"no dialect":    {func(c *sqlstore.Config) { c.Dialect = "" }, nil},
		"no database":   {func(c *sqlstore.Config) { c.DB = nil }, nil},
		"nothing reads": {func(c *sqlstore.Config) { c.Read = nil }, nil},
		"no cipher":     {func(c *sqlstore.Config) { c.Cipher = nil }, nil},
		"no decoders":   {func(c *sqlstore.Config) { c.Decoders = nil }, nil},
	} {
		cfg := good()
		tt.edit(&cfg)
		s, err := sqlstore.Open(t.Context(), cfg)
		if err == nil || s != nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	cfg := good()
	if _, err := cfg.Read.Exec("UPDATE meta SET value = CAST('99' AS BLOB) WHERE name = 'schema'"); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlstore.Open(t.Context(), cfg); !errors.Is(err, sqlstore.ErrNewer) {
		t.Errorf("of a newer version: %v", err)
	}
}

// Without a standby PostgreSQL is refused, or loud.
func TestStandby(t *testing.T) {
	dsn := schema(t)
	cfg := postgresConfig(t, dsn+" options='-c synchronous_commit=local'", nil)
	if _, err := sqlstore.Open(t.Context(), cfg); !errors.Is(err, sqlstore.ErrSettings) {
		t.Errorf("synchronous_commit=local: %v", err)
	}
	cfg = postgresConfig(t, dsn+" options='-c synchronous_commit=local'", nil)
	cfg.AllowFailoverAsRestore = true
	if w := open(t, cfg).Warnings(); len(w) != 1 || !strings.Contains(w[0], "restore") {
		t.Errorf("warnings %q", w)
	}
	cfg = postgresConfig(t, dsn, nil)
	cfg.DB.SetMaxOpenConns(5)
	if s, err := sqlstore.Open(t.Context(), cfg); err == nil || s != nil {
		t.Error("opened with less connections than it keeps")
	}
	if w := open(t, postgresConfig(t, dsn, nil)).Warnings(); len(w) != 0 {
		t.Errorf("warnings %q with a standby", w)
	}
}

// A file that others may read is refused, and one that isn't there is made so that
// they can't.
func TestPrivateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	for range 2 {
		if err := sqlstore.PrivateFile(path); err != nil {
			t.Fatal(err)
		}
	}
	cfg := sqliteConfig(t, path, nil)
	open(t, cfg)
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 3 {
		t.Errorf("%v, %v", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := sqlstore.PrivateFile(path); err == nil {
			t.Errorf("mode %o", mode)
		}
	}
	if err := os.Symlink(path, path+".link"); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{dir, path + ".link", filepath.Join(dir, "none", "x")} {
		if err := sqlstore.PrivateFile(other); err == nil {
			t.Errorf("%s is no private file", other)
		}
	}
}

// together runs f n times at once.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	wg.Wait()
}

// Two Stores on one database, as two processes have: of 64 keys one gets the use,
// and of 64 redemptions of a nonce one.
func TestTwoStores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	for name, config := range map[string]func(dsn string) sqlstore.Config{
		"sqlite":   func(string) sqlstore.Config { return sqliteConfig(t, path, nil) },
		"postgres": func(dsn string) sqlstore.Config { return postgresConfig(t, dsn, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			dsn := ""
			if name == "postgres" {
				dsn = schema(t)
			}
			stores := []*sqlstore.Store{open(t, config(dsn)), open(t, config(dsn))}
			owned(t, stores[0], tenant, 1)
			var mu sync.Mutex
			released, redeemed, errs := 0, 0, map[string]int{}
			together(64, func(i int) {
				s := stores[i%2]
				nerr := s.Redeem(t.Context(), nonce.Nonce{1}, [32]byte{byte(i)}, time.Now().Add(time.Minute))
				_, err := commit(t.Context(), s, grant(tenant, uint64(i)))
				mu.Lock()
				defer mu.Unlock()
				if nerr == nil {
					redeemed++
				}
				switch {
				case err == nil:
					released++
				case !errors.Is(err, teebroker.OtherKey):
					errs[err.Error()]++
				}
			})
			if released != 1 || redeemed != 1 || len(errs) > 0 {
				t.Errorf("%d released, %d redeemed, %v", released, redeemed, errs)
			}
			es, err := stores[1].Record(t.Context(), tenant, teebroker.Decisions, 0, 100)
			var last store.RecordEntry
			for _, e := range es {
				if e.Seq != last.Seq+1 || e.Previous != last.Hash {
					t.Errorf("entry %d after %d", e.Seq, last.Seq)
				}
				last = e
			}
			if err != nil || len(es) != 5 {
				t.Errorf("%d entries, %v", len(es), err)
			}
		})
	}
}

// A call that fails after it wrote undoes nothing of those in the same
// transaction.
func TestFailsAlone(t *testing.T) {
	for name, s := range map[string]func(t *testing.T) *sqlstore.Store{
		"sqlite":   func(t *testing.T) *sqlstore.Store { return sqlite(t, nil) },
		"postgres": func(t *testing.T) *sqlstore.Store { return open(t, postgresConfig(t, schema(t), nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := s(t)
			a := owned(t, s, tenant, 64)
			var mu sync.Mutex
			bad, good := 0, 0
			together(64, func(i int) {
				g := grant(tenant, uint64(i))
				g.Authorization = a.ID
				r := teebroker.Response{Release: [16]byte{1, byte(i)}, Sealed: []byte("s"), Receipt: []byte("r")}
				if i%8 == 0 {
					r.Release = [16]byte{9} // of all of them, so that one can be stored
				}
				_, err := s.Commit(t.Context(), g, r, teebroker.Entry{Chain: teebroker.Decisions, Tenant: tenant, Kind: "release", Body: []byte("{}")})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && i%8 == 0:
					bad++
				case err == nil:
					good++
				case i%8 != 0 || teebroker.Code(err) != "unavailable":
					t.Errorf("%d: %v", i, err)
				}
			})
			as, err := s.Authorizations(t.Context(), tenant, instance)
			if err != nil || bad != 1 || good != 56 || as[0].Used != 57 {
				t.Errorf("%d and %d released, %+v, %v", bad, good, as, err)
			}
		})
	}
}

// A full disk: calls fail, nothing is half done, and all goes on when there is
// room again.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	cfg := sqliteConfig(t, path, nil)
	_ = open(t, cfg).Close()
	var pages int
	if err := cfg.Read.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	cfg = sqliteConfig(t, path, nil)
	cfg.DB = database(t, "sqlite", dsn(path)+fmt.Sprintf("&_pragma=max_page_count(%d)", pages+24))
	s := open(t, cfg)
	owned(t, s, tenant, store.MaxUses)
	n, stored := uint64(0), uint64(0)
	var err error
	for ; err == nil && n < 1000; n++ {
		if _, err = release(t.Context(), s, grant(tenant, n)); err == nil {
			stored++
		}
	}
	if err == nil || teebroker.Code(err) != "unavailable" || stored == 0 {
		t.Fatalf("%d stored: %v", stored, err)
	}
	together(8, func(i int) {
		if _, err := commit(t.Context(), s, grant(tenant, 2000+uint64(i))); err == nil {
			t.Error("committed to a full disk")
		}
	})
	as, err := s.Authorizations(t.Context(), tenant, instance)
	if err != nil || uint64(as[0].Used) != stored {
		t.Errorf("%+v after %d: %v", as, stored, err)
	}
	_ = s.Close()
	s = open(t, sqliteConfig(t, path, nil))
	if _, err := commit(t.Context(), s, grant(tenant, n-1)); err != nil {
		t.Errorf("the same request, with room: %v", err)
	}
	if _, ok, err := s.Outcome(t.Context(), grant(tenant, 0).Request, "disk"); !ok || err != nil {
		t.Errorf("what was stored: %v, %v", ok, err)
	}
}

// PostgreSQL crashes under running releases and comes back: what was answered is
// there, and every request that failed gets an answer when it is made again.
func TestPostgreSQLRestarts(t *testing.T) {
	schema(t) // skips
	script, err := filepath.Abs("../../.ci/services/postgres")
	must(t, 0, err)
	dir, err := os.MkdirTemp("", "postgres-*")
	must(t, 0, err)
	run := func(command string) string {
		t.Helper()
		out, err := exec.Command(script, command, dir).Output() // nothing waits for the server's output
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		return strings.TrimSpace(string(out))
	}
	dsn := run("start")
	t.Cleanup(func() { _ = exec.Command(script, "stop", dir).Run() })
	cfg := postgresConfig(t, dsn, nil)
	cfg.AllowFailoverAsRestore = true // it has no standby
	s := open(t, cfg)
	owned(t, s, tenant, store.MaxUses)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const guests = 16
	answered := make(chan uint64, 1<<16)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range uint64(guests) {
		wg.Go(func() {
			for n := i; ; n += guests {
				for {
					if _, err := commit(ctx, s, grant(tenant, n)); err == nil {
						break
					} else if teebroker.Code(err) != "unavailable" || ctx.Err() != nil {
						t.Errorf("%d: %v", n, err)
						return
					}
				}
				answered <- n
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 2 {
		for range 3 * guests {
			<-answered
		}
		run("crash")
		run("up")
	}
	for range 3 * guests {
		<-answered
	}
	close(stop)
	wg.Wait()
	close(answered)
	as, err := s.Authorizations(ctx, tenant, instance)
	must(t, 0, err)
	slots, entries := 0, 0
	if err := cfg.DB.QueryRow("SELECT (SELECT count(*) FROM slots), (SELECT count(*) FROM entries WHERE kind = 'release')").Scan(&slots, &entries); err != nil {
		t.Fatal(err)
	}
	if as[0].Used != slots || slots != entries || slots < 9*guests {
		t.Errorf("%d used, %d slots, %d entries", as[0].Used, slots, entries)
	}
	for n := range answered {
		if _, ok, err := s.Outcome(ctx, grant(tenant, n).Request, "disk"); !ok || err != nil {
			t.Errorf("%d was answered and is not there: %v", n, err)
		}
	}
}
