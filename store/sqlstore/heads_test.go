package sqlstore_test

import (
	"reflect"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// The ends of all chains at once are those that the records have.
func TestPosition(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) *sqlstore.Store{
		"sqlite":   func(t *testing.T) *sqlstore.Store { return sqlite(t, nil) },
		"postgres": func(t *testing.T) *sqlstore.Store { return open(t, postgresConfig(t, schema(t), nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			p, err := s.Position(t.Context())
			if must(t, p, err); p.Generation != s.Generation() || len(p.Heads) != 0 {
				t.Fatalf("of nothing: %+v", p)
			}
			owned(t, s, "acme", 1)
			owned(t, s, "other", 1)
			e := teebroker.Entry{Chain: teebroker.Refusals, Tenant: "acme", Kind: "refusal", Body: []byte("{}")}
			must(t, 0, s.Refuse(t.Context(), [32]byte{1}, "disk", "denied", e))
			p, err = s.Position(t.Context())
			must(t, p, err)
			var got []store.Head
			for _, h := range []struct {
				tenant string
				chain  teebroker.Chain
			}{{"acme", teebroker.Decisions}, {"acme", teebroker.Refusals}, {"other", teebroker.Decisions}} {
				es, err := s.Record(t.Context(), h.tenant, h.chain, 0, 100)
				if err != nil || len(es) == 0 {
					t.Fatalf("%v, %v", es, err)
				}
				last := es[len(es)-1]
				got = append(got, store.Head{Tenant: h.tenant, Chain: h.chain, Time: last.Time, Mark: store.Mark{Seq: last.Seq, Hash: last.Hash}})
			}
			if !reflect.DeepEqual(p.Heads, got) {
				t.Errorf("%+v, want %+v", p.Heads, got)
			}
		})
	}
}
