package vtpm

import (
	"bytes"
	"errors"
	"fmt"
	"hash"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/tcglog"
)

// Event is something that a quoted PCR was extended with, of a log that the quote
// vouches for. It has only what was hashed: who wrote a log is free to give an
// event any type and any description.
type Event struct {
	PCR
	Digest Octets

	// Data is what Digest is the digest of, if the log has that; nil if not: of an
	// image, say, it has a description only, which is left out.
	Data []byte
}

// startupLocality is what an event that is not measured begins with which says by
// whom PCR 0 was started: PC Client Platform Firmware Profile, section 10.4.5.3.
const startupLocality = "StartupLocality\x00"

// eventLog replays a TCG2 log into the quoted PCRs of one bank.
type eventLog struct {
	bank   Alg
	h      hash.Hash
	values [pcrCount][]byte
	touched,
	quoted [pcrCount]bool
	events []Event
}

// openEventLog parses and replays log. Each quoted PCR that the log has events of
// has to be what they make of it, in the strongest bank that quote and log have.
// Events of PCRs that are not quoted are left out.
func (c *Claims) openEventLog(log []byte) ([]Event, error) {
	malformed := func(err error) ([]Event, error) {
		return nil, fail(checkEventLog, evidence.Malformed, EventLog, err)
	}
	parsed, err := tcglog.Parse(bytes.Clone(log))
	if err != nil {
		return malformed(err)
	}
	bank, ok := c.bank(func(a Alg) bool {
		for _, in := range parsed.Algorithms {
			if Alg(in.ID) == a && int(in.Size) == a.size() {
				return true
			}
		}
		return false
	})
	if !ok {
		return nil, fail(checkEventLog, evidence.Unsupported, EventLog, errors.New("no bank that the quote is over"))
	}
	l := eventLog{bank: bank, h: bank.hash().New()}
	for _, v := range c.PCRs {
		if v.Bank == bank {
			l.quoted[v.Index] = true
		}
	}
	for {
		e, more, err := parsed.Next()
		if err == nil && more {
			err = l.add(&e)
		}
		if err != nil {
			return malformed(err)
		}
		if !more {
			break
		}
	}
	if err := l.check(c); err != nil {
		return nil, err
	}
	return l.events, nil
}

// add replays one event.
func (l *eventLog) add(e *tcglog.Event) error {
	switch {
	case e.Type == tcglog.NoAction:
		return l.start(e)
	case e.Index >= pcrCount || e.Index >= 17 && e.Index <= 22:
		// Those are reset by a dynamic launch, which no vTPM has.
		return fmt.Errorf("event of PCR %d", e.Index)
	case !l.quoted[e.Index]:
		return nil
	}
	digest := e.Digest(uint16(l.bank))
	value := l.value(int(e.Index))
	l.touched[e.Index] = true
	l.h.Reset()
	l.h.Write(value)
	l.h.Write(digest)
	l.h.Sum(value[:0])
	made := Event{PCR: PCR{l.bank, int(e.Index)}, Digest: Octets(digest)}
	l.h.Reset()
	l.h.Write(e.Data)
	if bytes.Equal(l.h.Sum(nil), digest) {
		made.Data = e.Data
	}
	l.events = append(l.events, made)
	return nil
}

// start takes the locality that PCR 0 starts with.
func (l *eventLog) start(e *tcglog.Event) error {
	locality, ok := bytes.CutPrefix(e.Data, []byte(startupLocality))
	if !ok || e.Index != 0 {
		return nil
	}
	if len(locality) != 1 || l.touched[0] {
		return errors.New("a startup locality that is none, or too late")
	}
	value := l.value(0)
	value[len(value)-1] = locality[0]
	return nil
}

// value returns the value of a PCR, which is zero at first.
func (l *eventLog) value(index int) []byte {
	if l.values[index] == nil {
		l.values[index] = make([]byte, l.bank.size())
	}
	return l.values[index]
}

func (l *eventLog) check(c *Claims) error {
	for index, touched := range l.touched {
		if !touched {
			continue
		}
		if want, _ := c.PCR(PCR{l.bank, index}); want != Octets(l.values[index]) {
			return fail(checkEventLog, evidence.BadSignature, fmt.Sprintf("PCR%d", index), errors.New("not what the event log makes of it"))
		}
	}
	return nil
}
