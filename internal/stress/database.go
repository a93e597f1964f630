package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

const (
	tenant  = "acme"
	purpose = "disk"
)

// database is an empty database with the keys that all its brokers share.
type database struct {
	dialect  sqlstore.Dialect
	dsn      string
	identity *ecdsa.PrivateKey
	platform platform
	suite    keywrap.Suite
	drivers  string // before the names of the drivers

	drop func() error
}

// newDatabase makes a new schema in the PostgreSQL that dsn names, or if dsn is ""
// a file of SQLite in a new directory. drop deletes it.
func newDatabase(ctx context.Context, dsn string, p platform) (*database, error) {
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	d := &database{dialect: sqlstore.PostgreSQL, identity: identity, platform: p, suite: keywrap.X25519}
	if dsn == "" {
		return d, d.makeFile()
	}
	return d, d.makeSchema(ctx, dsn)
}

func (d *database) makeFile() error {
	dir, err := os.MkdirTemp("", "stress-*")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "state.db")
	d.dialect, d.drop = sqlstore.SQLite, func() error { return os.RemoveAll(dir) }
	d.dsn = "file:" + path + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=secure_delete(ON)"
	return sqlstore.PrivateFile(path)
}

func (d *database) makeSchema(ctx context.Context, dsn string) error {
	random := make([]byte, 8)
	rand.Read(random)
	name := "stress_" + hex.EncodeToString(random)
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, "CREATE SCHEMA "+name); err != nil {
		return errors.Join(err, db.Close())
	}
	d.dsn = dsn + " search_path=" + name
	d.drop = func() error {
		_, err := db.Exec("DROP SCHEMA " + name + " CASCADE")
		return errors.Join(err, db.Close())
	}
	return nil
}

// replica is one broker on a database, with connections of its own, as a process
// of its own has them.
type replica struct {
	*sqlstore.Store
	*teebroker.Broker
	d   *database
	dbs []*sql.DB
}

// open returns a replica with a clock, the store's own if it is nil, and with what
// wrap has changed if that is not nil.
func (d *database) open(ctx context.Context, clock func() time.Time, wrap func(*teebroker.Config)) (*replica, error) {
	r := &replica{d: d}
	cipher, err := store.NewAES([32]byte{1})
	if err != nil {
		return nil, err
	}
	state := sqlstore.Config{
		Dialect: d.dialect, Cipher: cipher, RowKey: [32]byte{2}, Decoders: d.platform.decoders,
		Time: clock, Simulated: true, AllowFailoverAsRestore: true, // a race does not need a standby
	}
	engine := teebroker.Config{Verifier: d.platform.verifier, Identity: d.identity, SimulatedState: true, Time: clock}
	if state.DB, err = r.connect(); err == nil {
		state.Read = state.DB
		if d.dialect == sqlstore.SQLite {
			state.Read, err = r.connect()
		} else {
			state.DB.SetMaxIdleConns(16)
			state.DB.SetMaxOpenConns(16)
		}
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	if r.Store, err = sqlstore.Open(ctx, state); err != nil {
		return nil, errors.Join(err, r.close())
	}
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Generation: r.Generation(), Time: clock})
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	engine.Issuer = issuer
	engine.Nonces, engine.Directory, engine.Secrets, engine.Ledger = r.Store, r.Store, r.Store, r.Store
	if engine.Wrap, err = wrapKey(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	if wrap != nil {
		wrap(&engine)
	}
	if r.Broker, err = teebroker.New(engine); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// wrapKey wraps the keys of epochs.
func wrapKey() (keywrap.WrapKey, error) { return keywrap.NewWrapKey("wrap-1", [32]byte{2}) }

func (r *replica) connect() (*sql.DB, error) {
	driver := "pgx"
	if r.d.dialect == sqlstore.SQLite {
		driver = "sqlite"
	}
	db, err := sql.Open(r.d.drivers+driver, r.d.dsn)
	if err == nil {
		r.dbs = append(r.dbs, db)
	}
	return db, err
}

func (r *replica) close() (err error) {
	if r.Store != nil {
		err = r.Store.Close()
	}
	for _, db := range r.dbs {
		err = errors.Join(err, db.Close())
	}
	return err
}

// audit returns what an audit of the whole database finds, which is nothing wrong.
func (r *replica) audit(ctx context.Context) (sqlstore.Audited, error) {
	got, err := sqlstore.Audit(ctx, sqlstore.AuditConfig{Dialect: r.d.dialect, DB: r.dbs[len(r.dbs)-1], Broker: r.ID()})
	if err == nil && len(got.Problems) > 0 {
		err = fmt.Errorf("the audit finds %d problems, the first is: %s", len(got.Problems), got.Problems[0])
	}
	return got, err
}

// secretOf is what is released to an instance.
func secretOf(instance [16]byte) []byte { return fmt.Appendf(nil, "secret of %x", instance) }

// own registers an instance with its secret, and authorizes as many keys as uses.
func (r *replica) own(ctx context.Context, instance [16]byte, uses int, until time.Time) error {
	if err := r.PutPolicy(ctx, tenant, "base", r.d.platform.document); err != nil {
		return err
	}
	if _, err := r.Register(ctx, tenant, instance, store.Registration{
		Policies: []string{"base"}, Launch: store.Launch{Own: true}, Suites: []keywrap.Suite{r.d.suite},
	}); err != nil {
		return err
	}
	if err := r.PutSecret(ctx, tenant, instance, purpose, secretOf(instance)); err != nil {
		return err
	}
	_, err := r.Authorize(ctx, teebroker.Authorization{
		Tenant: tenant, Instance: instance, Purposes: []string{purpose}, Uses: uses, NotAfter: until,
	})
	return err
}

// machine is a guest that was launched as its instance.
type machine struct {
	*guest.Session
	d        *database
	instance [16]byte
}

func (r *replica) launch(instance [16]byte, key keywrap.Opener) (*machine, error) {
	id := r.ID()
	s, err := guest.New(guest.Config{Tenant: tenant, Instance: instance, Purpose: purpose, Broker: id[:], Key: key})
	return &machine{s, r.d, instance}, err
}

// request is a new request of m with a nonce of r and evidence for it.
func (m *machine) request(ctx context.Context, r *replica) (teebroker.Request, error) {
	c, err := r.Challenge(ctx, nonce.ProfileV1)
	if err != nil {
		return teebroker.Request{}, err
	}
	return m.answer(c.Nonce)
}

// answer is a request with n.
func (m *machine) answer(n nonce.Nonce) (teebroker.Request, error) {
	b, err := m.Bind(n, "snp-report")
	if err != nil {
		return teebroker.Request{}, err
	}
	return m.Request(n, m.d.platform.evidence(m.instance, b)), nil
}

// opens returns an error unless a has the secret of m.
func (m *machine) opens(ctx context.Context, a teebroker.Response) error {
	got, err := m.Open(ctx, a)
	if err == nil && string(got) != string(secretOf(m.instance)) {
		err = errors.New("another secret")
	}
	return err
}
