package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
)

// recorder notes that a check failed.
type recorder struct {
	mu     sync.Mutex
	failed []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failing returns the checks that a Store made by wrap fails: of all, or of the one
// called only.
func failing(t *testing.T, wrap func(*memory.Owner) Store, slow func(func() time.Time) func() time.Time, only string) map[string]bool {
	failed := map[string]bool{}
	for _, c := range checks {
		if only != "" && c.name != only {
			continue
		}
		r := &recorder{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.run(newWorld(t.Context(), r, t, func(t testing.TB, clock func() time.Time) Store {
				if slow != nil {
					clock = slow(clock)
				}
				return wrap(memory.New(clock).Owner(Decoders()))
			}))
		}()
		<-done
		if len(r.failed) > 0 {
			failed[c.name] = true
		}
	}
	return failed
}

type (
	forgetsNonces  struct{ *memory.Owner }
	countsTwice    struct{ *memory.Owner }
	leaksTenants   struct{ *memory.Owner }
	leaksSecrets   struct{ *memory.Owner }
	anyPurpose     struct{ *memory.Owner }
	anyGeneration  struct{ *memory.Owner }
	closedWindows  struct{ *memory.Owner }
	keepsRevoked   struct{ *memory.Owner }
	keepsDeleted   struct{ *memory.Owner }
	keepsForever   struct{ *memory.Owner }
	gapsInRecord   struct{ *memory.Owner }
	noConflicts    struct{ *memory.Owner }
	noRefusals     struct{ *memory.Owner }
	refusesLast    struct{ *memory.Owner }
	noRedelivery   struct{ *memory.Owner }
	otherReceipts  struct{ *memory.Owner }
	anyChip        struct{ *memory.Owner }
	tokensForever  struct{ *memory.Owner }
	decidesAnyhow  struct{ *memory.Owner }
	sharesPolicies struct {
		*memory.Owner
		doc []byte
	}
)

func (s forgetsNonces) Redeem(ctx context.Context, n nonce.Nonce, r [32]byte, expiry time.Time) error {
	n[31] = r[0] // one for each request
	return s.Owner.Redeem(ctx, n, r, expiry)
}

func (s countsTwice) Authorize(ctx context.Context, a teebroker.Authorization) (teebroker.Authorization, error) {
	a.Uses = 2 * max(a.Uses, 1)
	a, err := s.Owner.Authorize(ctx, a)
	a.Uses /= 2
	return a, err
}

func (s leaksTenants) Policy(ctx context.Context, tenant, name string) ([]byte, error) {
	doc, err := s.Owner.Policy(ctx, tenant, name)
	if errors.Is(err, store.NotFound) {
		return s.Owner.Policy(ctx, other, name)
	}
	return doc, err
}

func (s leaksSecrets) Secret(ctx context.Context, inst teebroker.Instance, purpose string) ([]byte, error) {
	inst.Tenant = tenant
	return s.Owner.Secret(ctx, inst, purpose)
}

func (s anyPurpose) Outcome(ctx context.Context, request [32]byte, purpose string) (teebroker.Outcome, bool, error) {
	o, ok, err := s.Owner.Outcome(ctx, request, purpose)
	if !ok && err == nil {
		return s.Owner.Outcome(ctx, request, "disk")
	}
	return o, ok, err
}

func (s anyGeneration) current(g teebroker.Grant) teebroker.Grant {
	if status, err := s.Status(context.Background(), g.Tenant, g.Instance); err == nil {
		g.Generation = status.Generation
	}
	return g
}

func (s anyGeneration) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	return s.Owner.Check(ctx, s.current(g))
}

func (s anyGeneration) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (teebroker.Response, error) {
	return s.Owner.Commit(ctx, s.current(g), r, e)
}

func (s closedWindows) Authorize(ctx context.Context, a teebroker.Authorization) (teebroker.Authorization, error) {
	if !a.NotAfter.IsZero() {
		a.NotAfter = a.NotAfter.Add(1)
	}
	return s.Owner.Authorize(ctx, a)
}

func (s keepsRevoked) Revoke(ctx context.Context, tenant string, id, a [16]byte) error { return nil }

