package storetest

import (
	"bytes"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// Wrapped keys are there for so many epochs back, and as long as theirs is current;
// digests are there for ever.
func epochKept(w *world) {
	w.begun("boot")
	const many = store.KeptBlobs + 4
	w.authorize(func(a *teebroker.Authorization) { a.Purposes, a.Uses, a.OutlivesConfirm = []string{vtpm}, many+2, true })
	var last teebroker.Response
	release := func(n byte) {
		var err error
		last, err = w.commit(w.grant(n, vtpm, n))
		w.check(err)
	}
	kept := func(when string, high, current uint64) {
		w.Helper()
		for n := uint64(1); n <= high; n++ {
			b, got, err := w.EpochBlob(w.ctx, tenant, instance, vtpm, n)
			there := n == current || n+store.KeptBlobs > high
			if err != nil || got != high || b.Digest != epochBlob(n).Digest || (b.Wrapped != nil) != there || there && !bytes.Equal(b.Wrapped, epochBlob(n).Wrapped) {
				w.Errorf("%s, epoch %d of %d: %d bytes, %v", when, n, high, len(b.Wrapped), err)
			}
		}
	}
	release(1)
	w.check(second(w.confirm(last.Release, 2, 0, false, 1))) // 2 is current from now on
	for n := byte(2); n <= many; n++ {
		release(n)
	}
	kept("before the confirm", many+1, 2)
	w.check(second(w.confirm(last.Release, many+1, 0, false, 1)))
	kept("after the confirm", many+1, many+1)
	// A copy of a key that was forgotten is recovered under a number of its own.
	s, err := w.Recover(w.ctx, tenant, instance, vtpm, epochBlob(many+2), 2)
	if err != nil || s.Epoch != many+2 {
		w.Errorf("recovered: %+v, %v", s, err)
	}
	kept("after the recovery", many+2, many+2)
}

// A guest that is superseded for one purpose confirms nothing of another.
func epochClosed(w *world) {
	w.begun("write")
	blob := teebroker.Blob{Digest: [32]byte{1}, Epoch: 1}
	w.check(second(w.Begin(w.ctx, tenant, instance, "other", store.EpochStart{Mode: "write", Blob: blob, Initial: true})))
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm, "other"} })
	r, err := w.commit(w.grant(1, vtpm, 1))
	w.check(err)
	w.check(second(w.commit(w.grant(1, "other", 2))))
	w.check(second(w.confirm(r.Release, 2, 0, false, 1)))
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{"other"} })
	w.check(second(w.commit(w.grant(2, "other", 3)))) // another guest
	w.want("a checkpoint", second(w.confirm(r.Release, 2, 1, false, 2)), teebroker.Superseded)
	w.want("the confirm again", second(w.confirm(r.Release, 2, 0, false, 1)), teebroker.Superseded)
	if s := w.epoch(); s.State != "CURRENT" || s.Epoch != 2 || s.Seq != 0 {
		w.Errorf("%+v", s)
	}
	// What it confirmed is what the next guest opens.
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{vtpm} })
	if terms, err := w.Check(w.ctx, w.grant(3, vtpm, 4)); err != nil || terms.Epoch.Number != 2 {
		w.Errorf("%+v, %v", terms.Epoch, err)
	}
}
