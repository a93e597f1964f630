package storetest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/store"
)

const vtpm = "vtpm"

// receipts makes every receipt another one.
var receipts atomic.Uint64

// next is what a Broker makes of what Check granted.
func next(e *teebroker.Epoch) *teebroker.Epoch {
	if e = e.Clone(); e != nil && e.NextBlob == (strictjson.Digest{}) {
		b := epochBlob(e.Next)
		e.NextBlob, e.NextWrapped, e.PCR = b.Digest, b.Wrapped, pcrOf(e.Next)
	}
	return e
}

// pcrOf is what a PCR has whose guest was given a number.
func pcrOf(n uint64) [32]byte { return [32]byte{0: 'p', 31: byte(n)} }

// epochBlob is the wrapped key of a number.
func epochBlob(n uint64) teebroker.Blob {
	header := fmt.Sprintf(`{"v":1,"by":"broker","kid":"wrap","suite":"A256GCM","tenant":"acme","instance":"%s","purpose":"vtpm","epoch":%d}`, strictjson.UUID(instance), n)
	w := keywrap.Wrapped{
		Protected: []byte(base64.RawURLEncoding.EncodeToString([]byte(header))), Enc: []byte("AAAA"), Ciphertext: fmt.Appendf(nil, "%08d", n),
	}
	text, err := w.MarshalJSON()
	if err != nil {
		panic(err)
	}
	return teebroker.Blob{Digest: w.Digest(), Epoch: n, Wrapped: text}
}

// begun is an instance whose purpose has epochs, and a use of it.
func (w *world) begun(mode string) {
	w.Helper()
	w.owned()
	status, err := w.Begin(w.ctx, tenant, instance, vtpm, store.EpochStart{Mode: mode, Blob: epochBlob(1), Initial: true})
	if err != nil || status.State != "CURRENT" || status.Epoch != 1 || status.High != 1 || status.Mode != mode {
		w.Fatalf("begun: %+v, %v", status, err)
	}
}

// boot is a release to a key of its own, under an authorization of its own.
func (w *world) boot(n byte) (teebroker.Grant, teebroker.Response, error) {
	w.Helper()
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm, "disk"} })
	g := w.grant(n, vtpm, n)
	r, err := w.commit(g)
	return g, r, err
}

func (w *world) booted(n byte) (teebroker.Grant, teebroker.Response) {
	w.Helper()
	g, r, err := w.boot(n)
	w.check(err)
	return g, r
}

func (w *world) epoch() store.EpochStatus {
	w.Helper()
	s, err := w.Epoch(w.ctx, tenant, instance, vtpm)
	w.check(err)
	return s
}

// confirm is what a Broker does with a Confirm whose MAC is right.
func (w *world) confirm(release [16]byte, number, seq uint64, settled bool, state byte) ([]byte, error) {
	c := teebroker.Confirm{Release: release, Epoch: number, Seq: seq, Settled: settled, State: strictjson.Digest{state}}
	r, err := w.Released(w.ctx, release)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(r.ConfirmKey, bytes.Repeat([]byte{7}, 32)) || r.Tenant != tenant || r.Instance != instance || r.Purpose != vtpm || r.ID != release || r.Authorization == [16]byte{} {
		return nil, fmt.Errorf("released: %+v", r)
	}
	e := teebroker.Entry{Chain: teebroker.Decisions, Tenant: tenant, Kind: teebroker.KindConfirm, Body: []byte(`{}`)}
	return w.Confirm(w.ctx, r, c, fmt.Appendf(nil, "receipt %d of %x %d %x", receipts.Add(1), release, seq, state), e)
}

