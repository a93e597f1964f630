package tcglog_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker/internal/tcglog"
)

func le(parts ...any) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		if err := binary.Write(&b, binary.LittleEndian, p); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// specID returns the first event, for algorithms given as id and size.
func specID(algorithms ...uint16) []byte {
	spec := le([]byte("Spec ID Event03\x00"), uint32(0), uint32(0x02000200), uint32(len(algorithms)/2), algorithms, []byte{2, 'v', 'i'})
	return le(uint32(0), uint32(tcglog.NoAction), make([]byte, 20), uint32(len(spec)), spec)
}

// event returns an event with two digests, in the order of ids.
func event(index uint32, data string, ids ...uint16) []byte {
	b := le(index, uint32(1), uint32(len(ids)))
	for _, id := range ids {
		b = append(b, le(id, bytes.Repeat([]byte{byte(id)}, int(id)))...) // as long as its number
	}
	return append(b, le(uint32(len(data)), []byte(data))...)
}

// read returns the events of b, and why it is not a log.
func read(b []byte) (got []string, err error) {
	l, err := tcglog.Parse(b)
	if err != nil {
		return nil, err
	}
	for {
		e, more, err := l.Next()
		if err != nil || !more {
			return got, err
		}
		got = append(got, fmt.Sprintf("%d %x %x %x %s", e.Index, e.Digest(3), e.Digest(5), e.Digest(9), e.Data))
	}
}

func TestLog(t *testing.T) {
	good := append(append(specID(3, 3, 5, 5), event(7, "one", 3, 5)...), event(8, "", 5, 3)...)
	padded := append(bytes.Clone(good), bytes.Repeat([]byte{0xFF}, 20)...)
	for _, b := range [][]byte{good, padded} {
		got, err := read(b)
		if want := "[7 030303 0505050505  one 8 030303 0505050505  ]"; err != nil || fmt.Sprint(got) != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
	head := specID(3, 3, 5, 5)
	for name, bad := range map[string][]byte{
		"nothing":                  nil,
		"no algorithms":            specID(),
		"an algorithm twice":       specID(3, 3, 3, 3),
		"an algorithm of no size":  specID(3, 0),
		"a digest too long":        specID(3, 65),
		"many algorithms":          specID(1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9),
		"a digest twice":           append(bytes.Clone(head), event(7, "", 3, 3)...),
		"a digest less":            append(bytes.Clone(head), event(7, "", 3)...),
		"a digest more":            append(bytes.Clone(head), event(7, "", 3, 5, 9)...),
		"a digest of no algorithm": append(bytes.Clone(head), event(7, "", 3, 9)...),
		"padded with both":         append(padded, 0),
		"data beyond the end":      append(bytes.Clone(head), append(event(7, "", 3, 5)[:26], 0xFF, 0xFF, 0xFF, 0xFF)...),
	} {
		if got, err := read(bad); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	for n := range len(good) {
		if got, err := read(good[:n]); err == nil && n != len(head) && n != len(head)+len(event(7, "one", 3, 5)) {
			t.Errorf("cut to %d bytes: %v", n, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(append(specID(3, 3, 5, 5), event(7, "one", 3, 5)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := tcglog.Parse(b)
		for err == nil {
			var e tcglog.Event
			var more bool
			if e, more, err = l.Next(); err != nil || !more {
				return
			}
			for _, a := range l.Algorithms {
				if len(e.Digest(a.ID)) != int(a.Size) {
					t.Fatalf("a digest of %d bytes", len(e.Digest(a.ID)))
				}
			}
		}
	})
}
