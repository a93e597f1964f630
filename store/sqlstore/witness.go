package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// headAt follows the columns of the end of a chain: it asks for the hash of its
// entry with a number as well, one look at two primary keys.
const headAt = `, (SELECT e.hash FROM entries e WHERE e.tenant = x.tenant AND e.chain = x.chain AND e.seq = ?) FROM heads x WHERE x.tenant = ? AND x.chain = ?`

// seen asks the Witness, if there is one.
func (s *Store) seen(k headKey) (store.Mark, error) {
	if s.cfg.Witness == nil {
		return store.Mark{}, nil
	}
	return s.cfg.Witness.Seen(k.tenant, k.chain)
}

// same returns an error unless a chain that ends at head has what was seen: at
// seen.Seq, there is an entry with the hash at.
func (s *Store) same(k headKey, seen, head store.Mark, at []byte) error {
	if seen.Seq == 0 || head.Seq >= seen.Seq && string(at) == string(seen.Hash[:]) && (head.Seq > seen.Seq || head.Hash == seen.Hash) {
		return nil
	}
	err := s.cfg.Witness.Differs(k.tenant, k.chain, seen, head)
	if err == nil {
		err = errors.New("sqlstore: not the chain that was seen")
	}
	return err
}

// witnessed returns an error unless the decisions of tenant are those that were
// seen, for what is answered out of the database and adds no entry.
func (s *Store) witnessed(q querier, tenant string) error {
	k := headKey{tenant, teebroker.Decisions}
	seen, err := s.seen(k)
	if err != nil || seen.Seq == 0 {
		return err
	}
	var h headRow
	var head store.Mark
	var at []byte
	if _, err := fetch(q, &h, headAt, []any{int64(seen.Seq), k.tenant, string(k.chain)}, &at); err != nil {
		return err
	}
	head.Seq = uint64(h.seq)
	copy(head.Hash[:], h.hash)
	return s.same(k, seen, head, at)
}

// committed tells the Witness how far the chains came.
func (t *tx) committed() {
	if t.s.cfg.Witness == nil {
		return
	}
	for k, h := range t.heads {
		if h.added {
			t.s.cfg.Witness.Committed(k.tenant, k.chain, store.Mark{Seq: h.last.Seq, Hash: h.last.Hash})
		}
	}
}

// Checkpoints returns the newest checkpoints that any process stored, as they were
// signed, of tenant or if it is "" of all. Nothing was verified of them.
func (s *Store) Checkpoints(ctx context.Context, tenant string) ([][]byte, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var tokens [][]byte
	err = r.each("SELECT token FROM checkpoints WHERE ? = '' OR tenant = ? ORDER BY tenant, chain", []any{tenant, tenant}, func(r scanner) error {
		var token []byte
		err := r.Scan(&token)
		tokens = append(tokens, token)
		return err
	})
	return tokens, err
}

// maxToken bounds a stored checkpoint, in bytes.
const maxToken = 4 << 10

// PutCheckpoints stores checkpoints for other processes and for owners, each
// unless there is a later one of its chain.
func (s *Store) PutCheckpoints(ctx context.Context, cs []store.Checkpoint) error {
	cs = slices.Clone(cs)
	slices.SortFunc(cs, func(a, b store.Checkpoint) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Chain, b.Chain))
	})
	for _, c := range cs {
		if c.Seq == 0 || c.Seq >= 1<<63 || c.Generation >= 1<<63 || len(c.Token) == 0 || len(c.Token) > maxToken {
			return fmt.Errorf("%w: not a checkpoint", store.Invalid)
		}
	}
	if len(cs) == 0 {
		return nil
	}
	return s.do(ctx, &job{order: "checkpoints", run: func(t *tx) error {
		for _, c := range cs {
			_, err := t.exec(`INSERT INTO checkpoints (tenant, chain, generation, seq, token) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, chain) DO UPDATE SET generation = excluded.generation, seq = excluded.seq, token = excluded.token
WHERE checkpoints.generation < excluded.generation OR checkpoints.generation = excluded.generation AND checkpoints.seq < excluded.seq`,
				c.Tenant, string(c.Chain), int64(c.Generation), int64(c.Seq), c.Token)
			if err != nil {
				return err
			}
		}
		return nil
	}})
}
