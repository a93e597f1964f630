package v1_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// checkpoints are what a test says they are.
type checkpoints struct {
	of      map[string][][]byte
	err     error
	stopped error
}

func (c *checkpoints) Newest(_ context.Context, tenant string) ([][]byte, error) {
	return c.of[tenant], c.err
}

func (c *checkpoints) Stopped() error { return c.stopped }

// An owner gets the newest checkpoints of its own tenant with the record, and
// whoever looks after the broker is told when nothing is released.
func TestRecordCheckpoints(t *testing.T) {
	cs := &checkpoints{of: map[string][][]byte{"acme": {[]byte("a.b.c"), []byte("d.e.f")}, "other": {[]byte("g.h.i")}}}
	o := newOwned(t, func(c *v1.Config) { c.Checkpoints = cs })
	o.provision()
	r, err := o.acme.Record(t.Context(), teebroker.Decisions, 0)
	if err != nil || r.Tenant != "acme" || len(r.Entries) == 0 || !slices.Equal(r.Checkpoints, []string{"a.b.c", "d.e.f"}) {
		t.Errorf("%+v, %v", r, err)
	}
	metric := func() string {
		resp, err := http.Get(o.http.URL + v1.PathMetrics)
		o.check(err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		o.check(err)
		_, after, _ := strings.Cut(string(b), "\nteebroker_stopped ")
		return strings.TrimSpace(after)
	}
	if m, err := metric(), o.acme.Ready(t.Context()); m != "0" || err != nil {
		t.Errorf("%q, %v", m, err)
	}
	cs.stopped = errors.New("seen at 7")
	err = o.acme.Ready(t.Context())
	if m := metric(); m != "1" || code(err) != "unavailable" || !strings.Contains(err.Error(), "the record is not the one that was seen") || strings.Contains(err.Error(), "seen at 7") {
		t.Errorf("%q, %v", m, err)
	}
	if r, err := o.acme.Record(t.Context(), teebroker.Decisions, 0); err != nil || len(r.Checkpoints) != 2 {
		t.Errorf("what an owner has to see then: %+v, %v", r, err)
	}
	cs.err = errors.New("no disk")
	if _, err := o.acme.Record(t.Context(), teebroker.Decisions, 0); code(err) != "unavailable" {
		t.Error(err)
	}
	if r, err := newOwned(t, nil).acme.Record(t.Context(), teebroker.Refusals, 0); err != nil || r.Checkpoints == nil || len(r.Checkpoints) != 0 {
		t.Errorf("a broker that makes none: %+v, %v", r, err)
	}
}
