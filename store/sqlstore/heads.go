package sqlstore

import (
	"context"
	"errors"
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
	var c clockRow
	err = r.each("SELECT "+clockTable.as("c")+", "+headTable.as("h")+" FROM clock c LEFT JOIN heads h ON h.seq > 0 ORDER BY h.tenant, h.chain", nil, func(row scanner) error {
		var h headRow
		if err := row.Scan(append(dest(&c), outer(&h)...)...); err != nil || !present(&h) {
			return err
		}
		if len(h.hash) != 32 {
			return errors.New("sqlstore: the head of a chain is damaged")
		}
		p.Heads = append(p.Heads, store.Head{
			Tenant: h.tenant, Chain: teebroker.Chain(h.chain), Time: time.UnixMilli(h.time).UTC(),
			Mark: store.Mark{Seq: uint64(h.seq), Hash: [32]byte(h.hash)},
		})
		return s.rows.check(&h)
	})
	if err == nil {
		p.Generation, err = uint64(c.generation), s.rows.check(&c)
	}
	if err != nil {
		return store.Position{}, err
	}
	return p, nil
}
