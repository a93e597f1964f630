package v1_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// Tokens of two tenants.
const (
	acmeToken  = "token-of-acme"
	otherToken = "token-of-other"
)

// decoders read {"measurement": "…"} of fake hardware.
func decoders() policy.Decoders {
	return policy.Decoders{faketee.Format: func(object []byte, _ bool) (policy.Rule, error) {
		var j struct {
			Measurement string `json:"measurement"`
		}
		if err := strictjson.Unmarshal(object, &j); err != nil {
			return nil, err
		}
		return policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text(j.Measurement)}, nil
	}}
}

func document(name, measurement string) []byte {
	return fmt.Appendf(nil, `{"policy":"teebroker/1","name":%q,"version":"1","scope":"global","require":{"snp-report":[{"measurement":%q}]}}`, name, measurement)
}

// sqlite returns a store in a file, with two tenants.
func sqlite(t testing.TB, now func() time.Time) *sqlstore.Store {
	s, _ := sqliteFile(t, now)
	return s
}

// sqliteFile returns the file beside the store, for who edits it.
func sqliteFile(t testing.TB, now func() time.Time) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	dsn := "file:" + filepath.Join(t.TempDir(), "db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_pragma=secure_delete(1)"
	write, err1 := sql.Open("sqlite", dsn)
	read, err2 := sql.Open("sqlite", dsn)
	cipher, err3 := store.NewAES([32]byte{3})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{
		Dialect: sqlstore.SQLite, DB: write, Read: read, Cipher: cipher, RowKey: [32]byte{2}, Decoders: decoders(), Time: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), write.Close(), read.Close()); err != nil {
			t.Error(err)
		}
	})
	for tenant, token := range map[string]string{"acme": acmeToken, "other": otherToken} {
		if err := s.AddTenant(t.Context(), tenant, v1.TokenDigest(token)); err != nil {
			t.Fatal(err)
		}
	}
	return s, read
}

// owned is a world with owners, whose state is in a database.
type owned struct {
	*world
	sql  *sqlstore.Store
	file *sql.DB
	acme *v1.Client
	tpms tpms
}

func newOwned(t testing.TB, edit func(*v1.Config)) *owned {
	t.Helper()
	o := &owned{}
	o.world = newWorld(t, func(w *world, engine *teebroker.Config, c *v1.Config) {
		o.sql, o.file = sqliteFile(t, w.time)
		engine.Nonces, engine.Directory, engine.Secrets, engine.Ledger = o.sql, o.sql, o.sql, o.sql
		key, err := keywrap.Generate(keywrap.P384)
		w.check(err)
		next, err := keywrap.Generate(keywrap.P384)
		w.check(err)
		keys, err := teebroker.NewKeySet(map[string][]teebroker.AttestationKey{"acme": {
			{ID: "new", Opener: next, NotBefore: start().Add(time.Hour)}, {ID: "old", Opener: key, NotBefore: start()},
		}})
		w.check(err)
		engine.Keys, engine.Orders = keys, store.Bodies{}
		c.Owner, c.Tenants = o.sql, o.sql
		c.PerSource = v1.Rate{Burst: 10000}
		c.Keys = func(ctx context.Context, tenant string) ([]byte, error) { return w.broker.KeysDocument(ctx, tenant) }
		c.Verify = &v1.VerifyConfig{Verifier: verifier()}
		c.TPMs = &o.tpms
		c.Identities = &v1.IdentityConfig{Identities: o.sql, AgentID: agentID, Certificates: issuers}
		c.Explain = &v1.ExplainConfig{Verifier: verifier(), Decoders: decoders(), Time: w.time}
		if edit != nil {
			edit(c)
		}
	})
	o.acme = o.owner(acmeToken)
	return o
}

func (o *owned) owner(token string) *v1.Client {
	return o.client(func(c *v1.ClientConfig) { c.Token = token })
}

// registration is of guests that are measured as "good".
func registration() store.Registration {
	return store.Registration{Policies: []string{"prod"}, Launch: store.Launch{Own: true}, Suites: []keywrap.Suite{keywrap.X25519}}
}

// provision registers the instance with a secret and authorizes one use.
func (o *owned) provision() {
	o.Helper()
	o.check(o.acme.PutPolicy(o.Context(), "prod", document("prod", "good")))
	_, err := o.acme.Register(o.Context(), instance, registration())
	o.check(err)
	o.check(o.acme.PutSecret(o.Context(), instance, "disk", []byte("the owner's secret")))
	o.authorize()
}

func (o *owned) authorize() v1.Authorization {
	o.Helper()
	a, err := o.acme.Authorize(o.Context(), instance, v1.Authorization{Purposes: []string{"disk"}, NotAfter: o.time().Add(time.Hour)})
	o.check(err)
	return a
}
