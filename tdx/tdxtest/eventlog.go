package tdxtest

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Types of events, of which there are more: TCG PC Client Platform Firmware
// Profile, section 10.4.1, but for the last, which is dstack's.
const (
	EventNoAction  = 0x00000003 // in a CCEL only, and not measured
	EventEFIAction = 0x80000007
	EventRuntime   = 0x08000001 // has a name
)

// Event is something that a register of a TD is extended with, and what an event
// log says of it.
type Event struct {
	RTMR uint8  // 0 to 3
	Type uint32 // if zero, EventRuntime if there is a Name and EventEFIAction if not
	Name string // of a runtime event, whose Digest it is part of
	Data []byte // what is measured, or a description of it if there is a Digest

	// Digest is what the register is extended with. If zero, it is the SHA-384 of
	// Data, or of a runtime event that of type, Name and Data.
	Digest [48]byte
}

// EventLog is what the registers of a TD are extended with, in that order. A fault
// is another EventLog than the one in [TD], or bytes of one that were changed.
type EventLog []Event

// RTMRs returns the registers after l: each event that is measured makes of its
// register SHA-384 of the register and the digest.
func (l EventLog) RTMRs() [4][48]byte {
	var rs [abi.RTMRs][48]byte
	for _, e := range l {
		if e.Type == EventNoAction {
			continue
		}
		digest := e.digest()
		rs[e.RTMR] = sha512.Sum384(slices.Concat(rs[e.RTMR][:], digest[:]))
	}
	return rs
}

// CCEL returns l as firmware writes it: a Spec ID Event03 of SHA-384, then events,
// whose index is the number of the register and one. Names are left out.
func (l EventLog) CCEL() []byte {
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0) // platform class
	spec = append(spec, 0, 2, 0, 2)                           // version 2.0, and 64-bit addresses
	spec = binary.LittleEndian.AppendUint32(spec, 1)          // algorithms
	spec = binary.LittleEndian.AppendUint16(spec, algSHA384)
	spec = binary.LittleEndian.AppendUint16(spec, abi.MRSize)
	spec = append(spec, 0) // vendor info

	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = binary.LittleEndian.AppendUint32(b, EventNoAction)
	b = append(b, make([]byte, 20)...) // a digest of SHA-1
	b = appendSized(b, spec)
	for _, e := range l {
		digest := e.digest()
		b = binary.LittleEndian.AppendUint32(b, uint32(e.RTMR)+1)
		b = binary.LittleEndian.AppendUint32(b, e.kind())
		b = binary.LittleEndian.AppendUint32(b, 1) // digests
		b = binary.LittleEndian.AppendUint16(b, algSHA384)
		b = append(b, digest[:]...)
		b = appendSized(b, e.Data)
	}
	return b
}

// algSHA384 is TPM_ALG_SHA384.
const algSHA384 = 0x000C

// appendSized appends data and before it its length.
func appendSized(b, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
}

// JSON returns l as a runtime log, of all events.
func (l EventLog) JSON() []byte {
	type event struct {
		RTMR   uint8  `json:"imr"`
		Type   uint32 `json:"event_type"`
		Digest string `json:"digest"`
		Name   string `json:"event"`
		Data   string `json:"event_payload"`
	}
	es := []event{}
	for _, e := range l {
		digest := e.digest()
		es = append(es, event{e.RTMR, e.kind(), hex.EncodeToString(digest[:]), e.Name, hex.EncodeToString(e.Data)})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(es) // of texts and numbers into memory
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Items returns l as it comes along with a quote: runtime events in a runtime log
// and all others in a CCEL, which is replayed before it. One without events is
// left out.
func (l EventLog) Items() []evidence.Item {
	var firmware, runtime EventLog
	for _, e := range l {
		if e.kind() == EventRuntime {
			runtime = append(runtime, e)
		} else {
			firmware = append(firmware, e)
		}
	}
	var items []evidence.Item
	if firmware != nil {
		items = append(items, evidence.Item{Type: tdx.CCEL, Data: firmware.CCEL()})
	}
	if runtime != nil {
		items = append(items, evidence.Item{Type: tdx.RuntimeLog, Data: runtime.JSON()})
	}
	return items
}

func (e Event) kind() uint32 {
	switch {
	case e.Type != 0:
		return e.Type
	case e.Name != "":
		return EventRuntime
	}
	return EventEFIAction
}

func (e Event) digest() [48]byte {
	switch {
	case e.Digest != [48]byte{} || e.Type == EventNoAction:
		return e.Digest
	case e.kind() == EventRuntime:
		named := binary.LittleEndian.AppendUint32(nil, EventRuntime)
		return sha512.Sum384(slices.Concat(named, []byte(":"+e.Name+":"), e.Data))
	}
	return sha512.Sum384(e.Data)
}

// registers returns the RTMRs of td: those of its log, and others as they are set.
func (td TD) registers() [4][48]byte {
	rs := td.Log.RTMRs()
	for i := range rs {
		if rs[i] == [48]byte{} {
			rs[i] = td.RTMRs[i]
		}
	}
	return rs
}

// items returns what comes along with the quote of td.
func (td TD) items() []evidence.Item {
	items := td.Log.Items()
	if td.Items != nil {
		items = td.Items(items)
	}
	return items
}
