package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// head is where a chain ends.
type head struct {
	headRow
	last  store.RecordEntry
	added bool
}

const (
	maxBody = 64 << 10 // bytes of the body of an entry

	// maxRefusals is how many refusals of a tenant are recorded in a minute, by
	// all processes together. Strangers cause them: each takes a nonce.
	maxRefusals = 600
)

// head returns the end of a chain, locked.
func (t *tx) head(k headKey) (*head, error) {
	if h := t.heads[k]; h != nil {
		return h, nil
	}
	seen, err := t.s.seen(k)
	if err != nil {
		return nil, err
	}
	h := &head{}
	var at []byte
	q, args := headAt+t.d.lock, []any{int64(seen.Seq), k.tenant, string(k.chain)}
	found, err := fetch(t, &h.headRow, q, args, &at)
	if err != nil {
		return nil, err
	}
	if !found {
		// Another process that makes it this moment makes this wait, and then there is one.
		first := &headRow{tenant: k.tenant, chain: string(k.chain), generation: int64(t.s.generation), hash: make([]byte, 32)}
		if _, err := t.insertNew(first); err != nil {
			return nil, err
		}
		if found, err = fetch(t, &h.headRow, q, args, &at); err != nil || !found {
			return nil, errors.Join(err, errors.New("no head"))
		}
	}
	switch era := uint64(h.generation); {
	case len(h.hash) != 32:
		return nil, errors.New("head of a chain is damaged")
	case era > t.s.generation, era != t.s.generation && k.chain == teebroker.Decisions:
		// A restore has an entry in the decisions of every tenant.
		return nil, forged(headTable.name)
	}
	h.last = store.RecordEntry{Seq: uint64(h.seq), Time: time.UnixMilli(h.time), Hash: [32]byte(h.hash)}
	if err := t.s.same(k, seen, store.Mark{Seq: h.last.Seq, Hash: h.last.Hash}, at); err != nil {
		return nil, err
	}
	t.heads[k] = h
	return h, nil
}

// next makes e the end of its chain. The caller stores it.
func (t *tx) next(e teebroker.Entry) (store.RecordEntry, error) {
	if len(e.Body) > maxBody {
		return store.RecordEntry{}, errors.New("the body of an entry is too long")
	}
	h, err := t.head(headKey{e.Tenant, e.Chain})
	if err != nil {
		return store.RecordEntry{}, err
	}
	h.last, h.added = h.last.Follow(e, t.s.generation, instant(t.now)), true
	return h.last, nil
}

// add appends e to its chain and returns its number.
func (t *tx) add(e teebroker.Entry) (uint64, error) {
	next, err := t.next(e)
	if err != nil {
		return 0, err
	}
	return next.Seq, t.insert(entryOf(next), wideOf(next)...)
}

func entryOf(e store.RecordEntry) *entryRow {
	return &entryRow{tenant: e.Tenant, chain: string(e.Chain), seq: int64(e.Seq), hash: e.Hash[:]}
}

// wideOf are the columns of e that its hash is over.
func wideOf(e store.RecordEntry) []any {
	return []any{int64(e.Generation), e.Time.UnixMilli(), string(e.Kind), e.Body, e.Previous[:]}
}

// addRefusal is add for what strangers cause: some are left out.
func (t *tx) addRefusal(e teebroker.Entry) error {
	var one int
	known, err := t.row("SELECT 1 FROM tenants WHERE tenant = ?", []any{e.Tenant}, &one)
	if err != nil || !known {
		return err // nobody would read it
	}
	h, err := t.head(headKey{e.Tenant, e.Chain})
	if err != nil {
		return err
	}
	if minute := t.now / int64(time.Minute); h.minute != minute {
		h.minute, h.count = minute, 0
	}
	if h.count >= maxRefusals {
		return nil
	}
	h.count++
	_, err = t.add(e)
	return err
}

// act appends what an owner did.
func (t *tx) act(tenant string, kind teebroker.Kind, a store.Act) (uint64, error) {
	e, err := a.Entry(tenant, kind)
	if err != nil {
		return 0, err
	}
	return t.add(e)
}

