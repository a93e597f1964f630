package tdx

import (
	"errors"
	"fmt"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/internal/tcglog"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// wireEvent is an event of a runtime log. All members are required.
type wireEvent struct {
	IMR     *uint8         `json:"imr"` // 0 to 3
	Kind    *uint32        `json:"event_type"`
	Digest  strictjson.Hex `json:"digest"` // 48 bytes
	Name    *string        `json:"event"`
	Payload strictjson.Hex `json:"event_payload"`
}

// ParseRuntimeLog parses a JSON list of events, as dstack has them: each with imr
// (the number of the RTMR), event_type, digest, event (its name) and event_payload,
// bytes in lower-case hexadecimal. Events of type 08000001 are runtime events: they
// have a name without colon and are of RTMR3, which nothing but the system
// extends. Others have none. Errors wrap an [*evidence.Error] that is Malformed.
func ParseRuntimeLog(b []byte) (EventLog, error) {
	malformed := func(err error) (EventLog, error) {
		return EventLog{}, fail(checkItems, evidence.Malformed, RuntimeLog, err)
	}
	if len(b) > MaxEventLogSize {
		return malformed(fmt.Errorf("%d bytes", len(b)))
	}
	var wire []wireEvent
	if err := strictjson.Unmarshal(b, &wire); err != nil {
		return malformed(err)
	}
	var l EventLog
	for i, w := range wire {
		e, err := w.parse()
		if err != nil {
			return malformed(fmt.Errorf("event %d: %w", i+1, err))
		}
		l.events = append(l.events, e)
	}
	return l, nil
}

func (w wireEvent) parse() (logEvent, error) {
	if w.IMR == nil || w.Kind == nil || w.Digest == nil || w.Name == nil || w.Payload == nil {
		return logEvent{}, errors.New("a member is missing")
	}
	switch runtime := *w.Kind == runtimeEvent; {
	case *w.IMR >= abi.RTMRs:
		return logEvent{}, fmt.Errorf("imr %d", *w.IMR)
	case len(w.Digest) != abi.MRSize:
		return logEvent{}, fmt.Errorf("digest of %d bytes", len(w.Digest))
	case *w.Kind == tcglog.NoAction:
		return logEvent{}, errors.New("an event that is not measured")
	case runtime != (*w.Name != ""):
		return logEvent{}, errors.New("only a runtime event has a name")
	case runtime && (*w.IMR != abi.RTMRs-1 || strings.Contains(*w.Name, ":")):
		// The host has data of its choice measured into other registers. Where the
		// name ends has to be clear from what was hashed.
		return logEvent{}, errors.New("a runtime event of another RTMR than 3, or with a colon in its name")
	}
	e := logEvent{kind: *w.Kind}
	e.RTMR, e.Digest, e.Name, e.Data = *w.IMR, [48]byte(w.Digest), *w.Name, w.Payload
	return e, nil
}
