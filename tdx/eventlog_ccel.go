package tdx

import (
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/tcglog"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// algSHA384 is TPM_ALG_SHA384, the only hash of a log of a TD.
const algSHA384 = 0x000C

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
	parsed, err := tcglog.Parse(b)
	if err != nil {
		return malformed(err)
	}
	if as := parsed.Algorithms; len(as) != 1 || as[0] != (tcglog.Algorithm{ID: algSHA384, Size: abi.MRSize}) {
		return EventLog{}, fail(checkItems, evidence.Unsupported, CCEL, errors.New("algorithms other than SHA-384"))
	}
	var l EventLog
	for {
		e, more, err := parsed.Next()
		switch {
		case err != nil:
			return malformed(err)
		case !more:
			return l, nil
		case e.Index > abi.RTMRs || e.Index == 0 && e.Type != tcglog.NoAction:
			return malformed(fmt.Errorf("event of index %d", e.Index))
		case e.Type != tcglog.NoAction:
			l.events = append(l.events, ccelEvent(&e))
		}
	}
}

// ccelEvent returns e, which is of index 1 to 4.
func ccelEvent(e *tcglog.Event) logEvent {
	made := logEvent{kind: e.Type}
	made.RTMR, made.Digest, made.Data = uint8(e.Index-1), [48]byte(e.Digest(algSHA384)), e.Data
	return made
}
