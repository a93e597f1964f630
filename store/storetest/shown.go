package storetest

import (
	"github.com/teebroker/teebroker"
)

// What a PCR shows is of one release, and live from its confirm until another
// release, and for as long as there is the instance.
func epochShown(w *world) {
	w.begun("boot")
	_, err := w.Shown(w.ctx, pcrOf(2))
	w.want("before there is any", err, teebroker.NotAuthorized)
	_, one := w.booted(1)
	w.shows(2, one.Release, teebroker.ShownPending)
	_, err = w.confirm(one.Release, 2, 0, false, 1)
	w.check(err)
	w.shows(2, one.Release, teebroker.ShownLive)
	_, err = w.Hold(w.ctx, tenant, instance, vtpm)
	w.check(err)
	w.shows(2, one.Release, teebroker.ShownHeld)
	_, err = w.Resume(w.ctx, tenant, instance, vtpm)
	w.check(err)
	w.shows(2, one.Release, teebroker.ShownLive)

	_, two := w.booted(2)
	w.shows(2, one.Release, teebroker.ShownSuperseded)
	w.shows(3, two.Release, teebroker.ShownPending)
	_, err = w.confirm(two.Release, 3, 0, false, 2)
	w.check(err)
	w.shows(2, one.Release, teebroker.ShownSuperseded)
	w.shows(3, two.Release, teebroker.ShownLive)
	for _, value := range [][32]byte{{}, pcrOf(1), pcrOf(4)} {
		_, err := w.Shown(w.ctx, value)
		w.want("of no release", err, teebroker.NotAuthorized)
	}

	// A release without epochs shows nothing, also to who asks for zeros.
	w.authorize(nil)
	w.want("without epochs", second(w.commit(w.grant(9, "disk", 9))), nil)
	_, err = w.Shown(w.ctx, [32]byte{})
	w.want("zeros", err, teebroker.NotAuthorized)

	w.check(w.Delete(w.ctx, tenant, instance))
	_, err = w.Shown(w.ctx, pcrOf(3))
	w.want("of a deleted instance", err, teebroker.NotAuthorized)
}

func (w *world) shows(n uint64, release [16]byte, want teebroker.ShownState) {
	w.Helper()
	got, err := w.Shown(w.ctx, pcrOf(n))
	if err != nil || got != (teebroker.Shown{State: want, Release: release, Tenant: tenant, Instance: instance, Purpose: vtpm}) {
		w.Errorf("a PCR shows %+v, %v, want %s of %x", got, err, want, release)
	}
}
