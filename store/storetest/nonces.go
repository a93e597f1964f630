package storetest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
)

func redeem(w *world) {
	n, expiry := nonce.Nonce{1}, w.time().Add(5*time.Minute)
	mine, another := [32]byte{1}, [32]byte{2}
	for _, tt := range []struct {
		name    string
		after   time.Duration
		request [32]byte
		want    error
	}{
		{"first", 0, mine, nil},
		{"again at once", time.Second, mine, nonce.InProgress},
		{"another request", 0, another, nonce.Spent},
		{"again just in time", 28 * time.Second, mine, nonce.InProgress},
		{"again later", time.Second, mine, nonce.Spent},
		{"expired", 10 * time.Minute, mine, nonce.Spent},
	} {
		w.pass(tt.after)
		w.want(tt.name, w.Redeem(w.ctx, n, tt.request, expiry), tt.want)
	}
	w.want("at its expiry", w.Redeem(w.ctx, nonce.Nonce{2}, mine, w.time()), nonce.Spent)
	w.want("just before", w.Redeem(w.ctx, nonce.Nonce{2}, mine, w.time().Add(1000)), nil)
}

// A nonce is redeemed at most once, whoever asks at the same time.
func redeemRace(w *world) {
	for round := range 4 {
		var won, lost atomic.Int32
		together(64, func(i int) {
			request := [32]byte{byte(i % 2)}
			err := w.Redeem(w.ctx, nonce.Nonce{byte(round)}, request, w.time().Add(time.Minute))
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, nonce.Spent), errors.Is(err, nonce.InProgress):
				lost.Add(1)
			}
		})
		if won.Load() != 1 || lost.Load() != 63 {
			w.Errorf("%d redeemed it and %d did not", won.Load(), lost.Load())
		}
	}
}

// A clock that runs backwards makes no nonce fresh again, and stops everything
// that a release rests on if it is far back.
func clockBackwards(w *world) {
	w.owned()
	n, expiry := nonce.Nonce{1}, w.time().Add(time.Minute)
	w.check(w.Redeem(w.ctx, n, [32]byte{1}, expiry))
	w.pass(time.Minute)
	for i := range 3 { // after which n is forgotten
		w.check(w.Redeem(w.ctx, nonce.Nonce{2, byte(i)}, [32]byte{1}, w.time().Add(time.Minute)))
	}
	w.pass(-time.Minute)
	w.want("forgotten, and fresh by a clock that ran back", w.Redeem(w.ctx, n, [32]byte{2}, expiry), nonce.Spent)
	w.want("a minute back", second(w.Get(w.ctx, "none")), teebroker.Gone)
	g := w.grant(1, "disk", 1)
	w.pass(-time.Millisecond)
	for name, err := range map[string]error{
		"Redeem":    w.Redeem(w.ctx, nonce.Nonce{3}, [32]byte{1}, w.time().Add(time.Hour)),
		"Put":       w.Put(w.ctx, "k", nil, w.time().Add(time.Hour)),
		"Get":       second(w.Get(w.ctx, "k")),
		"Check":     second(w.Check(w.ctx, g)),
		"Commit":    second(w.Commit(w.ctx, g, response(g), entry(g, teebroker.KindRelease))),
		"Refuse":    w.Refuse(w.ctx, [32]byte{1}, "", "denied", refusal(tenant)),
		"Authorize": second(w.Authorize(w.ctx, teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, NotAfter: w.time().Add(time.Hour)})),
	} {
		if err == nil || teebroker.Code(err) != "unavailable" {
			w.Errorf("%s goes on: %v", name, err)
		}
	}
	if _, _, err := w.Outcome(w.ctx, [32]byte{1}, ""); err == nil || teebroker.Code(err) != "unavailable" {
		w.Errorf("Outcome goes on: %v", err)
	}
}

func kept(w *world) {
	value := []byte("value")
	w.check(w.Put(w.ctx, "a", value, w.time().Add(time.Minute)))
	clear(value)
	for range 2 {
		got, err := w.Get(w.ctx, "a")
		if err != nil || string(got) != "value" {
			w.Errorf("Get = %q, %v", got, err)
		}
		clear(got)
	}
	if err := w.Put(w.ctx, "a", []byte("x"), w.time().Add(time.Hour)); err == nil {
		w.Errorf("an id is used twice")
	}
	w.pass(time.Minute - time.Microsecond)
	w.want("just in time", second(w.Get(w.ctx, "a")), nil)
	w.pass(time.Microsecond)
	for _, id := range []string{"a", "b"} {
		w.want(id, second(w.Get(w.ctx, id)), teebroker.Gone)
	}
}

// A caller that gave up is told so, and nothing is half done.
func canceled(w *world) {
	w.owned()
	w.authorize(nil)
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	g := w.grant(1, "disk", 1)
	terms, err := w.Check(w.ctx, g)
	w.check(err)
	g.Authorization = terms.Authorization
	// A store may go on for the others and ignore it; then it is done wholly.
	if _, err := w.Commit(ctx, g, response(g), entry(g, teebroker.KindRelease)); err != nil && teebroker.Code(err) != "unavailable" {
		w.Errorf("Commit: %v", err)
	}
	_, found, err := w.Outcome(w.ctx, g.Request, g.Purpose)
	w.check(err)
	if a := w.newest(); found != (a.Used == 1) {
		w.Errorf("outcome %v, authorization %+v", found, a)
	}
}