// Check says what a release is for, Commit takes it, and each is another number.
func epochTable(w *world) {
	w.begun("boot")
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm} })
	g := w.grant(1, vtpm, 1)
	terms, err := w.Check(w.ctx, g)
	w.check(err)
	e := terms.Epoch
	if e == nil || e.Number != 1 || e.Slot != 1 || e.Next != 2 || !e.Initial || len(e.States) != 0 || e.Blob != epochBlob(1).Digest || !bytes.Equal(e.Wrapped, epochBlob(1).Wrapped) {
		w.Fatalf("terms %+v", e)
	}
	r, err := w.commit(g)
	w.check(err)
	if s := w.epoch(); s.State != "PENDING" || s.Epoch != 1 || s.Pending != 2 || s.High != 2 || s.Release != r.Release {
		w.Errorf("pending: %+v", s)
	}
	o, found, err := w.Outcome(w.ctx, g.Request, vtpm)
	if err != nil || !found || o.Response.Epoch != 1 || !bytes.Equal(o.Response.NextWrapped, epochBlob(2).Wrapped) {
		w.Errorf("outcome %+v, %v", o, err)
	}
	// The same key again gets the same bytes, and moves nothing.
	again := w.grant(1, vtpm, 9)
	if got, err := w.commit(again); err != nil || !bytes.Equal(got.Sealed, r.Sealed) || w.epoch().High != 2 {
		w.Errorf("again: %+v, %v", got, err)
	}
	w.want("a secret", w.PutSecret(w.ctx, tenant, instance, vtpm, []byte("x")), store.Conflict)
	w.want("a blob", w.PutBlob(w.ctx, tenant, instance, vtpm, [32]byte{1}, nil), store.Conflict)
	w.want("begun again", second(w.Begin(w.ctx, tenant, instance, vtpm, store.EpochStart{Mode: "boot", Blob: epochBlob(7)})), store.Conflict)
	for what, s := range map[string]store.EpochStart{
		"mode": {Mode: "", Blob: epochBlob(1)}, "number": {Mode: "boot", Blob: teebroker.Blob{Digest: [32]byte{1}}},
		"digest": {Mode: "boot", Blob: teebroker.Blob{Epoch: 1}}, "header": {Mode: "boot", Blob: teebroker.Blob{Digest: epochBlob(2).Digest, Epoch: 1, Wrapped: epochBlob(2).Wrapped}},
	} {
		w.want(what, second(w.Begin(w.ctx, tenant, instance, "other", s)), store.Invalid)
	}
	w.want("of nobody", second(w.Begin(w.ctx, tenant, [16]byte{9}, vtpm, store.EpochStart{Mode: "boot", Blob: epochBlob(1)})), store.NotFound)
	w.want("no epochs", second(w.Epoch(w.ctx, tenant, instance, "disk")), store.NotFound)
	w.want("of another tenant", second(w.Epoch(w.ctx, other, instance, vtpm)), store.NotFound)
	if inst := inst1(w); inst.Blobs[vtpm].Epoch != 1 {
		w.Errorf("the directory says %+v", inst.Blobs[vtpm])
	}
	w.chained(w.all(tenant, teebroker.Decisions))
}

// A confirm makes the next epoch current, erases the stored bytes, ends the
// authorization, and is answered again; one of nobody is refused.
func epochConfirm(w *world) {
	w.begun("boot")
	g, r := w.booted(1)
	before := len(w.all(tenant, teebroker.Decisions))
	w.want("another number", second(w.confirm(r.Release, 3, 0, false, 5)), teebroker.MalformedRequest)
	w.want("a checkpoint first", second(w.confirm(r.Release, 2, 1, false, 5)), teebroker.Superseded)
	w.want("no such release", second(w.confirm([16]byte{99}, 2, 0, false, 5)), teebroker.NotAuthorized)
	if s := w.epoch(); s.State != "PENDING" || len(w.all(tenant, teebroker.Decisions)) != before {
		w.Errorf("a refused confirm changed %+v", s)
	}
	receipt, err := w.confirm(r.Release, 2, 0, false, 5)
	w.check(err)
	s := w.epoch()
	if s.State != "CURRENT" || s.Epoch != 2 || s.Blob != epochBlob(2).Digest || s.Live != r.Release || s.Pending != 0 || len(s.States) != 0 {
		w.Errorf("confirmed: %+v", s)
	}
	again, err := w.confirm(r.Release, 2, 0, false, 5)
	if err != nil || !bytes.Equal(again, receipt) || len(w.all(tenant, teebroker.Decisions)) != before+1 {
		w.Errorf("the same again: %s, %v", again, err)
	}
	w.want("another of the same release", second(w.confirm(r.Release, 2, 0, false, 6)), teebroker.MalformedRequest)
	w.want("a checkpoint in boot mode", second(w.confirm(r.Release, 2, 1, true, 6)), teebroker.MalformedRequest)
	_, _, err = w.Outcome(w.ctx, g.Request, vtpm)
	w.want("stored bytes", err, teebroker.Gone)
	w.want("the same key", second(w.commit(w.grant(1, vtpm, 9))), teebroker.Gone)
	if a := w.newest(); a.State != "DONE" {
		w.Errorf("authorization %s", a.State)
	}
	// An hour or a year later: the confirm key is still there.
	w.pass(1000 * time.Hour)
	if _, err := w.confirm(r.Release, 2, 0, false, 5); err != nil {
		w.Errorf("much later: %v", err)
	}
	if b, high, err := w.EpochBlob(w.ctx, tenant, instance, vtpm, 1); err != nil || high != 2 || b.Digest != epochBlob(1).Digest || b.Epoch != 1 || !bytes.Equal(b.Wrapped, epochBlob(1).Wrapped) {
		w.Errorf("a dead blob: %+v, %d, %v", b, high, err)
	}
	_, _, err = w.EpochBlob(w.ctx, tenant, instance, vtpm, 7)
	w.want("blob of no epoch", err, teebroker.NotAuthorized)
}