func (s keepsDeleted) Delete(ctx context.Context, tenant string, id [16]byte) error { return nil }

func (s keepsForever) Put(ctx context.Context, id string, value []byte, expiry time.Time) error {
	return s.Owner.Put(ctx, id, value, expiry.Add(time.Hour))
}

func (s gapsInRecord) Record(ctx context.Context, tenant string, c teebroker.Chain, after uint64, limit int) ([]store.RecordEntry, error) {
	es, err := s.Owner.Record(ctx, tenant, c, after, limit)
	if len(es) > 2 {
		es = append(es[:1], es[2:]...)
	}
	return es, err
}

func (s noConflicts) Register(ctx context.Context, tenant string, id [16]byte, r store.Registration) (store.Status, error) {
	status, err := s.Owner.Register(ctx, tenant, id, r)
	if errors.Is(err, store.Conflict) {
		err = nil
	}
	return status, err
}

func (s noRefusals) Refuse(ctx context.Context, request [32]byte, purpose, code string, e teebroker.Entry) error {
	return nil
}

func (s refusesLast) Refuse(ctx context.Context, request [32]byte, purpose, code string, e teebroker.Entry) error {
	return s.Owner.Refuse(ctx, request, "", code, e)
}

func (s noRedelivery) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	t, err := s.Owner.Check(ctx, g)
	t.Sealed = []byte("another")
	return t, err
}

func (s otherReceipts) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (teebroker.Response, error) {
	stored, err := s.Owner.Commit(ctx, g, r, e)
	if err == nil {
		stored.Receipt = r.Receipt
	}
	return stored, err
}

func (s anyChip) Authorize(ctx context.Context, a teebroker.Authorization) (teebroker.Authorization, error) {
	if len(a.Chips) > 0 {
		a.Chips = nil
	}
	return s.Owner.Authorize(ctx, a)
}

func (s tokensForever) RemoveToken(ctx context.Context, token [32]byte) error { return nil }

// decidesAnyhow does not check again.
func (s decidesAnyhow) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (teebroker.Response, error) {
	terms, err := s.Check(ctx, g)
	if err == nil {
		g.Authorization = terms.Authorization
	}
	return s.Owner.Commit(ctx, g, r, e)
}

func (s *sharesPolicies) Policy(ctx context.Context, tenant, name string) ([]byte, error) {
	if s.doc != nil && name == "base" {
		return s.doc, nil
	}
	doc, err := s.Owner.Policy(ctx, tenant, name)
	s.doc = doc
	return doc, err
}

