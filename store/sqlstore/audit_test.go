package sqlstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// party is a broker on a Store, with guests of fake hardware.
type party struct {
	testing.TB
	*sqlstore.Store
	*teebroker.Broker
	identity *ecdsa.PrivateKey
}

// fakes decodes documents about fake hardware.
func fakes() policy.Decoders {
	return policy.Decoders{faketee.Format: func([]byte, bool) (policy.Rule, error) {
		return policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text("good")}, nil
	}}
}

func newParty(t testing.TB, cfg sqlstore.Config) *party {
	t.Helper()
	cfg.Decoders = fakes()
	s := open(t, cfg)
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, 0, err)
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Generation: s.Generation()})
	must(t, 0, err)
	b, err := teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{NotAfter: time.Now().AddDate(1, 0, 0)}, Issuer: issuer, Nonces: s, Directory: s, Secrets: s, Ledger: s, Kept: s, Identity: identity,
	})
	return &party{t, s, must(t, b, err), identity}
}

// ask is a guest with a new key that asks, twice with other nonces, and opens
// what it gets.
func (p *party) ask(tenant string, times int) error {
	id := p.ID()
	key, err := keywrap.Generate(keywrap.X25519)
	must(p, 0, err)
	s, err := guest.New(guest.Config{Tenant: tenant, Instance: instance, Purpose: "disk", Broker: id[:], Key: key})
	must(p, 0, err)
	launch := teebroker.LaunchID(tenant, instance)
	for range times {
		c, err := p.Challenge(p.Context(), nonce.ProfileV1)
		must(p, 0, err)
		b, err := s.Bind(c.Nonce, faketee.Format)
		must(p, 0, err)
		r, err := p.Answer(p.Context(), s.Request(c.Nonce, faketee.Guest{Measurement: "good", HostData: launch[:]}.Evidence(b)))
		if err != nil {
			return err
		}
		got, err := s.Open(p.Context(), r)
		if err != nil || string(got) != "secret of "+tenant {
			p.Errorf("opened %q, %v", got, err)
		}
	}
	return nil
}

func (p *party) audit(cfg sqlstore.Config) sqlstore.Audited {
	p.Helper()
	db := cfg.Read
	if db == nil {
		db = cfg.DB
	}
	got, err := sqlstore.Audit(p.Context(), sqlstore.AuditConfig{Dialect: cfg.Dialect, DB: db, Broker: p.ID()})
	return must(p, got, err)
}

// A whole release in both databases, which the audit finds whole; and then what
// somebody with access to the database did to it.
func TestAudit(t *testing.T) {
	for name, config := range map[string]func(t *testing.T) sqlstore.Config{
		"sqlite": func(t *testing.T) sqlstore.Config {
			return sqliteConfig(t, filepath.Join(t.TempDir(), "state.db"), nil)
		},
		"postgres": func(t *testing.T) sqlstore.Config { return postgresConfig(t, schema(t), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			p := newParty(t, cfg)
			for _, tenant := range []string{"acme", "other"} {
				owned(t, p.Store, tenant, 2)
				for range 2 {
					if err := p.ask(tenant, 2); err != nil {
						t.Fatal(err)
					}
				}
				if err := p.ask(tenant, 1); err == nil {
					t.Error("a third key got the secret")
				}
			}
			got := p.audit(cfg)
			if len(got.Problems) > 0 || got.Tenants != 2 || got.Releases != 4 || got.Redeliveries != 4 || got.Entries != 2*(4+4+1) {
				t.Fatalf("%+v", got)
			}
			for _, tt := range tampering {
				p.tamper(cfg, tt.change, tt.want)
			}
			if got := p.audit(cfg); len(got.Problems) > 0 {
				t.Errorf("not as it was: %v", got.Problems)
			}
			db := cfg.DB
			if cfg.Dialect == sqlstore.SQLite {
				db = cfg.Read
			}
			other, err := sqlstore.Audit(t.Context(), sqlstore.AuditConfig{Dialect: cfg.Dialect, DB: db, Broker: [32]byte{1}})
			if err != nil || len(other.Problems) != 8 {
				t.Errorf("receipts of another broker: %v, %v", other.Problems, err)
			}
		})
	}
}

