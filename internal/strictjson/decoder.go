package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Decoder reads a document whose author may add members without notice, and which
// is read so often that it should not take long: in one pass, by calls that say
// what is there. It is as strict as [Unmarshal], but that unknown members are
// passed over; one whose name differs from a known one in case only is refused, as
// two readers could differ about it.
//
// The first error is kept. After it, reads return zero values and call nothing.
type Decoder struct {
	walker
	depth int
	err   error
}

// Member is a member of an object that is known.
type Member struct {
	name     string
	required bool
	read     func() // reads the value
}

// Required returns a Member that has to be there.
func Required(name string, read func()) Member { return Member{name, true, read} }

// Optional returns a Member that may be left out.
func Optional(name string, read func()) Member { return Member{name, false, read} }

// Decode decodes the one object that data is. read has to read it with one call of
// [Decoder.Object].
func Decode(data []byte, read func(d *Decoder)) error {
	d := &Decoder{walker: walker{data: data, rest: data}}
	if d.err = d.checkText(); d.err == nil {
		read(d)
	}
	if d.err == nil {
		d.err = d.end()
	}
	return d.err
}

// Fail keeps err, unless there is an error already.
func (d *Decoder) Fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// opens passes over the bracket that opens an object or array.
func (d *Decoder) opens(bracket byte, what string) bool {
	if d.err != nil {
		return false
	}
	switch c, err := d.next(); {
	case err != nil:
		d.err = err
	case c != bracket:
		d.err = errors.New("json: not " + what)
	case d.depth == MaxDepth:
		d.err = errors.New("json: nested too deeply")
	default:
		d.rest = d.rest[1:]
		d.depth++
	}
	return d.err == nil
}

// goesOn passes over what is before the next element, or over the end.
func (d *Decoder) goesOn(first bool, end byte) bool {
	if d.err != nil {
		return false
	}
	ok, err := d.more(first, end)
	if d.err = err; ok && err == nil {
		return true
	}
	d.depth--
	return false
}

// Array reads an array, each element with a call of read.
func (d *Decoder) Array(read func()) {
	if !d.opens('[', "an array") {
		return
	}
	for first := true; d.goesOn(first, ']'); first = false {
		read()
	}
}

// Object reads an object of members, of which there are 64 at most.
func (d *Decoder) Object(members ...Member) {
	if !d.opens('{', "an object") {
		return
	}
	var seen uint64                // of members
	var others map[string]struct{} // in lower case
	for first := true; d.goesOn(first, '}'); first = false {
		name := d.key()
		i := known(members, name)
		if i < 0 {
			others = d.other(members, others, string(name))
			continue
		}
		if seen&(1<<i) != 0 {
			d.Fail(fmt.Errorf("json: duplicate member %q", members[i].name))
			return
		}
		seen |= 1 << i
		if members[i].read(); d.err != nil {
			d.err = fmt.Errorf("%s: %w", members[i].name, d.err)
			return
		}
	}
	for i, m := range members {
		if m.required && seen&(1<<i) == 0 {
			d.Fail(fmt.Errorf("json: no %s", m.name))
		}
	}
}

// known returns which of members is called name, or -1.
func known(members []Member, name []byte) int {
	for i := range members {
		if members[i].name == string(name) {
			return i
		}
	}
	return -1
}

// other passes over a member that is not known, and returns others with it.
func (d *Decoder) other(members []Member, others map[string]struct{}, name string) map[string]struct{} {
	if d.err != nil {
		return others
	}
	for _, m := range members {
		if strings.EqualFold(m.name, name) {
			d.err = fmt.Errorf("json: unknown member %.40q", name)
			return others
		}
	}
	folded := strings.ToLower(name)
	if _, again := others[folded]; again {
		d.err = fmt.Errorf("json: duplicate member %.40q", name)
		return others
	}
	if others == nil {
		others = map[string]struct{}{}
	}
	others[folded] = struct{}{}
	d.Skip()
	return others
}

// Skip passes over a value of any type, which has to be strict all the same.
func (d *Decoder) Skip() {
	if d.err != nil {
		return
	}
	w := newWalker(d.rest)
	if d.err = w.walk(nil, d.depth); d.err != nil {
		return
	}
	if !json.Valid(d.rest[:len(d.rest)-len(w.rest)]) {
		d.err = errors.New("json: not a value")
	}
	d.rest = w.rest
}

// key reads the name of a member and the colon.
func (d *Decoder) key() []byte {
	name := d.Text()
	if d.err != nil {
		return nil
	}
	if c, err := d.next(); err != nil || c != ':' {
		d.err = errors.New("json: colon missing")
		return nil
	}
	d.rest = d.rest[1:]
	return name
}

// Text reads a string. Unless it has escapes, it shares memory with the document.
func (d *Decoder) Text() []byte {
	if d.err != nil {
		return nil
	}
	if _, d.err = d.next(); d.err != nil {
		return nil
	}
	quoted, err := d.text()
	if err != nil {
		d.err = err
		return nil
	}
	text, plain := quoted[1:len(quoted)-1], true
	for _, c := range text {
		plain = plain && c != '\\' && c >= ' '
	}
	if !plain {
		var s string
		d.err = json.Unmarshal(quoted, &s)
		return []byte(s)
	}
	return text
}

// Uint reads a number from 0 to most without fraction and exponent.
func (d *Decoder) Uint(most uint64) (n uint64) {
	if d.err != nil {
		return 0
	}
	if _, d.err = d.next(); d.err != nil {
		return 0
	}
	digits := len(d.rest) - len(bytes.TrimLeft(d.rest, "0123456789"))
	if digits == 0 || digits > 1 && d.rest[0] == '0' || digits > 19 { // which is less than 2⁶⁴
		d.err = errors.New("json: not a number that is wanted")
		return 0
	}
	for _, c := range d.rest[:digits] {
		n = 10*n + uint64(c-'0')
	}
	if n > most {
		d.err = errors.New("json: not a number that is wanted")
		return 0
	}
	d.rest = d.rest[digits:]
	return n
}
