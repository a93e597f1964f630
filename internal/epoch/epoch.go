// Package epoch is the state machine of section 7 of the release protocol: the
// epochs of one (tenant, instance, purpose). It is values and functions only;
// stores keep a [Row] and change it in the transaction of what the event is about.
// docs/model/epochs.pml says why the rules are these.
package epoch

import (
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// Mode says what a host that keeps old disks may choose from.
type Mode string

// The Modes.
const (
	Boot  Mode = "boot"  // any state saved within the last confirmed boot
	Write Mode = "write" // the last settled state, or the one write in flight
)

// Status is where a Row is in its life.
type Status string

// The Statuses.
const (
	Absent  Status = ""
	Current Status = "CURRENT"
	Pending Status = "PENDING"
	Held    Status = "HELD"
	Retired Status = "RETIRED" // for ever
)

// Row is the state of one (tenant, instance, purpose). Its zero is ABSENT. It is a
// value: methods return the Row that follows, or a Refusal and r as it was.
type Row struct {
	Mode   Mode   `json:"mode"`
	Status Status `json:"status"`
	Behind Status `json:"behind,omitempty"` // of a HELD row, what resume returns it to

	Epoch uint64            `json:"epoch"` // the current one, n
	Blob  strictjson.Digest `json:"blob"`  // of its wrapped key
	High  uint64            `json:"high"`  // the largest ever issued: no number is given twice

	Initial bool   `json:"initial,omitempty"` // the guest makes its own first state
	Slot    uint64 `json:"slot,omitempty"`    // if not 0, the dead epoch whose state slot the next boot opens

	// While a release is pending: m, its blob, and R.
	Next     uint64            `json:"next,omitempty"`
	NextBlob strictjson.Digest `json:"next_blob,omitzero"`
	Release  strictjson.UUID   `json:"release,omitzero"`

	Live   strictjson.UUID     `json:"live,omitzero"`    // the confirmed release that may still checkpoint, or zero
	Seq    uint64              `json:"seq,omitempty"`    // of its last checkpoint
	States []strictjson.Digest `json:"states,omitempty"` // of the state slot of Epoch as stored, at most 2, newest first; of write mode
	Last   Confirm             `json:"last,omitzero"`    // of Live, which is answered again
}

// Granted is what a release under r is for.
type Granted struct {
	Epoch   uint64              // whose key and state the guest opens
	Slot    uint64              // whose state slot it opens
	Next    uint64              // whose key it gets and whose slot it writes
	Initial bool                // it makes fresh state
	States  []strictjson.Digest // if not empty, what it opens has one of these digests
}

// Confirm is what a guest says of its state.
type Confirm = teebroker.Confirm

// Register sets the first wrapped key of a purpose, or one after it was there
// and nothing ever ran: e is larger than any number before it.
func (r Row) Register(mode Mode, e uint64, blob [32]byte, initial bool) (Row, error) {
	switch {
	case r.Status != Absent, e <= r.High, blob == [32]byte{}, mode != Boot && mode != Write:
		return r, teebroker.ForeignBlob
	}
	return Row{Mode: mode, Status: Current, Epoch: e, Blob: blob, High: e, Initial: initial}, nil
}

// presents returns why a guest that presents blob gets nothing, or nil. Showing a
// pending blob does not confirm it.
func (r Row) presents(blob [32]byte) error {
	switch {
	case blob == [32]byte{}, blob == r.Blob:
		return nil
	case r.Status == Pending && blob == r.NextBlob:
		return teebroker.EpochPending
	}
	return teebroker.EpochDead
}

// Take is the release of next: it opens the current epoch and writes the next
// one. Whatever was pending or live before is superseded.
func (r Row) Take(release [16]byte, presented, next [32]byte) (Row, Granted, error) {
	switch r.Status {
	case Current, Pending:
	case Held:
		return r, Granted{}, teebroker.Held
	default:
		return r, Granted{}, teebroker.NotAuthorized
	}
	if err := r.presents(presented); err != nil {
		return r, Granted{}, err
	}
	if release == [16]byte{} || next == [32]byte{} || r.High+1 == 0 {
		return r, Granted{}, teebroker.Unavailable
	}
	r.Status, r.High = Pending, r.High+1
	r.Next, r.NextBlob, r.Release = r.High, next, release
	r.Live, r.Seq, r.Last = [16]byte{}, 0, Confirm{}
	g := Granted{Epoch: r.Epoch, Slot: r.Epoch, Next: r.Next, Initial: r.Initial, States: slices.Clone(r.States)}
	if r.Slot != 0 {
		g.Slot = r.Slot
	}
	return r, g, nil
}

// Confirm takes what the guest of c.Release says of its state. What it said
// before is taken again, and changes nothing.
func (r Row) Confirm(c Confirm) (Row, error) {
	switch {
	case r.Status == Held:
		return r, teebroker.Held
	case c.Release == [16]byte{}:
		return r, teebroker.Superseded
	case r.Status == Pending && c.Release == r.Release && c.Seq == 0:
		return r.confirm(c)
	case c.Release != r.Live || r.Status != Current:
		return r, teebroker.Superseded
	case c == r.Last:
		return r, nil
	case c.Seq == 0, c.Seq != r.Seq+1, c.Epoch != r.Epoch:
		return r, teebroker.MalformedRequest
	}
	return r.checkpoint(c)
}

func (r Row) confirm(c Confirm) (Row, error) {
	if c.Epoch != r.Next {
		return r, teebroker.MalformedRequest
	}
	next := Row{
		Mode: r.Mode, Status: Current, Epoch: r.Next, Blob: r.NextBlob, High: r.High, Live: c.Release, Last: c,
	}
	if r.Mode == Write {
		next.States = []strictjson.Digest{c.State}
	}
	return next, nil
}

func (r Row) checkpoint(c Confirm) (Row, error) {
	if r.Mode != Write {
		return r, teebroker.MalformedRequest
	}
	r.Seq, r.Last = c.Seq, c
	switch {
	case c.Settled:
		r.States = []strictjson.Digest{c.State}
	default:
		r.States = []strictjson.Digest{c.State, r.States[len(r.States)-1]}
	}
	return r, nil
}

// Hold stops releases and confirms until Resume.
func (r Row) Hold() (Row, error) {
	switch r.Status {
	case Current, Pending:
		r.Behind, r.Status = r.Status, Held
		return r, nil
	case Held:
		return r, nil
	}
	return r, teebroker.NotAuthorized
}

// Resume returns a HELD row to what it was.
func (r Row) Resume() (Row, error) {
	if r.Status != Held {
		return r, teebroker.NotAuthorized
	}
	r.Status, r.Behind = r.Behind, ""
	return r, nil
}

// Restored is r in a database that was put back to an earlier state: held until its
// owner resumes it, without the release that was pending, since nobody knows what
// became of that.
func (r Row) Restored() Row {
	switch r.Status {
	case Current, Pending, Held:
		r.Status, r.Behind = Held, Current
		r.Next, r.NextBlob, r.Release = 0, strictjson.Digest{}, strictjson.UUID{}
	}
	return r
}

// Recover makes blob the current epoch, under a number of its own. slot is the
// dead epoch whose key it wraps anew and whose state the next boot opens, or 0
// for a key that the owner brings with its state. Every release is superseded.
func (r Row) Recover(blob [32]byte, slot uint64) (Row, error) {
	switch {
	case r.Status == Absent || r.Status == Retired:
		return r, teebroker.NotAuthorized
	case blob == [32]byte{} || slot > r.High || r.High+1 == 0:
		return r, teebroker.MalformedRequest
	}
	return Row{Mode: r.Mode, Status: Current, Epoch: r.High + 1, Blob: blob, High: r.High + 1, Slot: slot}, nil
}

// Retire ends the purpose for ever.
func (r Row) Retire() (Row, error) {
	if r.Status == Absent {
		return r, teebroker.NotAuthorized
	}
	return Row{Mode: r.Mode, Status: Retired, High: r.High}, nil
}

// Terms returns what a release would be for whose guest presents a blob, without
// the blob of the next epoch, or why there would be none.
func (r Row) Terms(presented [32]byte) (*teebroker.Epoch, error) {
	_, g, err := r.Take([16]byte{1}, presented, [32]byte{1})
	if err != nil {
		return nil, err
	}
	return &teebroker.Epoch{
		Number: g.Epoch, Blob: r.Blob, Slot: g.Slot, Initial: g.Initial, States: g.States, Next: g.Next,
	}, nil
}

// Serves returns why the stored bytes of a release are not served again, or nil.
// That of a release whose slot is closed, its store knows.
func (r Row) Serves(release [16]byte) error {
	switch {
	case r.Status == Held:
		return teebroker.Held
	case release == r.Live:
		return teebroker.Gone
	case release != r.Release:
		return teebroker.Superseded
	}
	return nil
}

// Shows returns where release is, which was one of this purpose.
func (r Row) Shows(release [16]byte) teebroker.ShownState {
	switch {
	case release == [16]byte{}, release != r.Live && release != r.Release:
		return teebroker.ShownSuperseded
	case r.Status == Held:
		return teebroker.ShownHeld
	case release == r.Live && r.Status == Current:
		return teebroker.ShownLive
	case release == r.Release && r.Status == Pending:
		return teebroker.ShownPending
	}
	return teebroker.ShownSuperseded
}

// Forgets are the epochs that r, which follows before, is kept or more numbers from,
// and before was not: whose wrapped keys a store forgets. The current one is none.
func (r Row) Forgets(before Row, kept uint64) (ns []uint64) {
	if r.High > before.High && r.High > kept && r.High-kept != r.Epoch {
		ns = append(ns, r.High-kept)
	}
	if e := before.Epoch; e != r.Epoch && e != 0 && e+kept <= r.High && !slices.Contains(ns, e) {
		ns = append(ns, e) // which was current until now
	}
	return ns
}

// Ended are the releases of before that are neither pending nor live in r: an
// event superseded them.
func (r Row) Ended(before Row) (ended []strictjson.UUID) {
	for _, id := range []strictjson.UUID{before.Release, before.Live} {
		if id != (strictjson.UUID{}) && id != r.Release && id != r.Live {
			ended = append(ended, id)
		}
	}
	return ended
}