// tampering is what was done, and what the audit says.
var tampering = []struct{ change, want string }{
	{"UPDATE entries SET body = '{}' WHERE tenant = 'acme' AND chain = 'refusals'", "was changed"},
	{"DELETE FROM entries WHERE tenant = 'acme' AND chain = 'decisions' AND seq = 3", "follows entry 2"},
	{"DELETE FROM entries WHERE tenant = 'acme' AND chain = 'decisions' AND seq = 8", "its head says 8"},
	{"UPDATE entries SET time = time + 1 WHERE tenant = 'acme' AND seq = 2", "was changed"},
	{"UPDATE entries SET kind = 'policy' WHERE tenant = 'acme' AND kind = 'release'", "belongs to an entry of kind policy"},
	{"UPDATE entries SET tenant = 'third' WHERE tenant = 'acme'", "have no head"},
	{"UPDATE heads SET seq = seq - 1 WHERE tenant = 'acme' AND chain = 'decisions'", "its head says 7"},
	{"UPDATE outcomes SET receipt = purpose_bytes WHERE tenant = 'acme' AND seq = 5", "another receipt is stored"},
	{"DELETE FROM outcomes WHERE tenant = 'acme' AND seq = 5", "there is no release"},
	{"DELETE FROM outcomes WHERE tenant = 'acme' AND seq = 6", "there is no release"},
	{"DELETE FROM releases WHERE tenant = 'acme'", "there is no release"},
	{"UPDATE authorizations SET used = 1 WHERE tenant = 'acme'", "gave more or fewer slots"},
	{"UPDATE authorizations SET uses = 9, used = 3 WHERE tenant = 'acme'", "gave more or fewer slots"},
	{"DELETE FROM slots WHERE tenant = 'acme'", "have no slot"},
	{"UPDATE slots SET auth = recipient WHERE tenant = 'acme'", "slots have no authorization"},
	{"UPDATE authorizations SET made = 1 WHERE tenant = 'acme'", "authorizations have no entry"},
}

// tamper changes the database as its administrator could, audits it within the
// same transaction's view, and puts it back.
func (p *party) tamper(cfg sqlstore.Config, change, want string) {
	p.Helper()
	tables := []string{"entries", "heads", "outcomes", "releases", "slots", "authorizations"}
	db := cfg.DB
	if cfg.Dialect == sqlstore.SQLite {
		db = cfg.Read // the Store has the only connection of the other
	}
	literal := map[sqlstore.Dialect]string{sqlstore.SQLite: "x'00'", sqlstore.PostgreSQL: `'\x00'::bytea`}[cfg.Dialect]
	body := map[sqlstore.Dialect]string{sqlstore.SQLite: "x'7b7d'", sqlstore.PostgreSQL: "'{}'"}[cfg.Dialect]
	for _, t := range tables {
		p.exec(db, "CREATE TABLE saved_"+t+" AS SELECT * FROM "+t)
	}
	p.exec(db, strings.NewReplacer("purpose_bytes", literal, "'{}'", body).Replace(change))
	got := p.audit(cfg)
	if !strings.Contains(strings.Join(got.Problems, "\n"), want) {
		p.Errorf("%s: the audit says %q, want %q", change, got.Problems, want)
	}
	for _, t := range tables {
		p.exec(db, "DELETE FROM "+t)
		p.exec(db, "INSERT INTO "+t+" SELECT * FROM saved_"+t)
		p.exec(db, "DROP TABLE saved_"+t)
	}
}

