// Package tcglog parses crypto-agile event logs: TCG PC Client Platform Firmware
// Profile, sections 9.2 and 10. It knows nothing of registers: what an index is,
// and which hashes count, is the caller's to say.
package tcglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// NoAction is the type of an event that is not measured.
const NoAction = 3

// MaxAlgorithms is how many hashes a log may have; there are five in the registry
// that anybody used.
const MaxAlgorithms = 8

// An Algorithm is a hash that every event of a log has a digest of.
type Algorithm struct {
	ID, Size uint16
}

// An Event of a log. It shares memory with the log.
type Event struct {
	Index, Type uint32
	Data        []byte

	digests [MaxAlgorithms]digest
}

type digest struct {
	id    uint16
	bytes []byte
}

// Digest returns the digest of algorithm id, or nil.
func (e *Event) Digest(id uint16) []byte {
	for _, d := range e.digests {
		if d.id == id && d.bytes != nil {
			return d.bytes
		}
	}
	return nil
}

// A Log is a view of a log.
type Log struct {
	Algorithms []Algorithm
	rest       []byte
}

var errSpecID = errors.New("does not begin with a Spec ID Event03")

const specIDEvent = "Spec ID Event03\x00"

// Parse reads the first event, which is of an older form and says which algorithms
// the others are of. The Log shares memory with b.
func Parse(b []byte) (Log, error) {
	c := cursor{rest: b}
	c.u32() // index, which means nothing: the event is not measured
	kind, digest := c.u32(), c.take(20)
	head := cursor{rest: c.take(int(c.u32()))}
	signature := head.take(len(specIDEvent))
	head.take(4 + 4) // platform class, version
	count := head.u32()
	if c.broken || head.broken || kind != NoAction || len(bytes.Trim(digest, "\x00")) != 0 || string(signature) != specIDEvent {
		return Log{}, errSpecID
	}
	if count == 0 || count > MaxAlgorithms {
		return Log{}, fmt.Errorf("%d algorithms", count)
	}
	l := Log{rest: c.rest}
	for range count {
		a := Algorithm{head.u16(), head.u16()}
		if a.Size == 0 || a.Size > 64 || sizeOf(l.Algorithms, a.ID) != 0 {
			return Log{}, errors.New("an algorithm twice, or of no size")
		}
		l.Algorithms = append(l.Algorithms, a)
	}
	if vendor := head.take(1); vendor != nil {
		head.take(int(vendor[0]))
	}
	if head.broken || len(head.rest) != 0 {
		return Log{}, errSpecID
	}
	return l, nil
}

// sizeOf returns the size of id, or 0.
func sizeOf(as []Algorithm, id uint16) int {
	for _, a := range as {
		if a.ID == id {
			return int(a.Size)
		}
	}
	return 0
}

// Next returns the next event and true, or false at the end: nothing but zeros, or
// nothing but bytes FF, is what firmware did not write. Every event has a digest
// of every algorithm.
func (l *Log) Next() (Event, bool, error) {
	if padding(l.rest) {
		return Event{}, false, nil
	}
	c := cursor{rest: l.rest}
	e := Event{Index: c.u32(), Type: c.u32()}
	count := c.u32()
	for i := range l.Algorithms {
		id := c.u16()
		size := sizeOf(l.Algorithms, id)
		if c.broken || int64(count) != int64(len(l.Algorithms)) || size == 0 || e.Digest(id) != nil {
			return Event{}, false, errors.New("event without exactly one digest of each algorithm")
		}
		e.digests[i] = digest{id, c.take(size)}
	}
	e.Data = c.take(int(c.u32()))
	if c.broken {
		return Event{}, false, errors.New("cut short")
	}
	l.rest = c.rest
	return e, true, nil
}

// padding reports whether nothing follows but what the log was filled with.
func padding(b []byte) bool {
	return len(b) == 0 || (b[0] == 0 || b[0] == 0xFF) && bytes.Equal(b[1:], b[:len(b)-1])
}

// cursor reads little-endian numbers. After a read beyond the end it is broken.
type cursor struct {
	rest   []byte
	broken bool
}

func (c *cursor) take(n int) []byte {
	if c.broken || n < 0 || n > len(c.rest) {
		c.broken, c.rest = true, nil
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}
