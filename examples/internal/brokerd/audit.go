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
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

const aboutAudit = `
Check the record in a database: every chain, and that releases and entries match.

Reads and changes nothing, needs no keys, and may run beside a broker.

  broker audit -db /var/lib/teebroker/broker.db
  broker audit -db /var/lib/teebroker/broker.db -receipt receipt.jws

Of each chain of each tenant: no entry is missing, each has the hash of the one
before, and the last is the head. Each release has one entry, each entry of a
release has one, and they say the same; each use of an authorization has a guest
key, and no more were used than were given. A receipt that is given has to be in
an entry. Exit status 1 if anything is wrong.

A record that was cut at its end, heads and releases included, looks whole:
compare its heads with what you saw before.`

// Audit is what broker audit found.
type Audit struct {
	OK       bool     `json:"ok"`
	Entries  int      `json:"entries"`
	Releases int      `json:"releases"`
	Chains   []Chain  `json:"chains"`
	Faults   []string `json:"faults"`
}

// Chain is one chain of a tenant and where it ends.
type Chain struct {
	Tenant string            `json:"tenant"`
	Chain  teebroker.Chain   `json:"chain"`
	Seq    uint64            `json:"seq"`
	Head   strictjson.Digest `json:"head"`
}

// maxFaults bounds what is listed.
const maxFaults = 100

// AuditCommand is broker audit.
func AuditCommand() cli.Command {
	return cli.Command{Name: "broker audit", About: aboutAudit, Env: cli.Variable, Setup: setupAudit}
}

