package brokerd

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store/sqlstore"
)

const aboutAudit = `
Check the record in a database: every chain, and that releases, receipts and
entries match.

Reads and changes nothing, needs no keys, and may run beside a broker. The broker
whose receipts there have to be is named by its id:

  broker audit -db /var/lib/teebroker/broker.db -identity broker.id

A receipt that is given with -receipt has to be in an entry. Exit status 1 if
anything is wrong. A record that was cut at its end looks whole: compare its heads
with what you saw before.`

// Audit is what broker audit found.
type Audit struct {
	OK           bool     `json:"ok"`
	Tenants      int      `json:"tenants"`
	Entries      int      `json:"entries"`
	Releases     int      `json:"releases"`
	Redeliveries int      `json:"redeliveries"`
	Chains       []Chain  `json:"chains"`
	Problems     []string `json:"problems"`
}

// Chain is one chain of a tenant and where it ends.
type Chain struct {
	Tenant string            `json:"tenant"`
	Chain  teebroker.Chain   `json:"chain"`
	Seq    uint64            `json:"seq"`
	Head   strictjson.Digest `json:"head"`
}

// AuditCommand is broker audit.
func AuditCommand() cli.Command {
	return cli.Command{Name: "broker audit", About: aboutAudit, Env: cli.Variable, Setup: setupAudit}
}

func setupAudit(fs *flag.FlagSet) cli.Action {
	var db string
	var receipts cli.List
	dbFlag(fs, &db)
	simulated := fs.Bool("simulated", false, "state is that of simulated platforms, where -db or -identity is not given")
	identity := fs.String("identity", "", "the broker id is in this `FILE` (default broker.id in your state directory)")
	fs.Var(&receipts, "receipt", "receipts `FILE,…` that have to be in the record")
	asJSON := fs.Bool("json", false, "print one JSON object")
	return func(args []string, stdout io.Writer) (bool, error) {
		if len(args) != 0 {
			return false, cli.Usagef("unexpected argument %q", args[0])
		}
		if db == "" || *identity == "" {
			dir, err := stateDir(*simulated)
			if err != nil {
				return false, err
			}
			if db == "" {
				db = filepath.Join(dir, "broker.db")
			}
			if *identity == "" {
				*identity = filepath.Join(dir, "broker.id")
			}
		}
		id, err := cli.ReadBrokerID(*identity)
		if err != nil {
			return false, err
		}
		a, err := runAudit(context.Background(), db, id, receipts)
		if err != nil {
			return false, err
		}
		if *asJSON {
			return a.OK, cli.WriteJSON(stdout, a)
		}
		return a.OK, a.print(stdout)
	}
}

func (a *Audit) print(w io.Writer) error {
	p := cli.NewPage(w)
	verdict := cli.Cell{Text: "whole", Style: cli.Good}
	if !a.OK {
		verdict = cli.Cell{Text: "damaged", Style: cli.Bad}
	}
	p.Line(verdict, cli.Cell{Text: fmt.Sprintf("%d tenants, %d entries, %d releases, %d redeliveries", a.Tenants, a.Entries, a.Releases, a.Redeliveries)})
	var rows [][]cli.Cell
	for _, f := range a.Problems {
		rows = append(rows, []cli.Cell{{Text: f, Style: cli.Bad}})
	}
	p.Table("What is wrong", rows)
	rows = nil
	for _, c := range a.Chains {
		rows = append(rows, []cli.Cell{{Text: c.Tenant}, {Text: string(c.Chain)}, {Text: fmt.Sprint(c.Seq)}, {Text: base64URL(c.Head[:])}})
	}
	p.Table("Where the chains end", rows)
	_, err := p.WriteTo(w)
	return err
}

// runAudit audits the database that dsn names, and looks for the receipts in files.
func runAudit(ctx context.Context, dsn string, broker [32]byte, receipts []string) (*Audit, error) {
	dialect, driver, name := sqlstore.PostgreSQL, "pgx", verified(dsn)
	if !postgres(dsn) {
		path, err := filepath.Abs(dsn)
		if err != nil {
			return nil, err
		}
		dialect, driver = sqlstore.SQLite, "sqlite"
		name = (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro&_pragma=busy_timeout(10000)"}).String()
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		return nil, opening(dsn, err)
	}
	defer db.Close()
	got, err := sqlstore.Audit(ctx, sqlstore.AuditConfig{Dialect: dialect, DB: db, Broker: broker})
	if err != nil {
		return nil, fmt.Errorf("-db: %w", err)
	}
	a := &Audit{
		Tenants: got.Tenants, Entries: got.Entries, Releases: got.Releases, Redeliveries: got.Redeliveries,
		Chains: []Chain{}, Problems: append([]string{}, got.Problems...),
	}
	if err := errors.Join(a.heads(ctx, db), a.find(ctx, db, receipts)); err != nil {
		return nil, fmt.Errorf("-db: %w", err)
	}
	a.OK = len(a.Problems) == 0
	return a, nil
}

// each calls f for each row of a query.
func each(ctx context.Context, db *sql.DB, query string, f func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// heads adds where the chains end.
func (a *Audit) heads(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, "SELECT tenant, chain, seq, hash FROM heads ORDER BY tenant, chain", func(rows *sql.Rows) error {
		var c Chain
		var hash []byte
		err := rows.Scan(&c.Tenant, &c.Chain, &c.Seq, &hash)
		copy(c.Head[:], hash)
		a.Chains = append(a.Chains, c)
		return err
	})
}

// find adds a problem for each receipt in files that no entry has.
func (a *Audit) find(ctx context.Context, db *sql.DB, files []string) error {
	if len(files) == 0 {
		return nil
	}
	recorded := map[strictjson.Digest]bool{}
	err := each(ctx, db, "SELECT body FROM entries WHERE kind IN ('release', 'redelivery')", func(rows *sql.Rows) error {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return err
		}
		members, err := strictjson.Members(body)
		if err != nil {
			return nil // Audit says so
		}
		var d strictjson.Digest
		if strictjson.Unmarshal(members["receipt"], &d) == nil {
			recorded[d] = true
		}
		return nil
	})
	for _, path := range files {
		b, e := cli.ReadFile(path, 64<<10)
		if err = errors.Join(err, e); err == nil && !recorded[sha256.Sum256([]byte(strings.TrimSpace(string(b))))] {
			a.Problems = append(a.Problems, path+": a receipt that is in no entry")
		}
	}
	return err
}
