//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

const stateful = "vtpm"

// stateBoot is a guest of an instance of its own whose purpose has epochs.
type stateBoot struct {
	*machine
	opened *guest.Opened // after its release
	said   teebroker.Confirm
}

// begin registers the next instance and its epochs, and launches a guest.
func (c *crash) begin() *stateBoot {
	c.Helper()
	c.last++
	c.now = c.now.Add(2 * time.Second)
	b := &stateBoot{}
	c.with(func(r *replica) {
		instance := [16]byte{15: 1, 0: byte(c.last >> 8), 1: byte(c.last)}
		check(c, r.own(c.Context(), instance, 1, c.now.Add(time.Hour)))
		r.begin(c, instance, "write")
		b.machine = c.stateful(r, instance)
	})
	return b
}

// begin gives an instance epochs.
func (r *replica) begin(t testing.TB, instance [16]byte, mode string) {
	t.Helper()
	wrap, err := wrapKey()
	check(t, err)
	w, err := keywrap.WrapWith(t.Context(), wrap, keywrap.Header{Tenant: tenant, Instance: instance, Purpose: stateful, Epoch: 1}, bytes.Repeat([]byte{1}, 32))
	check(t, err)
	text, err := w.MarshalJSON()
	check(t, err)
	_, err = r.Begin(t.Context(), tenant, instance, stateful, store.EpochStart{
		Mode: mode, Blob: teebroker.Blob{Digest: w.Digest(), Epoch: 1, Wrapped: text}, Initial: true,
	})
	check(t, err)
}

// stateful is a guest with an authorization to boot.
func (c *crash) stateful(r *replica, instance [16]byte) *machine {
	c.Helper()
	_, err := r.Authorize(c.Context(), teebroker.Authorization{
		Tenant: tenant, Instance: instance, Purposes: []string{stateful}, NotAfter: c.now.Add(time.Hour),
	})
	check(c, err)
	key, err := keywrap.Generate(r.d.suite)
	check(c, err)
	id := r.ID()
	s, err := guest.New(guest.Config{Tenant: tenant, Instance: instance, Purpose: stateful, Broker: id[:], Key: key})
	check(c, err)
	return &machine{s, r.d, instance}
}

// release is the answer to a new request of m, opened.
func (c *crash) release(r *replica, m *machine) (*guest.Opened, error) {
	c.Helper()
	req, err := m.request(c.Context(), r)
	check(c, err)
	a, err := r.Answer(c.Context(), req)
	if err != nil {
		return nil, err
	}
	c.releases++
	return m.OpenEpoch(c.Context(), a)
}

// says is what the guest says next: its confirm, and then checkpoints.
func (b *stateBoot) says(seq uint64) task {
	b.said = teebroker.Confirm{Release: b.opened.Release, Epoch: b.opened.Next, Seq: seq, State: strictjson.Digest{1, byte(seq)}}
	return task{Confirm: &b.said, MAC: b.said.MAC(b.opened.ConfirmKey)}
}

// recorded is how often the record has that the guest of b said what it said.
func (c *crash) recorded(r *replica, b *stateBoot) (n int) {
	c.Helper()
	for after := uint64(0); ; {
		es, err := r.Record(c.Context(), tenant, teebroker.Decisions, after, 1000)
		check(c, err)
		if len(es) == 0 {
			return n
		}
		after = es[len(es)-1].Seq
		for _, e := range es {
			var body struct {
				Confirm teebroker.Confirm `json:"confirm"`
			}
			if e.Kind == teebroker.KindConfirm {
				check(c, strictjson.UnmarshalKnown(e.Body, &body))
			}
			if body.Confirm == b.said {
				n++
			}
		}
	}
}

// A broker is killed, as kill -9 does, at each step of a release with epochs, of a
// confirm and of a checkpoint. What was said is durable if and only if the record has
// it; the guest says it again and is acknowledged, once in the record, and no number is
// lost; or, if another guest was released to meanwhile, that one opens what was
// confirmed, and the first one is superseded.
func TestKilledEpochs(t *testing.T) {
	each(t, func(t *testing.T, d *database) {
		c := &crash{T: t, d: d, now: time.Now().Truncate(time.Second)}
		c.overRelease()
		c.overConfirm("confirm", 0)
		c.overConfirm("checkpoint", 1)
	})
}

// writes reports whether something is durable after step that was not before, or may
// be. The steps before are those of every release, see TestKilled.
func writes(step string) bool {
	return step == "sql COMMIT" || strings.HasSuffix(step, " Commit") || strings.HasSuffix(step, " Confirm")
}