// A Store that breaks a promise fails the check of it, and no other Store does.
func TestBroken(t *testing.T) {
	if failed := failing(t, func(o *memory.Owner) Store { return o }, nil, ""); len(failed) > 0 {
		t.Fatalf("a good store fails %v", failed)
	}
	forward := func(clock func() time.Time) func() time.Time {
		var latest time.Time
		var mu sync.Mutex
		return func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			if now := clock(); now.After(latest) {
				latest = now
			}
			return latest
		}
	}
	if failed := failing(t, func(o *memory.Owner) Store { return o }, forward, "clock"); !failed["clock"] {
		t.Errorf("goes on when the clock runs backwards")
	}
	for what, tt := range map[string]struct {
		check string
		wrap  func(*memory.Owner) Store
	}{
		"a nonce for each request":        {"nonce race", func(o *memory.Owner) Store { return forgetsNonces{o} }},
		"twice the uses":                  {"slots", func(o *memory.Owner) Store { return countsTwice{o} }},
		"another tenant's policy":         {"tenants", func(o *memory.Owner) Store { return leaksTenants{o} }},
		"another tenant's secret":         {"tenants", func(o *memory.Owner) Store { return leaksSecrets{o} }},
		"another purpose's outcome":       {"purposes", func(o *memory.Owner) Store { return anyPurpose{o} }},
		"any generation":                  {"authorization", func(o *memory.Owner) Store { return anyGeneration{o} }},
		"a window that is closed":         {"window", func(o *memory.Owner) Store { return closedWindows{o} }},
		"revoked and served":              {"revoke", func(o *memory.Owner) Store { return keepsRevoked{o} }},
		"deleted and there":               {"delete", func(o *memory.Owner) Store { return keepsDeleted{o} }},
		"kept too long":                   {"kept", func(o *memory.Owner) Store { return keepsForever{o} }},
		"a gap in the record":             {"record", func(o *memory.Owner) Store { return gapsInRecord{o} }},
		"launch claims of two":            {"launch claims", func(o *memory.Owner) Store { return noConflicts{o} }},
		"refusals forgotten":              {"refuse", func(o *memory.Owner) Store { return noRefusals{o} }},
		"refusals of no purpose":          {"refused first", func(o *memory.Owner) Store { return refusesLast{o} }},
		"other bytes redelivered":         {"stored bytes", func(o *memory.Owner) Store { return noRedelivery{o} }},
		"receipts not those stored":       {"race of requests", func(o *memory.Owner) Store { return otherReceipts{o} }},
		"chips not compared":              {"authorization", func(o *memory.Owner) Store { return anyChip{o} }},
		"tokens for ever":                 {"tokens", func(o *memory.Owner) Store { return tokensForever{o} }},
		"another authorization committed": {"again", func(o *memory.Owner) Store { return decidesAnyhow{o} }},
		"dead blobs taken":                {"epoch clones", func(o *memory.Owner) Store { return anyBlob{o} }},
		"keys of long ago":                {"epoch kept", func(o *memory.Owner) Store { return keepsKeys{o} }},
		"superseded and checkpointed":     {"epoch closed", func(o *memory.Owner) Store { return confirmsAnyhow{o} }},
		"superseded and confirmed":        {"epoch clones", func(o *memory.Owner) Store { return confirmsAnyhow{o} }},
		"another receipt of a confirm":    {"epoch confirm", func(o *memory.Owner) Store { return otherConfirms{o} }},
		"open after a confirm":            {"epoch confirm", func(o *memory.Owner) Store { return staysOpen{o} }},
		"not held":                        {"epoch owner", func(o *memory.Owner) Store { return holdsNothing{o} }},
		"the slot of a recovery":          {"epoch recover", func(o *memory.Owner) Store { return otherSlot{o} }},
		"superseded and shown as live":    {"epoch shown", func(o *memory.Owner) Store { return showsForEver{o} }},
		"the wrapped key of another":      {"epoch table", func(o *memory.Owner) Store { return noCopy{o} }},
		"an agent registers twice":        {"identity race", func(o *memory.Owner) Store { return registersTwice{o} }},
		"a TPM in any place":              {"identity places", func(o *memory.Owner) Store { return anyPlace{o} }},
		"AKs of what is held":             {"identity held", func(o *memory.Owner) Store { return heldAndActive{o} }},
		"an EK not kept":                  {"identity confirm", func(o *memory.Owner) Store { return namesNoEK{o} }},
		"an EK that was superseded":       {"identity ephemeral", func(o *memory.Owner) Store { return keepsOldEKs{o} }},
		"another tenant's EK":             {"identity tenants", func(o *memory.Owner) Store { return anyTenantsEK{o} }},
		"retired by no order":             {"orders", func(o *memory.Owner) Store { return anyOrder{o} }},
		"orders of blobs lost":            {"orders stored", func(o *memory.Owner) Store { return losesOrders{o} }},
		"what was authorized lost":        {"orders stored", func(o *memory.Owner) Store { return losesTerms{o} }},
		"an order taken twice":            {"order once", func(o *memory.Owner) Store { return ordersTwice{o} }},
		"another owner key by itself":     {"owner keys", func(o *memory.Owner) Store { return anyOwner{o} }},
		"a document by any order":         {"shared policy", func(o *memory.Owner) Store { return anysDocument{o} }},
		"documents shared":                {"copies", func(o *memory.Owner) Store { return &sharesPolicies{Owner: o} }},
	} {
		if failed := failing(t, tt.wrap, nil, tt.check); !failed[tt.check] {
			t.Errorf("%s: passes %q", what, tt.check)
		}
	}
}
