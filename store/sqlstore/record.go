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
	last          store.RecordEntry
	minute, count int64
	added         bool
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
	var seq, ms int64
	var hash, at []byte
	q, args := headRow+t.d.lock, []any{int64(seen.Seq), k.tenant, string(k.chain)}
	found, err := t.row(q, args, &seq, &ms, &hash, &h.minute, &h.count, &at)
	if err != nil {
		return nil, err
	}
	if !found {
		// Whoever else begins it makes this wait, and then there is one.
		if _, err := t.exec("INSERT INTO heads (tenant, chain, seq, time, hash, minute, count) VALUES (?, ?, 0, 0, ?, 0, 0) ON CONFLICT DO NOTHING",
			k.tenant, string(k.chain), make([]byte, 32)); err != nil {
			return nil, err
		}
		if found, err = t.row(q, args, &seq, &ms, &hash, &h.minute, &h.count, &at); err != nil || !found {
			return nil, errors.Join(err, errors.New("no head"))
		}
	}
	if len(hash) != 32 {
		return nil, errors.New("head of a chain is damaged")
	}
	h.last = store.RecordEntry{Seq: uint64(seq), Time: time.UnixMilli(ms), Hash: [32]byte(hash)}
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
	_, err = t.exec("INSERT INTO entries (tenant, chain, seq, generation, time, kind, body, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		e.Tenant, string(e.Chain), int64(next.Seq), int64(next.Generation), next.Time.UnixMilli(), string(e.Kind), e.Body, next.Previous[:], next.Hash[:])
	return next.Seq, err
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
		n, err := t.exec("UPDATE heads SET seq = ?, time = ?, hash = ?, minute = ?, count = ? WHERE tenant = ? AND chain = ?",
			int64(h.last.Seq), h.last.Time.UnixMilli(), h.last.Hash[:], h.minute, h.count, k.tenant, string(k.chain))
		if err != nil || n != 1 {
			return errors.Join(err, fmt.Errorf("%d heads", n))
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
	err = r.each("SELECT seq, generation, time, kind, body, previous, hash FROM entries WHERE tenant = ? AND chain = ? AND seq > ? ORDER BY seq LIMIT ?",
		[]any{tenant, string(c), int64(after), limit}, func(r scanner) error {
			e := store.RecordEntry{Entry: teebroker.Entry{Chain: c, Tenant: tenant}}
			var seq, generation, ms int64
			var kind string
			var previous, hash []byte
			if err := r.Scan(&seq, &generation, &ms, &kind, &e.Body, &previous, &hash); err != nil {
				return err
			}
			if len(previous) != 32 || len(hash) != 32 {
				return errors.New("sqlstore: an entry is damaged")
			}
			e.Seq, e.Generation, e.Time = uint64(seq), uint64(generation), time.UnixMilli(ms).UTC()
			e.Kind, e.Previous, e.Hash = teebroker.Kind(kind), [32]byte(previous), [32]byte(hash)
			es = append(es, e)
			return nil
		})
	return es, err
}