func (p *party) exec(db *sql.DB, q string) {
	p.Helper()
	if _, err := db.ExecContext(p.Context(), q); err != nil {
		p.Fatalf("%s: %v", q, err)
	}
}

// What somebody moved or changed at rest is never used: each value opens in its
// own place only.
func TestMoved(t *testing.T) {
	cfg := sqliteConfig(t, filepath.Join(t.TempDir(), "state.db"), nil)
	p := newParty(t, cfg)
	ctx := t.Context()
	for _, tenant := range []string{"acme", "other"} {
		owned(t, p.Store, tenant, 2)
		if err := p.PutSecret(ctx, tenant, instance, "data", []byte("other secret")); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(2) {
			_, err := p.Authorize(ctx, teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, NotAfter: time.Now().Add(time.Hour)})
			must(t, 0, err)
			g := grant(tenant, n)
			g.Generation, g.Request[31] = 3, tenant[0]
			if _, err := commit(ctx, p.Store, g); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Put(ctx, tenant, []byte("value of "+tenant), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	first := grant("acme", 0)
	first.Generation, first.Request[31] = 3, 'a'
	uses := map[string]func() error{
		"Secret": func() error {
			_, err := p.Secret(ctx, teebroker.Instance{Tenant: "acme", ID: instance}, "disk")
			return err
		},
		"Outcome": func() error { _, _, err := p.Outcome(ctx, first.Request, "disk"); return err },
		"Check":   func() error { _, err := p.Check(ctx, first); return err },
		"Get":     func() error { _, err := p.Get(ctx, "acme"); return err },
	}
	for name, use := range uses {
		if err := use(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for q, users := range map[string]string{
		"UPDATE purposes SET secret = (SELECT secret FROM purposes WHERE tenant = 'other' AND purpose = 'disk') WHERE tenant = 'acme'":                                    "Secret",
		"UPDATE purposes SET secret = (SELECT secret FROM purposes WHERE tenant = 'acme' AND purpose = 'data') WHERE tenant = 'acme' AND purpose = 'disk'":                "Secret",
		"UPDATE purposes SET secret = zeroblob(length(secret)) WHERE tenant = 'acme'":                                                                                     "Secret",
		"UPDATE releases SET sealed = (SELECT sealed FROM releases WHERE tenant = 'other' ORDER BY recipient LIMIT 1) WHERE tenant = 'acme'":                              "Outcome Check",
		"UPDATE releases SET sealed = (SELECT sealed FROM releases WHERE tenant = 'acme' ORDER BY recipient DESC LIMIT 1) WHERE tenant = 'acme'":                          "Outcome Check",
		"UPDATE kept SET value = (SELECT value FROM kept WHERE id = 'other')":                                                                                             "Get",
		"UPDATE outcomes SET recipient = (SELECT recipient FROM releases WHERE tenant = 'acme' ORDER BY recipient DESC LIMIT 1), receipt = x'00' WHERE tenant = 'nobody'": "",
	} {
		tables := []string{"purposes", "releases", "kept", "outcomes"}
		for _, table := range tables {
			p.exec(cfg.Read, "CREATE TABLE saved_"+table+" AS SELECT * FROM "+table)
		}
		p.exec(cfg.Read, q)
		for name, use := range uses {
			err := use()
			if wrong := strings.Contains(users, name); wrong != (err != nil) {
				t.Errorf("%s: %s: %v", q, name, err)
			}
			if err != nil && (!errors.Is(err, store.ErrCipher) && !errors.Is(err, sqlstore.ErrForged) || teebroker.Code(err) != "unavailable") {
				t.Errorf("%s: %s: %v", q, name, err)
			}
		}
		for _, table := range tables {
			p.exec(cfg.Read, "DELETE FROM "+table)
			p.exec(cfg.Read, "INSERT INTO "+table+" SELECT * FROM saved_"+table)
			p.exec(cfg.Read, "DROP TABLE saved_"+table)
		}
	}
}
