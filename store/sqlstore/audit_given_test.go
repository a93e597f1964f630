package sqlstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// sign returns a checkpoint of an entry of p, as edit has it.
func (p *party) sign(e store.RecordEntry, key *ecdsa.PrivateKey, edit func(*teebroker.Checkpoint)) sqlstore.Given {
	p.Helper()
	c := teebroker.Checkpoint{Tenant: e.Tenant, Chain: e.Chain, Generation: p.Generation(), Seq: e.Seq, Head: e.Hash, Time: 1}
	edit(&c)
	token, err := c.Sign(key)
	return sqlstore.Given{From: "mine", Token: must(p, token, err)}
}

// The whole database is judged by what others kept of it: a checkpoint has to be on
// its chain, a receipt in its entry.
func TestAuditGiven(t *testing.T) {
	cfg := sqliteConfig(t, filepath.Join(t.TempDir(), "state.db"), nil)
	p := newParty(t, cfg)
	owned(t, p.Store, "acme", 1)
	if err := p.ask("acme", 2); err != nil {
		t.Fatal(err)
	}
	es, err := p.Record(t.Context(), "acme", teebroker.Decisions, 0, 100)
	must(t, 0, err)
	last := es[len(es)-1]
	var receipts []sqlstore.Given
	rows, err := cfg.Read.QueryContext(t.Context(), "SELECT receipt FROM outcomes WHERE seq IS NOT NULL ORDER BY seq")
	must(t, 0, err)
	for rows.Next() {
		g := sqlstore.Given{From: "receipt"}
		must(t, 0, rows.Scan(&g.Token))
		receipts = append(receipts, g)
	}
	if err := rows.Err(); err != nil || len(receipts) != 2 {
		t.Fatal(len(receipts), err)
	}
	audit := func(checkpoints, receipts []sqlstore.Given) sqlstore.Audited {
		t.Helper()
		got, err := sqlstore.Audit(t.Context(), sqlstore.AuditConfig{Dialect: cfg.Dialect, DB: cfg.Read, Broker: p.ID(), Checkpoints: checkpoints, Receipts: receipts})
		return must(t, got, err)
	}
	same := func(*teebroker.Checkpoint) {}
	stored := p.sign(es[2], p.identity, same)
	v, err := teebroker.VerifyCheckpoint(stored.Token, p.ID())
	must(t, v, err)
	must(t, 0, p.PutCheckpoints(t.Context(), []store.Checkpoint{{Checkpoint: v, Token: stored.Token}}))
	got := audit([]sqlstore.Given{p.sign(es[0], p.identity, same), p.sign(last, p.identity, same)}, receipts)
	if len(got.Problems) > 0 || len(got.Notes) > 0 || got.Checkpoints != 3 || got.Receipts != 2 {
		t.Fatalf("%+v", got)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, other, err)
	for name, tt := range map[string]struct {
		key  *ecdsa.PrivateKey
		edit func(*teebroker.Checkpoint)
		want string
	}{
		"an entry that is not there": {p.identity, func(c *teebroker.Checkpoint) { c.Seq++ }, "mine: entry 7 of decisions of tenant acme was seen, and is missing or another one"},
		"another entry":              {p.identity, func(c *teebroker.Checkpoint) { c.Head[0]++ }, "mine: entry 6 of decisions"},
		"another chain":              {p.identity, func(c *teebroker.Checkpoint) { c.Chain = teebroker.Refusals }, "mine: entry 6 of refusals"},
		"another tenant":             {p.identity, func(c *teebroker.Checkpoint) { c.Tenant = "other" }, "of tenant other was seen"},
		"another broker":             {other, same, "mine: teebroker: not a checkpoint of this broker"},
		"a later generation":         {p.identity, func(c *teebroker.Checkpoint) { c.Generation = 2 }, "were seen in generation 2, and the database is of 1"},
	} {
		got := audit([]sqlstore.Given{p.sign(last, p.identity, same), p.sign(last, tt.key, tt.edit)}, nil)
		if len(got.Problems) != 1 || !strings.Contains(got.Problems[0], tt.want) {
			t.Errorf("%s: %q", name, got.Problems)
		}
	}
	for name, g := range map[string]sqlstore.Given{
		"garbage":      {From: "it", Token: []byte("x")},
		"a checkpoint": p.sign(last, p.identity, same),
	} {
		if got := audit(nil, []sqlstore.Given{g, receipts[0]}); len(got.Problems) != 1 || got.Receipts != 1 {
			t.Errorf("%s as a receipt: %+v", name, got)
		}
	}
	p.exec(cfg.Read, "UPDATE checkpoints SET token = x'00'")
	if got := audit(nil, nil); len(got.Problems) != 1 || !strings.Contains(got.Problems[0], "a checkpoint in the database: ") {
		t.Errorf("a checkpoint in the database that nobody signed: %q", got.Problems)
	}
}

// What a restore lost is noted where the restore was signed, and is a problem where
// somebody only wrote a number into the database. A receipt that was lost is missing
// in any case.
func TestAuditRestored(t *testing.T) {
	cfg := sqliteConfig(t, filepath.Join(t.TempDir(), "state.db"), nil)
	p := newParty(t, cfg)
	owned(t, p.Store, "acme", 1)
	es, err := p.Record(t.Context(), "acme", teebroker.Decisions, 0, 100)
	must(t, 0, err)
	last := es[len(es)-1]
	lost := p.sign(last, p.identity, func(c *teebroker.Checkpoint) { c.Seq += 5 })
	kept := p.sign(last, p.identity, func(*teebroker.Checkpoint) {})
	begun := p.sign(last, p.identity, func(c *teebroker.Checkpoint) { c.Generation = 2 })
	p.exec(cfg.Read, "UPDATE clock SET generation = 2")
	audit := func(given ...sqlstore.Given) sqlstore.Audited {
		t.Helper()
		got, err := sqlstore.Audit(t.Context(), sqlstore.AuditConfig{Dialect: cfg.Dialect, DB: cfg.Read, Broker: p.ID(), Checkpoints: given})
		return must(t, got, err)
	}
	if got := audit(lost, kept); len(got.Problems) != 1 || len(got.Notes) != 0 {
		t.Errorf("a number in the database: %+v", got)
	}
	got := audit(lost, kept, begun)
	if len(got.Problems) != 0 || !slices.Equal(got.Notes, []string{"mine: decisions of tenant acme up to entry 9 of generation 1 were seen; the restore as generation 2 lost some"}) {
		t.Errorf("%+v", got)
	}
}
