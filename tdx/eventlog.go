package tdx

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Item types. Both may come along, each once. Either is believed as far as it
// makes the RTMRs of the quote what they are: with both, what the firmware
// measured comes before what the system did.
const (
	CCEL       = "tdx-ccel"        // event log of firmware and boot loader; see [ParseCCEL]
	RuntimeLog = "tdx-runtime-log" // JSON list of events; see [ParseRuntimeLog]
)

// MaxEventLogSize is how many bytes an event log may have, padding included.
// Firmware sets 256 KiB aside for one; systems that go on with it have written
// more.
const MaxEventLogSize = 10 << 20

// Event is something that an RTMR was extended with, of a log that the quote
// vouches for. It has only what was hashed: who wrote a log is free to call an
// event what he likes.
type Event struct {
	RTMR   uint8 // 0 to 3
	Digest [48]byte

	// Data is what Digest is the SHA-384 of, if the log has that: of an image it
	// has only a description, which is left out. Of a runtime event, which alone
	// has a Name, it is the payload: Name and Data make up what was hashed.
	Name string
	Data []byte
}

// EventLog is what somebody says the RTMRs were extended with, in that order.
type EventLog struct{ events []logEvent }

// logEvent is an Event of which nobody vouches for anything.
type logEvent struct {
	Event
	kind uint32 // event type
}

// runtimeEvent is the type of an event that has a name. Its digest is the SHA-384
// of type, name and payload with a colon between.
const runtimeEvent = 0x08000001

// RTMRs returns what the registers are after l: zeros are extended by SHA-384 of
// register and digest. One without events is zero.
func (l EventLog) RTMRs() [4][48]byte {
	var rs [abi.RTMRs][48]byte
	for _, e := range l.events {
		r := &rs[e.RTMR]
		*r = sha512.Sum384(slices.Concat(r[:], e.Digest[:]))
	}
	return rs
}

// covers returns which registers l has events of.
func (l EventLog) covers() (rs [4]bool) {
	for _, e := range l.events {
		rs[e.RTMR] = true
	}
	return rs
}

// openItems returns the event log that is made up of all items.
func openItems(items []evidence.Item) (EventLog, error) {
	logs := map[string]EventLog{}
	for _, i := range items {
		var parse func([]byte) (EventLog, error)
		switch i.Type {
		case CCEL:
			parse = ParseCCEL
		case RuntimeLog:
			parse = ParseRuntimeLog
		default:
			// The name is the sender's, and may be of any length.
			return EventLog{}, fail(checkItems, evidence.Malformed, "items", errors.New("unknown type"))
		}
		if _, again := logs[i.Type]; again {
			return EventLog{}, fail(checkItems, evidence.Malformed, i.Type, errors.New("more than one"))
		}
		// One byte more than a log may have is enough to see that there is one more.
		l, err := parse(bytes.Clone(i.Data[:min(len(i.Data), MaxEventLogSize+1)]))
		if err != nil {
			return EventLog{}, err
		}
		logs[i.Type] = l
	}
	return EventLog{append(logs[CCEL].events, logs[RuntimeLog].events...)}, nil
}

// checkEvents returns the events of l, which has to make the RTMRs of q what they
// are. A register without events is not asked.
func (q Quote) checkEvents(l EventLog) ([]Event, error) {
	want, got, covered := q.RTMRs(), l.RTMRs(), l.covers()
	for i := range got {
		if covered[i] && got[i] != want[i] {
			return nil, fail(checkEventLog, evidence.BadSignature, "RTMR"+strconv.Itoa(i), errors.New("not what the event log makes of it"))
		}
	}
	var events []Event
	for _, e := range l.events {
		verified, err := e.verified()
		if err != nil {
			return nil, err
		}
		events = append(events, verified)
	}
	return events, nil
}

// verified returns what of e its digest vouches for.
func (e logEvent) verified() (Event, error) {
	switch {
	case e.kind == runtimeEvent && e.Digest != e.runtimeDigest():
		return Event{}, fail(checkEventLog, evidence.BadSignature, RuntimeLog, fmt.Errorf("event of RTMR%d: the digest is not that of name and payload", e.RTMR))
	case e.kind != runtimeEvent && e.Digest != sha512.Sum384(e.Data):
		e.Data = nil
	}
	return e.Event, nil
}

func (e logEvent) runtimeDigest() [48]byte {
	b := binary.LittleEndian.AppendUint32(nil, runtimeEvent)
	b = append(append(b, ':'), e.Name...)
	return sha512.Sum384(append(append(b, ':'), e.Data...))
}

// eventClaims are about what the registers were extended with.
func (c *Claims) eventClaims() []claim {
	var digests [abi.RTMRs][]evidence.Value
	var named []evidence.Value
	for _, e := range c.Events {
		digests[e.RTMR] = append(digests[e.RTMR], evidence.Bytes(e.Digest[:]))
		if e.Name != "" {
			named = append(named, e.value())
		}
	}
	var cs []claim
	for i, ds := range digests {
		if ds != nil {
			cs = append(cs, claim{eventsClaim(i), evidence.List(ds...)})
		}
	}
	if named != nil {
		cs = append(cs, claim{"tdx.runtime_events", evidence.List(named...)})
	}
	return cs
}

func eventsClaim(rtmr int) string { return fmt.Sprintf("tdx.rtmr%d.events", rtmr) }

// value returns the Value that is name and payload of a runtime event.
func (e Event) value() evidence.Value {
	return evidence.List(evidence.Text(e.Name), evidence.Bytes(e.Data))
}
