package v1_test

import (
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/strictjson"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// What a guest extends makes the value in its receipt, in that of its confirm, and in
// that of a redelivery; the release that supersedes it has another one.
func TestReceiptPCR(t *testing.T) {
	o := newEpochs(t, "boot")
	c := o.client(nil)
	release := func(s *guest.Session) (*guest.Opened, teebroker.Receipt) {
		r, err := c.Release(t.Context(), o.request(s, c))
		o.check(err)
		opened, err := s.OpenEpoch(t.Context(), r)
		o.check(err)
		receipt, err := teebroker.VerifyReceipt(r.Receipt, o.broker.ID())
		o.check(err)
		return opened, receipt
	}
	o.authorizeMany()
	s := o.session()
	opened, receipt := release(s)
	want := strictjson.Digest(teebroker.PCRValue(opened.PCR()))
	if receipt.PCR != want || want == (strictjson.Digest{}) {
		t.Errorf("the receipt has %x, the guest makes %x", receipt.PCR, want)
	}
	if again, redelivered := release(s); redelivered.Kind != teebroker.KindRedelivery || redelivered.PCR != want || again.PCR() != opened.PCR() {
		t.Errorf("a redelivery: %+v", redelivered)
	}
	said := teebroker.Confirm{Release: opened.Release, Epoch: opened.Next, State: strictjson.Digest{1}}
	a, err := c.Confirm(t.Context(), said, said.MAC(opened.ConfirmKey))
	o.check(err)
	if confirmed, err := teebroker.VerifyReceipt(a.Receipt, o.broker.ID()); err != nil || confirmed.PCR != want {
		t.Errorf("the receipt of the confirm has %x, %v", confirmed.PCR, err)
	}

	next, nextReceipt := release(o.session())
	if value := strictjson.Digest(teebroker.PCRValue(next.PCR())); nextReceipt.PCR != value || value == want {
		t.Errorf("the next release has %x, its guest makes %x, the one before %x", nextReceipt.PCR, value, want)
	}
	if nextReceipt.PCR == strictjson.Digest(teebroker.PCRValue(teebroker.PCRDigest(opened.ConfirmKey, next.Release))) ||
		nextReceipt.PCR == strictjson.Digest(teebroker.PCRValue(teebroker.PCRDigest(next.ConfirmKey, opened.Release))) {
		t.Error("another guest makes the value of this release")
	}
}

// authorizeMany authorizes boots that go on after a confirm.
func (o *owned) authorizeMany() {
	o.Helper()
	_, err := o.acme.Authorize(o.Context(), instance, v1.Authorization{
		Purposes: []string{"disk"}, Uses: 100, Outlives: true, NotAfter: o.time().Add(time.Hour),
	})
	o.check(err)
}
