package tdx

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Numbers of TCG PC Client Platform Firmware Profile, sections 9 and 10.
const (
	evNoAction  = 3 // an event that is not measured
	algSHA384   = 0x000C
	specIDEvent = "Spec ID Event03\x00"
)

// ParseCCEL parses an event log as the ACPI table CCEL points to it: crypto-agile
// events as in TCG PC Client Platform Firmware Profile, section 9.2, with SHA-384
// only, whose index 1 to 4 is RTMR0 to 3 (UEFI, section 38.4.1), and then zeros
// or bytes FF, which nobody wrote. Events that are not measured are left out. The
// log shares memory with b. Errors wrap an [*evidence.Error] that is Malformed or
// Unsupported.
func ParseCCEL(b []byte) (EventLog, error) {
	malformed := func(err error) (EventLog, error) {
		return EventLog{}, fail(checkItems, evidence.Malformed, CCEL, err)
	}
	if len(b) > MaxEventLogSize {
		return malformed(fmt.Errorf("%d bytes", len(b)))
	}
	c := cursor{rest: b}
	if err := c.specID(); err != nil {
		return EventLog{}, err
	}
	var l EventLog
	for !padding(c.rest) {
		index, e, err := c.event()
		switch {
		case err != nil:
			return EventLog{}, err
		case !c.ok():
			return malformed(errors.New("cut short"))
		case index > abi.RTMRs || index == 0 && e.kind != evNoAction:
			return malformed(fmt.Errorf("event of index %d", index))
		case e.kind == evNoAction:
			continue
		}
		e.RTMR = uint8(index - 1)
		l.events = append(l.events, e)
	}
	return l, nil
}

// padding reports whether nothing follows but what the log was filled with.
func padding(b []byte) bool {
	return len(b) == 0 || (b[0] == 0 || b[0] == 0xFF) && bytes.Equal(b[1:], b[:len(b)-1])
}

// specID takes the first event, which is of an older form and says which
// algorithms the others are of.
func (c *cursor) specID() error {
	malformed := fail(checkItems, evidence.Malformed, CCEL, errors.New("does not begin with a Spec ID Event03"))
	c.u32() // index, which means nothing: the event is not measured
	kind, digest := c.u32(), c.take(20)
	head := cursor{rest: c.take(c.u32())}
	signature := head.take(uint32(len(specIDEvent)))
	head.take(4 + 4) // platform class, version
	algorithms := head.u32()
	if !c.ok() || !head.ok() || kind != evNoAction || !zero(digest) || string(signature) != specIDEvent {
		return malformed
	}
	if alg, size := head.u16(), head.u16(); algorithms != 1 || alg != algSHA384 || size != abi.MRSize {
		return fail(checkItems, evidence.Unsupported, CCEL, errors.New("algorithms other than SHA-384"))
	}
	vendor := head.take(1)
	if vendor != nil {
		head.take(uint32(vendor[0]))
	}
	if !head.ok() || len(head.rest) != 0 {
		return malformed
	}
	return nil
}

// event takes an event and its index.
func (c *cursor) event() (index uint32, e logEvent, err error) {
	index, e.kind = c.u32(), c.u32()
	count, alg := c.u32(), c.u16()
	digest := c.take(abi.MRSize)
	e.Data = c.take(c.u32())
	switch {
	case !c.ok():
		return 0, logEvent{}, nil
	case count != 1 || alg != algSHA384:
		return 0, logEvent{}, fail(checkItems, evidence.Malformed, CCEL, errors.New("event without exactly one digest of SHA-384"))
	}
	e.Digest = [48]byte(digest)
	return index, e, nil
}