// A use that outlives its confirm stays open. A superseded slot closes for every
// purpose of its authorization.
func epochSlots(w *world) {
	w.begun("boot")
	w.authorize(func(a *teebroker.Authorization) {
		a.Purposes, a.Uses, a.OutlivesConfirm = []string{vtpm, "disk"}, 3, true
	})
	r, err := w.commit(w.grant(1, vtpm, 1))
	w.check(err)
	w.check(second(w.commit(w.grant(1, "disk", 2))))
	w.check(second(w.confirm(r.Release, 2, 0, false, 1)))
	if a := w.newest(); a.State != "OPEN" || a.Used != 1 || !a.OutlivesConfirm {
		w.Errorf("%+v", a)
	}
	w.check(second(w.commit(w.grant(2, vtpm, 3))))
	w.want("purpose with epochs", second(w.commit(w.grant(1, vtpm, 4))), teebroker.Superseded)
	w.want("another purpose", second(w.commit(w.grant(1, "disk", 5))), teebroker.Superseded)
	for _, c := range []struct {
		request byte
		purpose string
	}{{1, vtpm}, {2, "disk"}} {
		_, _, err = w.Outcome(w.ctx, [32]byte{c.request}, c.purpose)
		w.want("stored "+c.purpose, err, teebroker.Superseded)
	}
	w.want("confirm of who was live", second(w.confirm(r.Release, 2, 0, false, 1)), teebroker.Superseded)
}

// Clones of one disk: each gets a number, the last one to be released may
// confirm, and what was opened is the last that was confirmed.
func epochClones(w *world) {
	w.begun("boot")
	var rs []teebroker.Response
	for n := byte(1); n <= 3; n++ {
		_, r := w.booted(n)
		rs = append(rs, r)
	}
	for i, r := range rs[:2] {
		w.want("an earlier clone", second(w.confirm(r.Release, uint64(i+2), 0, false, 1)), teebroker.Superseded)
	}
	w.check(second(w.confirm(rs[2].Release, 4, 0, false, 1)))
	// The disk of before, and the disk of a clone that lost.
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm} })
	for i, want := range []error{teebroker.EpochDead, teebroker.EpochDead, teebroker.EpochDead, nil} {
		n := uint64(i + 1)
		g := w.grant(50, vtpm, 50)
		g.Presented = epochBlob(n).Digest
		g.Blob = g.Presented
		_, err := w.Check(w.ctx, g)
		w.want(fmt.Sprintf("the disk of epoch %d", n), err, want)
		if want == nil {
			w.check(second(w.commit(g)))
		}
	}
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm} })
	g := w.grant(51, vtpm, 51)
	g.Presented = epochBlob(5).Digest
	_, err := w.Check(w.ctx, g)
	w.want("a pending disk", err, teebroker.EpochPending)
	if s := w.epoch(); s.State != "PENDING" || s.Epoch != 4 || s.High != 5 {
		w.Errorf("%+v", s)
	}
}

// Write mode: what the next boot may open is the last settled state or the write
// in flight.
func epochCheckpoints(w *world) {
	w.begun("write")
	_, r := w.booted(1)
	for _, c := range []struct {
		seq     uint64
		settled bool
		state   byte
		states  []strictjson.Digest
	}{
		{0, false, 1, []strictjson.Digest{{1}}},
		{1, false, 2, []strictjson.Digest{{2}, {1}}},
		{2, true, 2, []strictjson.Digest{{2}}},
		{3, false, 3, []strictjson.Digest{{3}, {2}}},
	} {
		receipt, err := w.confirm(r.Release, 2, c.seq, c.settled, c.state)
		w.check(err)
		if s := w.epoch(); !slices.Equal(s.States, c.states) || s.Seq != c.seq {
			w.Errorf("checkpoint %d: %+v", c.seq, s)
		}
		if again, err := w.confirm(r.Release, 2, c.seq, c.settled, c.state); err != nil || !bytes.Equal(again, receipt) {
			w.Errorf("checkpoint %d again: %s, %v", c.seq, again, err)
		}
	}
	w.want("an old checkpoint", second(w.confirm(r.Release, 2, 2, true, 2)), teebroker.MalformedRequest)
	w.want("a gap", second(w.confirm(r.Release, 2, 5, true, 3)), teebroker.MalformedRequest)
	w.want("of another epoch", second(w.confirm(r.Release, 3, 4, true, 3)), teebroker.MalformedRequest)
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm} })
	g := w.grant(2, vtpm, 2)
	terms, err := w.Check(w.ctx, g)
	w.check(err)
	if e := terms.Epoch; e.Number != 2 || e.Initial || !slices.Equal(e.States, []strictjson.Digest{{3}, {2}}) {
		w.Errorf("granted %+v", e)
	}
	w.check(second(w.commit(g)))
	w.want("a checkpoint of the one before", second(w.confirm(r.Release, 2, 4, true, 3)), teebroker.Superseded)
}

