package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
)

// race is guests that race for authorizations of one use each, over brokers that
// share a database.
type race struct {
	brokers []*replica
	keys    []keywrap.Opener // one of each guest
	seed    uint64
	until   time.Time // of authorizations
}

func newRace(ctx context.Context, d *database, brokers, guests int, seed uint64) (*race, error) {
	x := &race{seed: seed, until: time.Now().Add(24 * time.Hour)}
	for range guests {
		key, err := keywrap.Generate(d.suite)
		if err != nil {
			return nil, err
		}
		x.keys = append(x.keys, key)
	}
	for range brokers {
		r, err := d.open(ctx, nil, nil)
		if err != nil {
			return nil, errors.Join(err, x.close())
		}
		x.brokers = append(x.brokers, r)
	}
	return x, nil
}

func (x *race) close() (err error) {
	for _, r := range x.brokers {
		err = errors.Join(err, r.close())
	}
	return err
}

// run runs n rounds, and audits after every hundred and at the end.
func (x *race) run(ctx context.Context, n int, report func(round int)) error {
	for i := range n {
		if err := x.round(ctx, i); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
		if (i+1)%100 != 0 && i+1 != n {
			continue
		}
		got, err := x.brokers[i%len(x.brokers)].audit(ctx)
		if err == nil && got.Releases != i+1 {
			err = fmt.Errorf("the record has %d releases", got.Releases)
		}
		if err != nil {
			return fmt.Errorf("after round %d: %w", i, err)
		}
		report(i + 1)
	}
	return nil
}

// round is one race. It returns an error unless one key won, and all answers that
// it was given are the same.
func (x *race) round(ctx context.Context, n int) error {
	var instance [16]byte
	binary.BigEndian.PutUint64(instance[:], uint64(n)+1)
	owner := x.brokers[n%len(x.brokers)]
	if err := owner.own(ctx, instance, 1, x.until); err != nil {
		return err
	}
	begin := make(chan struct{})
	results := make([]result, len(x.keys))
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(x.seed, uint64(n)<<16|uint64(i)))
			<-begin
			results[i] = x.guest(ctx, r, instance, x.keys[i])
		})
	}
	close(begin)
	wg.Wait()
	won := 0
	for i, r := range results {
		switch {
		case r.err == nil:
			won++
		case !errors.Is(r.err, teebroker.OtherKey):
			return fmt.Errorf("guest %d: %w", i, r.err)
		}
	}
	if won != 1 {
		return fmt.Errorf("%d keys have the secret", won)
	}
	as, err := owner.Authorizations(ctx, tenant, instance)
	if err == nil && (len(as) != 1 || as[0].Used != 1) {
		err = fmt.Errorf("the authorization is %+v", as)
	}
	return err
}

// result is what a guest got in the end: OtherKey, or no error for the secret.
type result struct{ err error }

// maxTries is how often a guest asks before that is a fault.
const maxTries = 200

// guest asks until it knows whether it has won. It asks some broker; now and then
// two of them the same at once, or it hangs up on one; and when it does not know
// what came of that, it asks again, the same or with a new nonce.
func (x *race) guest(ctx context.Context, r *rand.Rand, instance [16]byte, key keywrap.Opener) result {
	some := func() *replica { return x.brokers[r.IntN(len(x.brokers))] }
	m, err := some().launch(instance, key)
	if err != nil {
		return result{err}
	}
	var req teebroker.Request
	var sealed []byte
	fresh := true
	for range maxTries {
		if fresh {
			if req, err = m.request(ctx, some()); err != nil {
				return result{err}
			}
		}
		asked := x.ask(ctx, r, some(), some(), req)
		for _, a := range asked {
			switch {
			case a.err != nil:
				err = a.err
			case sealed != nil && string(sealed) != string(a.Sealed):
				return result{errors.New("two releases to one key")}
			default:
				sealed = a.Sealed
				if err := m.opens(ctx, a.Response); err != nil {
					return result{err}
				}
			}
		}
		switch {
		case sealed != nil:
			return result{}
		case errors.Is(err, teebroker.OtherKey):
			return result{err}
		}
		switch teebroker.Code(err) {
		case "in-progress", "unavailable", "nonce-spent":
			fresh = teebroker.Code(err) == "nonce-spent" || r.IntN(2) == 0
		default:
			return result{err}
		}
	}
	return result{fmt.Errorf("no end after %d tries: %w", maxTries, err)}
}

// answered is what a broker said.
type answered struct {
	teebroker.Response
	err error
}

// ask asks one broker, or two the same at once, or hangs up on the one.
func (x *race) ask(ctx context.Context, r *rand.Rand, one, two *replica, req teebroker.Request) []answered {
	at := func(ctx context.Context, b *replica) answered {
		a, err := b.Answer(ctx, req)
		return answered{a, err}
	}
	switch r.IntN(8) {
	case 0: // both
		second := make(chan answered, 1)
		go func() { second <- at(ctx, two) }()
		return []answered{at(ctx, one), <-second}
	case 1: // an impatient guest: whatever comes back is lost
		impatient, cancel := context.WithTimeout(ctx, time.Duration(r.IntN(20))*time.Millisecond)
		defer cancel()
		at(impatient, one)
		return []answered{{err: teebroker.Unavailable}}
	}
	return []answered{at(ctx, one)}
}
