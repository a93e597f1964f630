package brokerd

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/kbs"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
	"github.com/teebroker/teebroker/tdx"
)

// database is an open store and what it rests on.
type database struct {
	*sqlstore.Store
	db, read *sql.DB // the same with PostgreSQL

	path string      // of SQLite
	file os.FileInfo // that was opened
}

// errReplaced means that another file was put in the place of the one that is open:
// what is written goes nowhere.
var errReplaced = errors.New("-db: the file was replaced under the broker; start it again")

// standing is a Witness of a database that has to be under its name.
type standing struct {
	store.Witness
	db *database
}

// Seen implements [store.Witness].
func (s standing) Seen(tenant string, c teebroker.Chain) (store.Mark, error) {
	if err := s.db.there(); err != nil {
		return store.Mark{}, err
	}
	return s.Witness.Seen(tenant, c)
}

// there returns an error unless the file that is open is still under its name.
func (d *database) there() error {
	if d.file == nil {
		return nil
	}
	now, err := os.Stat(d.path)
	if err != nil || !os.SameFile(now, d.file) {
		return errReplaced
	}
	return nil
}

// Decoders are the formats that policies may speak of.
func Decoders() policy.Decoders {
	return policy.Decoders{
		snp.Format: policy.Decoder(snp.DecodeReferenceValues),
		tdx.Format: policy.Decoder(tdx.DecodeReferenceValues),
		cca.Format: policy.Decoder(cca.DecodeReferenceValues),

		kbs.SampleFormat:       kbs.DecodeSampleRule,
		kbs.SampleDeviceFormat: kbs.DecodeSampleRule,
	}
}

// openDatabase opens the database, and makes the file of one of SQLite so that
// nobody else can read it.
func (o Options) openDatabase(ctx context.Context, dsn string, keys *keyfile.File, witness store.Witness) (*database, error) {
	d := &database{}
	cfg, err := o.storeConfig(keys)
	if err != nil {
		return nil, err
	}
	cfg.Witness = witness
	if postgres(dsn) {
		cfg.Dialect = sqlstore.PostgreSQL
		d.db, err = sql.Open("pgx", verified(dsn))
		if err == nil {
			d.db.SetMaxOpenConns(16)
			d.db.SetMaxIdleConns(16) // or every burst opens connections
		}
		d.read = d.db
	} else {
		cfg.Dialect = sqlstore.SQLite
		d.db, d.read, err = openSQLite(dsn)
	}
	if err != nil {
		return nil, opening(dsn, err)
	}
	cfg.DB, cfg.Read = d.db, d.read
	if cfg.Dialect == sqlstore.SQLite {
		d.path = dsn
		if d.file, err = os.Stat(dsn); err != nil {
			d.closeDB()
			return nil, opening(dsn, err)
		}
		if witness != nil {
			cfg.Witness = standing{witness, d}
		}
	}
	if d.Store, err = sqlstore.Open(ctx, cfg); err != nil {
		d.closeDB()
		return nil, fmt.Errorf("-db: %w", err)
	}
	return d, nil
}

// storeConfig is what a store needs beside a database.
func (o Options) storeConfig(keys *keyfile.File) (cfg sqlstore.Config, err error) {
	cfg = sqlstore.Config{Decoders: Decoders(), Simulated: o.TrustSimulated != "", AllowUnauthenticatedRows: o.AllowOldRows}
	if cfg.Cipher, err = store.NewAES(keys.CipherKey()); err == nil {
		cfg.RowKey, err = keys.RowKey()
	}
	return cfg, err
}

// opening is the error of a database that can't be opened. That of a URL may quote
// its password.
func opening(dsn string, err error) error {
	if postgres(dsn) {
		return errors.New("-db: not a URL of PostgreSQL that can be used")
	}
	return fmt.Errorf("-db: %w", err)
}

func postgres(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// verified returns the URL of a PostgreSQL with sslmode=verify-full if it says nothing
// of TLS and names another host: the driver would go on without TLS if whoever is
// between says that there is none.
func verified(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Query().Has("sslmode") || os.Getenv("PGSSLMODE") != "" {
		return dsn
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return dsn
	}
	hosts := []string{cfg.Host}
	for _, f := range cfg.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	if !slices.ContainsFunc(hosts, remote) {
		return dsn
	}
	q := u.Query()
	q.Set("sslmode", "verify-full")
	u.RawQuery = q.Encode()
	return u.String()
}

// remote reports whether host is neither this one nor a directory of Unix sockets.
func remote(host string) bool {
	ip := net.ParseIP(host)
	return host != "localhost" && !strings.HasPrefix(host, "/") && !strings.HasPrefix(host, "@") && (ip == nil || !ip.IsLoopback())
}

func openSQLite(path string) (write, read *sql.DB, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, nil, err
	}
	if err := sqlstore.PrivateFile(path); err != nil {
		return nil, nil, err
	}
	q := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "secure_delete(1)"}}
	dsn := (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
	if write, err = sql.Open("sqlite", dsn); err != nil {
		return nil, nil, err
	}
	read, err = sql.Open("sqlite", dsn)
	return write, read, err
}

func (d *database) closeDB() {
	_ = d.db.Close() // what was acknowledged is durable
	_ = d.read.Close()
}

func (d *database) close() {
	_ = d.Store.Close()
	d.closeDB()
}

// ready returns nil if the database answers.
func (d *database) ready(ctx context.Context) error {
	return errors.Join(d.there(), d.read.PingContext(ctx))
}

// tenants returns every tenant there is, sorted.
func (d *database) tenants(ctx context.Context) ([]string, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT tenant FROM tenants ORDER BY tenant")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var t string
		if err := rows.Scan(&t); err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, rows.Err()
}