// Hold, resume, retire and delete.
func epochOwner(w *world) {
	w.begun("boot")
	g, r := w.booted(1)
	w.want("resume", second(w.Resume(w.ctx, tenant, instance, vtpm)), store.Conflict)
	for range 2 {
		if s, err := w.Hold(w.ctx, tenant, instance, vtpm); err != nil || s.State != "HELD" {
			w.Errorf("hold: %+v, %v", s, err)
		}
	}
	_, _, err := w.boot(2)
	w.want("a release", err, teebroker.Held)
	w.want("a redelivery", second(w.commit(w.grant(1, vtpm, 8))), teebroker.Held)
	_, _, err = w.Outcome(w.ctx, g.Request, vtpm)
	w.want("the same request", err, teebroker.Held)
	w.want("a confirm", second(w.confirm(r.Release, 2, 0, false, 1)), teebroker.Held)
	if s, err := w.Resume(w.ctx, tenant, instance, vtpm); err != nil || s.State != "PENDING" || s.Release != r.Release {
		w.Errorf("resume: %+v, %v", s, err)
	}
	if o, found, err := w.Outcome(w.ctx, g.Request, vtpm); err != nil || !found || !bytes.Equal(o.Response.Sealed, r.Sealed) {
		w.Errorf("the same request, resumed: %v", err)
	}
	w.check(second(w.confirm(r.Release, 2, 0, false, 1)))
	if s, err := w.Retire(w.ctx, tenant, instance, vtpm); err != nil || s.State != "RETIRED" || s.High != 2 {
		w.Errorf("retire: %+v, %v", s, err)
	}
	_, _, err = w.boot(3)
	w.want("a release of what is retired", err, teebroker.NotAuthorized)
	w.want("a confirm of what is retired", second(w.confirm(r.Release, 2, 0, false, 1)), teebroker.Superseded)
	w.want("recovered", second(w.Recover(w.ctx, tenant, instance, vtpm, epochBlob(3), 0)), store.Conflict)
	w.want("begun again", second(w.Begin(w.ctx, tenant, instance, vtpm, store.EpochStart{Mode: "boot", Blob: epochBlob(3)})), store.Conflict)
	for what, act := range map[string]func() error{
		"hold":    func() error { return second(w.Hold(w.ctx, tenant, instance, "disk")) },
		"retire":  func() error { return second(w.Retire(w.ctx, other, instance, vtpm)) },
		"resume":  func() error { return second(w.Resume(w.ctx, tenant, [16]byte{9}, vtpm)) },
		"recover": func() error { return second(w.Recover(w.ctx, other, instance, vtpm, epochBlob(3), 0)) },
	} {
		w.want(what+" of nobody's", act(), store.NotFound)
	}
	es := w.all(tenant, teebroker.Decisions)
	w.chained(es)
	for _, k := range []teebroker.Kind{store.KindEpoch, store.KindHold, store.KindResume, store.KindRetire, teebroker.KindConfirm} {
		if !slices.Contains(kinds(es), k) {
			w.Errorf("no entry of %s in %v", k, kinds(es))
		}
	}
	w.check(second(w.Begin(w.ctx, tenant, instance, "second", store.EpochStart{Mode: "boot", Blob: teebroker.Blob{Digest: [32]byte{1}, Epoch: 1}})))
	w.check(w.Delete(w.ctx, tenant, instance))
	w.want("after the instance was deleted", second(w.Epoch(w.ctx, tenant, instance, "second")), store.NotFound)
}