func (c *crash) overRelease() {
	kill := func(b *stateBoot, at int) ([]string, teebroker.Request) {
		var req teebroker.Request
		c.with(func(r *replica) {
			var err error
			req, err = b.request(c.Context(), r)
			check(c, err)
		})
		body, err := v1.MarshalRequest(req)
		check(c, err)
		return c.killOver(task{Request: body, At: at}), req
	}
	all, _ := kill(c.begin(), 0)
	c.releases++
	for _, want := range []string{"before Commit", "after Commit", "sql COMMIT", ended} {
		if !slices.Contains(all, want) {
			c.Errorf("release with epochs, never reached: %s", want)
		}
	}
	for i, step := range all[:len(all)-1] {
		if !writes(step) {
			continue
		}
		b := c.begin()
		_, req := kill(b, i+1)
		c.now = c.now.Add(time.Minute)
		c.with(func(r *replica) {
			s, err := r.Epoch(c.Context(), tenant, b.instance, stateful)
			check(c, err)
			committed := s.State == "PENDING"
			if committed {
				c.releases++
			}
			a, err := r.Answer(c.Context(), req)
			var o *guest.Opened
			switch {
			case err == nil:
				if !committed {
					c.releases++
				}
				o, err = b.OpenEpoch(c.Context(), a)
			case committed:
				c.Errorf("release with epochs, %s: committed, and again: %v", step, err)
				return
			default:
				o, err = c.release(r, b.machine)
			}
			if err != nil || o.Epoch != 1 || o.Next != 2 || !o.Initial {
				c.Errorf("release with epochs, %s: %+v, %v", step, o, err)
				return
			}
			b.opened = o
			c.confirmed("release with epochs, "+step, r, b, 0)
		})
	}
}

// confirmed says what the guest of b says, and again, and finds it in the record once.
func (c *crash) confirmed(step string, r *replica, b *stateBoot, seq uint64) {
	c.Helper()
	k := b.says(seq)
	for range 2 {
		a, err := r.Broker.Confirm(c.Context(), *k.Confirm, k.MAC)
		if err != nil || !bytes.Equal(a.MAC, k.Confirm.Ack(b.opened.ConfirmKey, teebroker.ConfirmedResult)) {
			c.Errorf("%s: said again: %v", step, err)
		}
	}
	s, err := r.Epoch(c.Context(), tenant, b.instance, stateful)
	if err != nil || s.State != "CURRENT" || s.Epoch != b.opened.Next || s.High != b.opened.Next || s.Seq != seq || s.States[0] != b.said.State {
		c.Errorf("%s: %+v, %v", step, s, err)
	}
	if n := c.recorded(r, b); n != 1 {
		c.Errorf("%s: in the record %d times", step, n)
	}
	c.whole(step, r)
}

// whole fails unless the record is whole and has every release.
func (c *crash) whole(step string, r *replica) {
	c.Helper()
	if got, err := r.audit(c.Context()); err != nil || got.Releases != c.releases {
		c.Errorf("%s: %d releases, want %d, %v", step, got.Releases, c.releases, err)
	}
}

func (c *crash) overConfirm(what string, seq uint64) {
	boot := func() *stateBoot {
		b := c.begin()
		c.with(func(r *replica) {
			var err error
			b.opened, err = c.release(r, b.machine)
			check(c, err)
			for n := range seq {
				k := b.says(n)
				_, err := r.Broker.Confirm(c.Context(), *k.Confirm, k.MAC)
				check(c, err)
			}
		})
		return b
	}
	b := boot()
	all := c.killOver(b.says(seq))
	for _, want := range []string{"before Released", "after Released", "before Sign", "before Confirm", "sql INSERT INTO entries", "sql COMMIT", "after Confirm", ended} {
		if !slices.Contains(all, want) {
			c.Errorf("%s, never reached: %s", what, want)
		}
	}
	for i, step := range all[:len(all)-1] {
		if strings.HasPrefix(step, "sql SELECT") || seq > 0 && !writes(step) {
			continue
		}
		for _, overtaken := range []bool{false, true} {
			if overtaken && !writes(step) || raced && (overtaken || !writes(step)) {
				continue
			}
			b := boot()
			k := b.says(seq)
			k.At = i + 1
			c.killOver(k)
			c.with(func(r *replica) {
				if overtaken {
					c.overtakes(what+", "+step, r, b, seq)
				} else {
					c.confirmed(what+", "+step, r, b, seq)
				}
			})
		}
	}
}

// overtakes is another guest, which is released to while that of b doesn't know
// whether what it said is durable.
func (c *crash) overtakes(step string, r *replica, b *stateBoot, seq uint64) {
	c.Helper()
	durable := c.recorded(r, b)
	o, err := c.release(r, c.stateful(r, b.instance))
	if err != nil {
		c.Errorf("%s: another guest: %v", step, err)
		return
	}
	base, initial, first := b.opened.Next, false, strictjson.Digest{1}
	if seq == 0 && durable == 0 {
		base, initial = b.opened.Epoch, true
	}
	if durable == 1 {
		first = b.said.State
	}
	if o.Epoch != base || o.Initial != initial || o.Next != b.opened.Next+1 || !initial && o.States[0] != first {
		b, _ := json.Marshal(o.States)
		c.Errorf("%s: durable %d, and another guest opens %d, initial %v, to write %d, states %s", step, durable, o.Epoch, o.Initial, o.Next, b)
	}
	if _, err := r.Broker.Confirm(c.Context(), b.said, b.said.MAC(b.opened.ConfirmKey)); !errors.Is(err, teebroker.Superseded) {
		c.Errorf("%s: said by who is superseded: %v", step, err)
	}
	c.whole(step, r)
}
