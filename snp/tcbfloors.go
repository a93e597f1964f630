package snp

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/internal/refvalues"
)

// tcbFloorsKind is the kind and version of a document of floors.
const tcbFloorsKind = "teebroker/1"

// Limits of a document of floors.
const (
	maxTCBFloors = 1 << 20 // bytes
	maxFloorRows = 4096
	maxFloorText = 512 // bytes
)

// Confirmation says how it is known that a minimum TCB is what a bulletin asks for.
// The zero Confirmation is [Unconfirmed].
type Confirmation uint8

// The Confirmations.
const (
	Unconfirmed    Confirmation = iota // read somewhere else: nobody looked it up
	ByBulletin                         // read in AMD's bulletin itself
	ByReleaseNotes                     // read in AMD's notes on the firmware that has the fix
)

// String returns the name of c in documents.
func (c Confirmation) String() string {
	switch c {
	case ByBulletin:
		return "bulletin"
	case ByReleaseNotes:
		return "release-notes"
	}
	return "unconfirmed"
}

// TCBFloor is a row of [TCBFloors]: a Floor, why, and how that is known.
type TCBFloor struct {
	Floor
	Bulletin  string // such as "AMD-SB-3019"
	Confirmed Confirmation
	Note      string // where it was read, when and by whom, for people
}

// TCBFloors are minimum TCBs as data: AMD publishes them as bulletins, for people.
// docs/tcb-floors.md has the format. The zero TCBFloors has no rows.
type TCBFloors struct {
	Name    string
	Version string    // which edition, for people; it is compared with nothing
	Date    time.Time // as of which day the rows are complete, UTC
	Rows    []TCBFloor
}

// DecodeTCBFloors decodes a document of floors, strictly.
func DecodeTCBFloors(document []byte) (TCBFloors, error) {
	f, err := tcbFloorsOf(document)
	if err != nil {
		return TCBFloors{}, fmt.Errorf("snp: TCB floors: %w", err)
	}
	return f, nil
}

func tcbFloorsOf(raw json.RawMessage) (f TCBFloors, err error) {
	if len(raw) > maxTCBFloors {
		return TCBFloors{}, fmt.Errorf("more than %d bytes", maxTCBFloors)
	}
	var kind string
	if err := refvalues.Whole(raw, []refvalues.Member{
		{Name: "tcb_floors", Decode: refvalues.Value(&kind, refvalues.Plain)},
		{Name: "name", Decode: refvalues.Value(&f.Name, floorText)},
		{Name: "version", Decode: refvalues.Value(&f.Version, floorText)},
		{Name: "date", Decode: refvalues.Value(&f.Date, dayOf)},
		{Name: "rows", Decode: refvalues.List(&f.Rows, tcbFloorOf)},
	}); err != nil {
		return TCBFloors{}, err
	}
	switch {
	case kind != tcbFloorsKind:
		return TCBFloors{}, fmt.Errorf("tcb_floors: not %s", tcbFloorsKind)
	case len(f.Rows) > maxFloorRows:
		return TCBFloors{}, fmt.Errorf("rows: more than %d", maxFloorRows)
	}
	return f, nil
}

// tcbFloorOf decodes a row: the members of a Floor and three more.
func tcbFloorOf(raw json.RawMessage) (row TCBFloor, err error) {
	row.Floor, err = floorWith(raw,
		refvalues.Member{Name: "bulletin", Decode: refvalues.Value(&row.Bulletin, floorText)},
		refvalues.Member{Name: "confirmed", Decode: refvalues.Value(&row.Confirmed, confirmationNamed)},
		refvalues.Member{Name: "note", Decode: refvalues.Value(&row.Note, floorText)},
	)
	if err != nil {
		return TCBFloor{}, err
	}
	return row, nil
}

func confirmationNamed(raw json.RawMessage) (Confirmation, error) {
	return refvalues.Named(raw, Unconfirmed, ByBulletin, ByReleaseNotes)
}

// floorText decodes a text that is there.
func floorText(raw json.RawMessage) (string, error) {
	s, err := refvalues.Plain[string](raw)
	if err == nil && (s == "" || len(s) > maxFloorText) {
		err = fmt.Errorf("not 1 to %d bytes", maxFloorText)
	}
	return s, err
}

// dayOf decodes a date such as "2026-06-01".
func dayOf(raw json.RawMessage) (time.Time, error) {
	s, err := refvalues.Plain[string](raw)
	if err != nil {
		return time.Time{}, err
	}
	day, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return time.Time{}, errors.New("not a date such as 2026-06-01")
	}
	return day, nil
}

// floors yields all Floors that rv has: those written out, and the rows of data, of
// which unconfirmed ones only if they were asked for.
func (rv *ReferenceValues) floors(yield func(Floor) bool) {
	for _, f := range rv.Floors {
		if !yield(f) {
			return
		}
	}
	for _, row := range rv.TCBFloors.Rows {
		confirmed := row.Confirmed == ByBulletin || row.Confirmed == ByReleaseNotes
		if (confirmed || rv.AllowUnconfirmedFloors) && !yield(row.Floor) {
			return
		}
	}
}