// A recovery has a number of its own, opens the slot that it names, once, and
// supersedes whoever was there.
func epochRecover(w *world) {
	w.begun("write")
	_, live := w.booted(1)
	w.check(second(w.confirm(live.Release, 2, 0, false, 1)))
	_, pending := w.booted(2)
	for n := uint64(1); n < 4; n++ {
		w.want("a number that was given", second(w.Recover(w.ctx, tenant, instance, vtpm, epochBlob(n), 1)), store.Conflict)
	}
	w.want("an epoch that never was", second(w.Recover(w.ctx, tenant, instance, vtpm, epochBlob(4), 9)), store.Conflict)
	open := w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm} })
	before := w.generation()
	s, err := w.Recover(w.ctx, tenant, instance, vtpm, epochBlob(4), 1)
	if err != nil || s.State != "CURRENT" || s.Epoch != 4 || s.High != 4 || s.Blob != epochBlob(4).Digest || len(s.States) != 0 {
		w.Fatalf("%+v, %v", s, err)
	}
	if a := w.newest(); w.generation() != before+1 || a.ID != open.ID || a.State != "REVOKED" {
		w.Errorf("an open authorization is %s", a.State)
	}
	for _, r := range []teebroker.Response{live, pending} {
		w.want("confirm of before", second(w.confirm(r.Release, 3, 0, false, 1)), teebroker.Superseded)
	}
	_, _, err = w.Outcome(w.ctx, [32]byte{2}, vtpm)
	w.want("stored bytes of before", err, teebroker.Superseded)
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm} })
	g := w.grant(3, vtpm, 3)
	terms, err := w.Check(w.ctx, g)
	w.check(err)
	if e := terms.Epoch; e.Number != 4 || e.Slot != 1 || e.Next != 5 || e.Initial || len(e.States) != 0 || !bytes.Equal(e.Wrapped, epochBlob(4).Wrapped) {
		w.Errorf("granted %+v", e)
	}
	r, err := w.commit(g)
	w.check(err)
	w.check(second(w.confirm(r.Release, 5, 0, false, 1)))
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm} })
	terms, err = w.Check(w.ctx, w.grant(4, vtpm, 4))
	w.check(err)
	if terms.Epoch.Slot != 5 {
		w.Errorf("the slot of a recovery serves again: %+v", terms.Epoch)
	}
}

// Releases and confirms at the same time: numbers are given once, one release at
// most is confirmed in the end, and the record has what happened.
func epochRace(w *world) {
	w.begun("boot")
	const clones = 8
	w.authorize(func(a *teebroker.Authorization) {
		a.Purposes, a.Uses, a.OutlivesConfirm = []string{vtpm}, clones, true
	})
	var mu sync.Mutex
	numbers, confirmed := map[uint64]int{}, 0
	grants := make([]teebroker.Grant, clones)
	for i := range grants {
		grants[i] = w.grant(byte(i+1), vtpm, byte(i+1))
	}
	together(clones, func(i int) {
		g := grants[i]
		for range 64 {
			terms, err := w.Check(w.ctx, g)
			if err != nil {
				w.Errorf("check: %v", err)
				return
			}
			asked := g
			asked.Authorization, asked.Epoch = terms.Authorization, next(terms.Epoch)
			r, err := w.Commit(w.ctx, asked, response(asked), entry(asked, teebroker.KindRelease))
			if errors.Is(err, teebroker.ErrAgain) {
				continue
			}
			if err != nil {
				w.Errorf("commit: %v", err)
				return
			}
			mu.Lock()
			numbers[asked.Epoch.Next]++
			mu.Unlock()
			_, err = w.confirm(r.Release, asked.Epoch.Next, 0, false, 1)
			mu.Lock()
			if err == nil {
				confirmed++
			} else if !errors.Is(err, teebroker.Superseded) {
				w.Errorf("confirm: %v", err)
			}
			mu.Unlock()
			return
		}
		w.Errorf("no release in 64 tries")
	})
	for n, times := range numbers {
		if times != 1 || n < 2 || n > clones+1 {
			w.Errorf("epoch %d was given %d times", n, times)
		}
	}
	es := w.all(tenant, teebroker.Decisions)
	w.chained(es)
	confirms := 0
	for _, k := range kinds(es) {
		if k == teebroker.KindConfirm {
			confirms++
		}
	}
	s := w.epoch()
	if len(numbers) != clones || s.High != clones+1 || confirms != confirmed || s.State == "CURRENT" && s.Live == (strictjson.UUID{}) && confirmed > 0 {
		w.Errorf("%d numbers, %d confirmed, %d in the record: %+v", len(numbers), confirmed, confirms, s)
	}
}