func setupAudit(fs *flag.FlagSet) cli.Action {
	var db string
	var receipts cli.List
	dbFlag(fs, &db)
	simulated := fs.Bool("simulated", false, "without -db: that of simulated platforms")
	fs.Var(&receipts, "receipt", "receipts `FILE,…` that have to be in the record")
	asJSON := fs.Bool("json", false, "print one JSON object")
	return func(args []string, stdout io.Writer) (bool, error) {
		if len(args) != 0 {
			return false, cli.Usagef("unexpected argument %q", args[0])
		}
		if db == "" {
			dir, err := stateDir(*simulated)
			if err != nil {
				return false, err
			}
			db = filepath.Join(dir, "broker.db")
		}
		var digests [][32]byte
		for _, path := range receipts {
			b, err := cli.ReadFile(path, 64<<10)
			if err != nil {
				return false, err
			}
			digests = append(digests, sha256.Sum256([]byte(strings.TrimSpace(string(b)))))
		}
		a, err := RunAudit(context.Background(), db, digests...)
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
	if a.OK {
		p.Line(cli.Cell{Text: "whole", Style: cli.Good}, cli.Cell{Text: fmt.Sprintf("%d entries, %d releases", a.Entries, a.Releases)})
	} else {
		p.Line(cli.Cell{Text: "damaged", Style: cli.Bad}, cli.Cell{Text: fmt.Sprintf("%d entries, %d releases", a.Entries, a.Releases)})
	}
	var rows [][]cli.Cell
	for _, f := range a.Faults {
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

// RunAudit audits the database that dsn names. receipts are digests that have to be
// in the record.
func RunAudit(ctx context.Context, dsn string, receipts ...[32]byte) (*Audit, error) {
	driver, name := "pgx", dsn
	if !postgres(dsn) {
		path, err := filepath.Abs(dsn)
		if err != nil {
			return nil, err
		}
		driver = "sqlite"
		name = (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro&_pragma=busy_timeout(10000)"}).String()
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		return nil, opening(dsn, err)
	}
	defer db.Close()
	r := &auditor{a: &Audit{Chains: []Chain{}, Faults: []string{}}, released: map[string]string{}, seen: map[[32]byte]bool{}}
	// One snapshot: a broker may write meanwhile.
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: isolation(driver)})
	if err != nil {
		return nil, opening(dsn, err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was changed
	for _, step := range []func(context.Context, *sql.Tx) error{r.entries, r.heads, r.releases, r.uses} {
		if err := step(ctx, tx); err != nil {
			return nil, fmt.Errorf("-db: not a database of a broker: %w", err)
		}
	}
	for _, d := range receipts {
		if !r.seen[d] {
			r.fault("a receipt of digest %s is in no entry", base64URL(d[:]))
		}
	}
	r.a.OK = len(r.a.Faults) == 0
	return r.a, nil
}

func isolation(driver string) sql.IsolationLevel {
	if driver == "pgx" {
		return sql.LevelRepeatableRead
	}
	return sql.LevelDefault
}

// auditor is what was read so far.
type auditor struct {
	a        *Audit
	released map[string]string // what the entry of a release says, by tenant and id
	seen     map[[32]byte]bool // digests of receipts
}

func (r *auditor) fault(format string, args ...any) {
	if len(r.a.Faults) < maxFaults {
		r.a.Faults = append(r.a.Faults, fmt.Sprintf(format, args...))
	}
}

// each calls f for each row of a query.
func each(ctx context.Context, tx *sql.Tx, query string, f func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query)
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

// entries follows every chain.
func (r *auditor) entries(ctx context.Context, tx *sql.Tx) error {
	var last store.RecordEntry
	return each(ctx, tx, "SELECT tenant, chain, seq, generation, time, kind, body, previous, hash FROM entries ORDER BY tenant, chain, seq", func(rows *sql.Rows) error {
		var e store.RecordEntry
		var ms int64
		var previous, hash []byte
		if err := rows.Scan(&e.Tenant, &e.Chain, &e.Seq, &e.Generation, &ms, &e.Kind, &e.Body, &previous, &hash); err != nil {
			return err
		}
		if len(previous) != 32 || len(hash) != 32 {
			return errors.New("a hash of another length")
		}
		e.Time, e.Previous, e.Hash = time.UnixMilli(ms), [32]byte(previous), [32]byte(hash)
		if e.Tenant != last.Tenant || e.Chain != last.Chain {
			last = store.RecordEntry{Entry: teebroker.Entry{Tenant: e.Tenant, Chain: e.Chain}}
			r.a.Chains = append(r.a.Chains, Chain{Tenant: e.Tenant, Chain: e.Chain})
		}
		at := fmt.Sprintf("%s/%s entry %d", e.Tenant, e.Chain, e.Seq)
		if e.Seq != last.Seq+1 {
			r.fault("%s: follows entry %d", at, last.Seq)
		}
		if e.Previous != last.Hash {
			r.fault("%s: not the hash of the one before", at)
		}
		if store.EntryHash(e) != e.Hash {
			r.fault("%s: its content is not what was hashed", at)
		}
		if e.Time.Before(last.Time) || e.Generation < last.Generation {
			r.fault("%s: before the one before", at)
		}
		r.body(at, e)
		last = e
		c := &r.a.Chains[len(r.a.Chains)-1]
		c.Seq, c.Head = e.Seq, e.Hash
		r.a.Entries++
		return nil
	})
}

// body remembers what an entry says of a release.
func (r *auditor) body(at string, e store.RecordEntry) {
	if e.Kind != teebroker.KindRelease && e.Kind != teebroker.KindRedelivery {
		return
	}
	var b struct {
		Receipt       strictjson.Digest `json:"receipt"`
		Release       strictjson.UUID   `json:"release"`
		Request       strictjson.Digest `json:"request"`
		Profile       string            `json:"profile"`
		Instance      strictjson.UUID   `json:"instance"`
		Purpose       string            `json:"purpose"`
		Authorization strictjson.UUID   `json:"authorization"`
		Key           strictjson.Digest `json:"key"`
	}
	if err := strictjson.Unmarshal(e.Body, &b); err != nil {
		r.fault("%s: not the body of a release", at)
		return
	}
	r.seen[b.Receipt] = true
	if e.Kind == teebroker.KindRedelivery {
		return
	}
	id := e.Tenant + "/" + b.Release.String()
	if r.released[id] != "" {
		r.fault("%s: a second entry of release %s", at, id)
	}
	r.released[id] = releaseText(b.Instance, b.Purpose, b.Authorization, b.Key[:])
}

func releaseText(instance [16]byte, purpose string, authorization [16]byte, key []byte) string {
	return fmt.Sprintf("%x %s %x %x", instance, purpose, authorization, key)
}

// heads compares the ends of the chains with the heads that writers go by.
func (r *auditor) heads(ctx context.Context, tx *sql.Tx) error {
	ends := map[string]Chain{}
	for _, c := range r.a.Chains {
		ends[c.Tenant+"/"+string(c.Chain)] = c
	}
	err := each(ctx, tx, "SELECT tenant, chain, seq, hash FROM heads", func(rows *sql.Rows) error {
		var tenant, chain string
		var seq uint64
		var hash []byte
		if err := rows.Scan(&tenant, &chain, &seq, &hash); err != nil {
			return err
		}
		name := tenant + "/" + chain
		if c := ends[name]; c.Seq != seq || string(c.Head[:]) != string(hash) {
			r.fault("%s: the head is of entry %d, and the chain ends with %d, or with another", name, seq, c.Seq)
		}
		delete(ends, name)
		return nil
	})
	for name := range ends {
		r.fault("%s: a chain without a head", name)
	}
	return err
}

// releases compares releases with their entries, one to one.
func (r *auditor) releases(ctx context.Context, tx *sql.Tx) error {
	err := each(ctx, tx, "SELECT tenant, id, instance, purpose, auth, recipient FROM releases", func(rows *sql.Rows) error {
		var tenant, purpose string
		var id, instance, auth, key []byte
		if err := rows.Scan(&tenant, &id, &instance, &purpose, &auth, &key); err != nil {
			return err
		}
		if len(id) != 16 || len(instance) != 16 || len(auth) != 16 {
			return errors.New("an id of another length")
		}
		name := tenant + "/" + strictjson.UUID(id).String()
		switch want := r.released[name]; want {
		case "":
			r.fault("release %s has no entry", name)
		case releaseText([16]byte(instance), purpose, [16]byte(auth), key):
			r.a.Releases++
		default:
			r.fault("release %s: its entry says something else", name)
		}
		delete(r.released, name)
		return nil
	})
	for name := range r.released {
		r.fault("an entry of release %s, which does not exist", name)
	}
	return err
}

// uses compares what was used of authorizations with the keys that used it.
func (r *auditor) uses(ctx context.Context, tx *sql.Tx) error {
	slots := map[string]int{}
	err := each(ctx, tx, "SELECT tenant, auth, count(*) FROM slots GROUP BY tenant, auth", func(rows *sql.Rows) error {
		var tenant string
		var auth []byte
		var n int
		err := rows.Scan(&tenant, &auth, &n)
		slots[tenant+"/"+string(auth)] = n
		return err
	})
	if err != nil {
		return err
	}
	err = each(ctx, tx, "SELECT tenant, id, uses, used FROM authorizations", func(rows *sql.Rows) error {
		var tenant string
		var id []byte
		var uses, used int
		if err := rows.Scan(&tenant, &id, &uses, &used); err != nil {
			return err
		}
		if n := slots[tenant+"/"+string(id)]; n != used || used > uses {
			r.fault("authorization %s/%x: %d keys, %d of %d uses", tenant, id, n, used, uses)
		}
		delete(slots, tenant+"/"+string(id))
		return nil
	})
	if len(slots) > 0 {
		r.fault("%d authorizations that do not exist were used", len(slots))
	}
	return err
}
