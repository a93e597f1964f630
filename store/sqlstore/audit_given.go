package sqlstore

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strconv"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// Given is a checkpoint or a receipt that somebody kept, a compact JWS, and From
// where it is, for what is reported of it.
type Given struct {
	From  string
	Token []byte
}

// given are what was given, by what it is about.
type given struct {
	generation  uint64 // of the database
	restored    bool   // a checkpoint of this generation is there
	checkpoints map[headKey]map[uint64][]*givenCheckpoint
	order       []*givenCheckpoint
	receipts    map[[32]byte]*givenReceipt
}

type givenCheckpoint struct {
	store.Checkpoint
	from string
	on   bool // the chain
}

type givenReceipt struct {
	from     string
	kind     teebroker.Kind
	recorded bool
}

// take verifies what was given, and the checkpoints in the database. What is not of
// this broker is a problem.
func (a *audit) take(cfg AuditConfig) error {
	a.given = given{checkpoints: map[headKey]map[uint64][]*givenCheckpoint{}, receipts: map[[32]byte]*givenReceipt{}}
	var generation int64
	if _, err := a.row("SELECT generation FROM clock", &generation); err != nil {
		return err
	}
	if a.generation = uint64(generation); generation <= 0 {
		return errors.New("the generation of the database is damaged")
	}
	all := slices.Clone(cfg.Checkpoints)
	rows, err := a.x.query(a.ctx, "SELECT token FROM checkpoints ORDER BY tenant, chain")
	if err != nil {
		return err
	}
	err = scanAll(rows, func(r scanner) error {
		g := Given{From: "a checkpoint in the database"}
		err := r.Scan(&g.Token)
		all = append(all, g)
		return err
	})
	if err != nil {
		return err
	}
	for _, g := range all {
		a.takeCheckpoint(g)
	}
	for _, g := range cfg.Receipts {
		r, err := teebroker.VerifyReceipt(g.Token, a.broker)
		if err != nil {
			a.problem("%s: %v", g.From, err)
			continue
		}
		a.receipts[sha256.Sum256(g.Token)] = &givenReceipt{from: g.From, kind: r.Kind}
	}
	return nil
}

func (a *audit) takeCheckpoint(g Given) {
	v, err := teebroker.VerifyCheckpoint(g.Token, a.broker)
	if err != nil {
		a.problem("%s: %v", g.From, err)
		return
	}
	c := &givenCheckpoint{store.Checkpoint{Checkpoint: v, Token: g.Token}, g.From, false}
	key := headKey{c.Tenant, c.Chain}
	if a.checkpoints[key] == nil {
		a.checkpoints[key] = map[uint64][]*givenCheckpoint{}
	}
	a.checkpoints[key][c.Seq] = append(a.checkpoints[key][c.Seq], c)
	a.order = append(a.order, c)
	a.restored = a.restored || c.Generation == a.generation
}

// match compares an entry with what was given.
func (a *audit) match(e audited) {
	for _, c := range a.checkpoints[headKey{e.Tenant, e.Chain}][e.Seq] {
		c.on = c.on || c.Head == e.Hash && e.Generation <= c.Generation
	}
	if len(a.receipts) == 0 || e.Chain != teebroker.Decisions {
		return
	}
	members, err := strictjson.Members(e.Body)
	if err != nil {
		return // said elsewhere, where it matters
	}
	var d strictjson.Digest
	if text, ok := members["receipt"]; ok && strictjson.Unmarshal(text, &d) == nil {
		if r := a.receipts[d]; r != nil && r.kind == e.Kind {
			r.recorded = true
		}
	}
}

// judge says what of that which was given is not in the database. What was signed
// in an earlier generation may have been lost by a restore, which is told apart
// from a database that was put back silently by a checkpoint of the new one.
func (a *audit) judge() error {
	for _, c := range a.order {
		switch {
		case c.Generation > a.generation:
			a.problem("%s: %s of tenant %s were seen in generation %d, and the database is of %d", c.from, c.Chain, c.Tenant, c.Generation, a.generation)
		case c.on:
			a.Checkpoints++
		case c.Generation < a.generation && a.restored:
			a.Notes = append(a.Notes, c.from+": "+string(c.Chain)+" of tenant "+c.Tenant+" up to entry "+strconv.FormatUint(c.Seq, 10)+
				" of generation "+strconv.FormatUint(c.Generation, 10)+" were seen; the restore as generation "+strconv.FormatUint(a.generation, 10)+" lost some")
		default:
			a.problem("%s: entry %d of %s of tenant %s was seen, and is missing or another one", c.from, c.Seq, c.Chain, c.Tenant)
		}
	}
	names := make([]string, 0, len(a.receipts))
	for _, r := range a.receipts {
		if r.recorded {
			a.Receipts++
		} else {
			names = append(names, r.from)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		a.problem("%s: a receipt that is in no entry", name)
	}
	return nil
}