// writeHeads stores where the chains end now.
func (t *tx) writeHeads() error {
	keys := make([]headKey, 0, len(t.heads))
	for k, h := range t.heads {
		if h.added {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b headKey) int {
		return strings.Compare(a.tenant+"\x00"+string(a.chain), b.tenant+"\x00"+string(b.chain))
	})
	for _, k := range keys {
		h := t.heads[k]
		row := &h.headRow
		row.generation, row.seq, row.time, row.hash = int64(t.s.generation), int64(h.last.Seq), h.last.Time.UnixMilli(), h.last.Hash[:]
		if err := t.update(row); err != nil {
			return err
		}
	}
	return nil
}

// Record implements [store.Owner].
func (s *Store) Record(ctx context.Context, tenant string, c teebroker.Chain, after uint64, limit int) ([]store.RecordEntry, error) {
	switch {
	case c != teebroker.Decisions && c != teebroker.Refusals:
		return nil, fmt.Errorf("%w: %.40q is not a chain", store.Invalid, string(c))
	case limit < 1 || limit > 1000:
		return nil, fmt.Errorf("%w: a limit of %d, want 1 to 1000", store.Invalid, limit)
	case after >= 1<<63:
		return nil, nil
	}
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var es []store.RecordEntry
	var h headRow
	err = r.each("SELECT "+headTable.as("h")+", "+entryTable.as("e")+`, e.generation, e.time, e.kind, e.body, e.previous FROM (SELECT 1 AS one) x
LEFT JOIN heads h ON h.tenant = ? AND h.chain = ? LEFT JOIN entries e ON e.tenant = ? AND e.chain = ? AND e.seq > ? ORDER BY e.seq LIMIT ?`,
		[]any{tenant, string(c), tenant, string(c), int64(after), limit}, func(row scanner) error {
			e, err := s.scanEntry(row, &h)
			if err == nil && e != nil {
				es = append(es, *e)
			}
			return err
		})
	if err == nil {
		err = s.follows(&h, es, after, limit)
	}
	if err != nil {
		return nil, err
	}
	return es, nil
}

// scanEntry returns an entry, checked, or nil if there is none beside its head.
func (s *Store) scanEntry(row scanner, h *headRow) (*store.RecordEntry, error) {
	var r entryRow
	var generation, ms int64
	var kind string
	var body, previous []byte
	err := row.Scan(append(outer(h, &r), maybe{&generation}, maybe{&ms}, maybe{&kind}, &body, &previous)...)
	if err != nil || !present(&r) {
		return nil, err
	}
	if err := s.rows.check(&r); err != nil {
		return nil, err
	}
	e := &store.RecordEntry{Entry: teebroker.Entry{Chain: teebroker.Chain(r.chain), Tenant: r.tenant, Kind: teebroker.Kind(kind), Body: body}}
	e.Seq, e.Generation, e.Time = uint64(r.seq), uint64(generation), time.UnixMilli(ms).UTC()
	copy(e.Previous[:], previous)
	copy(e.Hash[:], r.hash)
	if len(previous) != 32 || len(r.hash) != 32 || store.EntryHash(*e) != e.Hash {
		return nil, forged(entryTable.name)
	}
	return e, nil
}

// follows returns an error unless es are the entries of a chain after one, without
// gaps and up to its head, or as many as were asked for.
func (s *Store) follows(h *headRow, es []store.RecordEntry, after uint64, limit int) error {
	if present(h) {
		if err := s.rows.check(h); err != nil {
			return err
		}
	} else if len(es) > 0 {
		return forged(headTable.name)
	}
	last := after
	for i, e := range es {
		if e.Seq != last+1 || i > 0 && e.Previous != es[i-1].Hash {
			return forged(entryTable.name)
		}
		last = e.Seq
	}
	head := uint64(h.seq)
	if last > head && last > after || last < head && len(es) < limit || len(es) > 0 && last == head && string(es[len(es)-1].Hash[:]) != string(h.hash) {
		return forged(entryTable.name)
	}
	return nil
}
