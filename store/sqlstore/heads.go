package sqlstore

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// Position returns the ends of all chains as they are at one instant.
func (s *Store) Position(ctx context.Context) (store.Position, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return store.Position{}, err
	}
	var p store.Position
	err = r.each(`SELECT m.value, coalesce(h.tenant, ''), coalesce(h.chain, ''), coalesce(h.seq, 0), coalesce(h.time, 0), h.hash
FROM meta m LEFT JOIN heads h ON h.seq > 0 WHERE m.name = 'generation' ORDER BY h.tenant, h.chain`, nil, func(r scanner) error {
		var h store.Head
		var chain string
		var generation, hash []byte
		var seq, ms int64
		if err := r.Scan(&generation, &h.Tenant, &chain, &seq, &ms, &hash); err != nil {
			return err
		}
		var err error
		if p.Generation, err = strconv.ParseUint(string(generation), 10, 63); err != nil || seq == 0 {
			return err
		}
		if len(hash) != 32 {
			return errors.New("sqlstore: the head of a chain is damaged")
		}
		h.Chain, h.Seq, h.Time, h.Hash = teebroker.Chain(chain), uint64(seq), time.UnixMilli(ms).UTC(), [32]byte(hash)
		p.Heads = append(p.Heads, h)
		return nil
	})
	if err == nil && p.Generation == 0 {
		err = errors.New("sqlstore: the generation of the database is damaged")
	}
	if err != nil {
		return store.Position{}, err
	}
	return p, nil
}
