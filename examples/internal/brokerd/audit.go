package brokerd

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

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

What others kept is compared with it: checkpoints, of every process of the broker
and of owners, and receipts, of guests. Both are files, or directories of them:

  broker audit -db … -checkpoints checkpoints,other/checkpoints -receipts receipts

Exit status 1 if anything is wrong. A record that was cut at its end looks whole
where nobody kept a later checkpoint.`

// Audit is what broker audit found.
type Audit struct {
	OK           bool     `json:"ok"`
	Tenants      int      `json:"tenants"`
	Entries      int      `json:"entries"`
	Releases     int      `json:"releases"`
	Redeliveries int      `json:"redeliveries"`
	Checkpoints  int      `json:"checkpoints"` // that are on their chains
	Receipts     int      `json:"receipts"`    // that were given and are in the record
	Chains       []Chain  `json:"chains"`
	Problems     []string `json:"problems"`
	Notes        []string `json:"notes"`
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
	var checkpoints, receipts cli.List
	dbFlag(fs, &db)
	simulated := fs.Bool("simulated", false, "state is that of simulated platforms, where -db or -identity is not given")
	identity := fs.String("identity", "", "the broker id is in this `FILE` (default broker.id in your state directory)")
	fs.Var(&checkpoints, "checkpoints", "what broker serve or owner record kept in these `DIR,…`, or files, has to be on the chains")
	fs.Var(&receipts, "receipts", "the receipts in these `DIR,…`, or files, have to be in the record")
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
		cfg := sqlstore.AuditConfig{Broker: id}
		if cfg.Checkpoints, err = givenCheckpoints(checkpoints, id); err != nil {
			return false, fmt.Errorf("-checkpoints: %w", err)
		}
		if cfg.Receipts, err = givenReceipts(receipts); err != nil {
			return false, fmt.Errorf("-receipts: %w", err)
		}
		a, err := runAudit(context.Background(), db, cfg)
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
	p.Line(verdict, cli.Cell{Text: fmt.Sprintf("%d tenants, %d entries, %d releases, %d redeliveries; %d checkpoints and %d receipts are in it",
		a.Tenants, a.Entries, a.Releases, a.Redeliveries, a.Checkpoints, a.Receipts)})
	var rows [][]cli.Cell
	for _, f := range a.Problems {
		rows = append(rows, []cli.Cell{{Text: f, Style: cli.Bad}})
	}
	p.Table("What is wrong", rows)
	rows = nil
	for _, n := range a.Notes {
		rows = append(rows, []cli.Cell{{Text: n, Style: cli.Warn}})
	}
	p.Table("What was restored", rows)
	rows = nil
	for _, c := range a.Chains {
		rows = append(rows, []cli.Cell{{Text: c.Tenant}, {Text: string(c.Chain)}, {Text: fmt.Sprint(c.Seq)}, {Text: base64URL(c.Head[:])}})
	}
	p.Table("Where the chains end", rows)
	_, err := p.WriteTo(w)
	return err
}

// runAudit audits the database that dsn names.
func runAudit(ctx context.Context, dsn string, cfg sqlstore.AuditConfig) (*Audit, error) {
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
	cfg.Dialect, cfg.DB = dialect, db
	got, err := sqlstore.Audit(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("-db: %w", err)
	}
	a := &Audit{
		Tenants: got.Tenants, Entries: got.Entries, Releases: got.Releases, Redeliveries: got.Redeliveries,
		Checkpoints: got.Checkpoints, Receipts: got.Receipts,
		Chains: []Chain{}, Problems: append([]string{}, got.Problems...), Notes: append([]string{}, got.Notes...),
	}
	if err := a.heads(ctx, db); err != nil {
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
