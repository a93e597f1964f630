// Package storetest holds stores to their contracts: the comments of
// nonce.Store, of the interfaces in package teebroker, and of package store.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB, clock func() time.Time) storetest.Store {
//			return open(t, clock, storetest.Decoders())
//		})
//	}
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
)

// Store is everything that a store is.
type Store interface {
	teebroker.Directory
	teebroker.Secrets
	teebroker.Ledger
	teebroker.Releases
	teebroker.Kept
	nonce.Store
	store.Owner
	store.Tenants
	store.Identities
}

// Decoders are what a Store that is tested has to know of policy documents.
func Decoders() policy.Decoders {
	return policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)}
}

// Run runs every test. Open returns a new and empty Store with this clock, which
// tests move, and has t clean up after it.
func Run(t *testing.T, open func(t testing.TB, clock func() time.Time) Store) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(newWorld(t.Context(), t, t, open)) })
	}
}

// checks are the tests, by what they are about.
var checks = []struct {
	name string
	run  func(*world)
}{
	{"nonce", redeem},
	{"nonce race", redeemRace},
	{"clock", clockBackwards},
	{"kept", kept},
	{"authorization", authorizations},
	{"window", windows},
	{"slots", slots},
	{"key for ever", keyForever},
	{"change", changes},
	{"stored bytes", storedBytes},
	{"purposes", purposes},
	{"again", again},
	{"refuse", refuse},
	{"refused first", refusedFirst},
	{"revoke", revoke},
	{"race of keys", raceOfKeys},
	{"race of requests", raceOfRequests},
	{"register", register},
	{"invalid", invalid},
	{"policies", policies},
	{"secrets", secrets},
	{"blobs", blobs},
	{"delete", deletes},
	{"launch claims", launchClaims},
	{"directory", directory},
	{"states", states},
	{"tenants", tenants},
	{"tokens", tokens},
	{"copies", copies},
	{"record", record},
	{"record race", recordRace},
	{"refusals", refusals},
	{"canceled", canceled},
	{"epoch table", epochTable},
	{"epoch confirm", epochConfirm},
	{"epoch slots", epochSlots},
	{"epoch clones", epochClones},
	{"epoch checkpoints", epochCheckpoints},
	{"epoch owner", epochOwner},
	{"epoch recover", epochRecover},
	{"epoch race", epochRace},
	{"epoch kept", epochKept},
	{"epoch closed", epochClosed},
	{"identity", identities},
	{"identity confirm", identityConfirm},
	{"identity held", identityHeld},
	{"identity places", identityPlaces},
	{"identity ephemeral", identityEphemeral},
	{"identity agent", identityAgent},
	{"identity race", identityRace},
	{"identity tenants", identityTenants},
	{"epoch shown", epochShown},
	{"orders", orders},
	{"order once", orderOnce},
	{"orders stored", ordersStored},
	{"owner keys", ownerKeys},
	{"shared policy", sharedPolicy},
}

// failer is what a check needs of a testing.TB.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// world is a Store, the clock it has, and who fails.
type world struct {
	failer
	Store
	ctx context.Context

	mu  sync.Mutex
	now time.Time
}

func newWorld(ctx context.Context, f failer, t testing.TB, open func(testing.TB, func() time.Time) Store) *world {
	w := &world{failer: f, ctx: ctx, now: time.Date(2026, 1, 1, 0, 0, 30, 0, time.UTC)}
	w.Store = open(t, w.time)
	return w
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%v", err)
	}
}

// want fails unless err is one of wanted, of which nil is no error.
func (w *world) want(what string, err, wanted error) {
	w.Helper()
	if wanted == nil && err != nil || wanted != nil && !errors.Is(err, wanted) {
		w.Errorf("%s: %v, want %v", what, err, wanted)
	}
}

const (
	tenant = "acme"
	other  = "other"
)

var instance = [16]byte{1}

// document is a policy that names measurement n.
func document(scope string, n int) []byte {
	if scope != "global" {
		return fmt.Appendf(nil, `{"policy": "teebroker/1", "name": "n", "version": "1", "scope": %q, "require": {"snp-report": [{"measurements": ["%096x"]}]}}`, scope, n)
	}
	return fmt.Appendf(nil, `{"policy": "teebroker/1", "name": "n", "version": "1", "scope": "global", "require": {"snp-report": [{
"measurements": ["%096x"], "vmpls": [0], "lines": ["Milan"], "keys": ["VCEK"], "chips": "*", "host_data": "*",
"id_keys": "*", "author_keys": "*", "family_ids": "*", "image_ids": "*", "allow_smt": true,
"v2_floors": [{"line": "Milan", "reported": "*", "committed": "*", "launch": "*"}]}]}}`, n)
}

func registration() store.Registration {
	return store.Registration{
		Image: "an image", Policies: []string{"base"}, Launch: store.Launch{Own: true}, Suites: []keywrap.Suite{keywrap.X25519},
		Profiles: map[string][]nonce.Profile{"kbs": {nonce.ProfileSVSM}},
	}
}

// owned registers the instance in a tenant.
func (w *world) owned(tenants ...string) {
	w.Helper()
	if len(tenants) == 0 {
		tenants = []string{tenant}
	}
	for _, t := range tenants {
		w.check(w.PutPolicy(w.ctx, t, "base", document("global", 1)))
		w.register(t, instance, registration())
		w.check(w.PutSecret(w.ctx, t, instance, "disk", []byte("secret of "+t)))
	}
}

func (w *world) register(tenant string, id [16]byte, r store.Registration) store.Status {
	w.Helper()
	status, err := w.Register(w.ctx, tenant, id, r)
	w.check(err)
	return status
}

func (w *world) generation() uint64 {
	w.Helper()
	status, err := w.Status(w.ctx, tenant, instance)
	w.check(err)
	return status.Generation
}

// authorize gives one use of two purposes for an hour, but for what edit changes.
func (w *world) authorize(edit func(*teebroker.Authorization)) teebroker.Authorization {
	w.Helper()
	a := teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk", "data"}, NotAfter: w.time().Add(time.Hour)}
	if edit != nil {
		edit(&a)
	}
	a, err := w.Authorize(w.ctx, a)
	w.check(err)
	return a
}

// newest returns the authorization that was given last.
func (w *world) newest() store.AuthorizationStatus {
	w.Helper()
	as, err := w.Authorizations(w.ctx, tenant, instance)
	if err != nil || len(as) == 0 {
		w.Fatalf("%d authorizations, %v", len(as), err)
	}
	return as[0]
}

// grant is what an accepted guest asks.
func (w *world) grant(key byte, purpose string, request byte) teebroker.Grant {
	w.Helper()
	return teebroker.Grant{
		Request: [32]byte{request}, Profile: nonce.ProfileV1, Tenant: tenant, Instance: instance, Generation: w.generation(),
		Purpose: purpose, Key: [32]byte{key}, Policies: [][32]byte{sha256.Sum256(document("global", 1))}, Chip: []byte("chip"),
		ConfirmKey: bytes.Repeat([]byte{7}, 32),
	}
}

// commit is what a Broker does with g. It fails if Check and Commit differ.
func (w *world) commit(g teebroker.Grant) (teebroker.Response, error) {
	w.Helper()
	terms, err := w.Check(w.ctx, g)
	if err != nil {
		if _, later := w.Commit(w.ctx, g, response(g), entry(g, teebroker.KindRelease)); !errors.Is(later, err) {
			w.Errorf("Check says %v, Commit %v", err, later)
		}
		return teebroker.Response{}, err
	}
	g.Authorization = terms.Authorization
	g.Epoch = next(terms.Epoch)
	r, kind := response(g), teebroker.KindRelease
	if terms.Release != [16]byte{} {
		r.Release, r.Sealed, kind, g.ConfirmKey = terms.Release, terms.Sealed, teebroker.KindRedelivery, nil
	}
	return w.Commit(w.ctx, g, r, entry(g, kind))
}

func response(g teebroker.Grant) teebroker.Response {
	id := [16]byte{g.Request[0], g.Key[0], 1, g.Key[1], byte(len(g.Purpose)), g.Purpose[len(g.Purpose)-1], g.Request[1]}
	return teebroker.Response{
		Release: id, Sealed: fmt.Appendf(nil, "sealed %x %s", id, g.Purpose), Receipt: fmt.Appendf(nil, "receipt %x", g.Request),
	}
}

func entry(g teebroker.Grant, kind teebroker.Kind) teebroker.Entry {
	return teebroker.Entry{Chain: teebroker.Decisions, Tenant: g.Tenant, Kind: kind, Body: fmt.Appendf(nil, `{"request":"%x"}`, g.Request[:2])}
}

// all returns a whole chain.
func (w *world) all(tenant string, c teebroker.Chain) (es []store.RecordEntry) {
	w.Helper()
	for {
		after := uint64(0)
		if len(es) > 0 {
			after = es[len(es)-1].Seq
		}
		more, err := w.Record(w.ctx, tenant, c, after, 1000)
		w.check(err)
		if len(more) == 0 {
			return es
		}
		es = append(es, more...)
	}
}

// chained fails unless es is a whole chain.
func (w *world) chained(es []store.RecordEntry) {
	w.Helper()
	var last store.RecordEntry
	for i, e := range es {
		if e.Seq != uint64(i+1) || e.Previous != last.Hash || e.Hash != store.EntryHash(e) || e.Time.Before(last.Time) ||
			e.Time != e.Time.Truncate(time.Millisecond) || e.Generation == 0 {
			w.Errorf("entry %d does not follow: %+v", i, e)
			return
		}
		last = e
	}
}

func kinds(es []store.RecordEntry) (ks []teebroker.Kind) {
	for _, e := range es {
		ks = append(ks, e.Kind)
	}
	return ks
}

// together runs f n times at once.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			f(i)
		})
	}
	close(begin)
	wg.Wait()
}

func second[T any](_ T, err error) error { return err }
