// Package strictjson decodes JSON that somebody else wrote and that a decision
// rests on. What encoding/json lets pass is an error here: unknown, duplicate
// and case-variant members, null in place of a value, lone surrogates, invalid
// UTF-8, trailing data, and nesting deeper than [MaxDepth].
package strictjson

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may nest.
const MaxDepth = 16

// Unmarshal decodes the one JSON value in data into v, which must be a non-nil
// pointer. Members left out keep the value that v has. Fields that are pointers
// may be null; anything else may not.
//
// Values of type [json.RawMessage] and values that decode themselves are only
// looked through for duplicates, so they have to be strict in their turn.
func Unmarshal(data []byte, v any) error { return unmarshal(data, v, false) }

// UnmarshalKnown is [Unmarshal] for documents whose author may add members
// without notice: unknown members are passed over. One whose name differs from a
// known one in case only is refused still, as two readers could differ about it.
func UnmarshalKnown(data []byte, v any) error { return unmarshal(data, v, true) }

func unmarshal(data []byte, v any, open bool) error {
	w := newWalker(data)
	w.open = open
	if err := w.all(reflect.TypeOf(v)); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// Members returns the members of the one object that data is, byte for byte: for
// what was signed as it stands there. They share memory with data, and nobody has
// looked into them: they may not even be JSON, so each has to be decoded strictly
// in its turn.
func Members(data []byte) (map[string][]byte, error) {
	w := newWalker(data)
	if err := w.checkText(); err != nil {
		return nil, err
	}
	if c, err := w.next(); err != nil {
		return nil, err
	} else if c != '{' {
		return nil, errors.New("json: not an object")
	}
	w.rest, w.seen[0] = w.rest[1:], map[string]bool{}
	values := map[string][]byte{}
	for first := true; ; first = false {
		ok, err := w.more(first, '}')
		if err != nil {
			return nil, err
		}
		if !ok {
			return values, w.end()
		}
		name, err := w.name(0)
		if err != nil {
			return nil, err
		}
		if values[name], err = w.cut(); err != nil {
			return nil, err
		}
	}
}

// cut passes over a value and returns it. It only looks for where it ends.
func (w *walker) cut() ([]byte, error) {
	w.space()
	value, depth := w.rest, 0
	for len(w.rest) > 0 {
		switch w.rest[0] {
		case '"':
			if _, err := w.text(); err != nil {
				return nil, err
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth < 0 || depth == 0 && w.rest[0] == ',' {
			return bytes.TrimRight(value[:len(value)-len(w.rest)], space), nil
		}
		w.rest = w.rest[1:]
	}
	return nil, io.ErrUnexpectedEOF
}

// surrogates refuses \u escapes that are half of a pair: encoding/json would
// decode different strings to the same U+FFFD. A backslash outside of a string
// is a syntax error that is found later.
func surrogates(data []byte) error {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++
		r, ok := escape(data, i)
		if !ok || r < 0xd800 || r > 0xdfff {
			continue
		}
		low, ok := escape(data, i+6)
		if r > 0xdbff || !ok || data[i+5] != '\\' || low < 0xdc00 || low > 0xdfff {
			return errors.New("json: lone surrogate")
		}
		i += 10
	}
	return nil
}

// escape returns the code unit of the escape whose u is at data[i].
func escape(data []byte, i int) (uint64, bool) {
	if i+5 > len(data) || data[i] != 'u' {
		return 0, false
	}
	r, err := strconv.ParseUint(string(data[i+1:i+5]), 16, 16)
	return r, err == nil
}

var (
	selfJSON = reflect.TypeFor[json.Unmarshaler]()
	selfText = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// walker looks through a document before it is decoded. Syntax it only follows:
// what it makes of a document that is not JSON does not matter, as encoding/json
// refuses that afterwards. (A json.Decoder takes ten times as long.)
type walker struct {
	data  []byte
	rest  []byte                    // of data
	open  bool                      // to unknown members
	types map[reflect.Type]typeInfo // that were seen
	seen  [MaxDepth]map[string]bool // the members of the object at each depth, in lower case
}

// typeInfo is what reflection takes long to find out.
type typeInfo struct {
	opaque  bool                    // decodes itself
	members map[string]reflect.Type // of a struct, by their exact names
}

const space = " \t\r\n"

// maxKept is how many members an object may have for the next one at its depth to
// have its map. To clear a map takes as long as it ever was large, so that one
// large object would slow down all small ones after it.
const maxKept = 64

func newWalker(data []byte) *walker {
	return &walker{data: data, rest: data, types: map[reflect.Type]typeInfo{}}
}

// all reads the one value that the document is.
func (w *walker) all(t reflect.Type) error {
	if err := w.checkText(); err != nil {
		return err
	}
	if err := w.walk(t, 0); err != nil {
		return err
	}
	return w.end()
}

// checkText refuses what could be read as another text.
func (w *walker) checkText() error {
	if !utf8.Valid(w.data) {
		return errors.New("json: invalid UTF-8")
	}
	return surrogates(w.data)
}

// end reports whether nothing is left.
func (w *walker) end() error {
	if w.space(); len(w.rest) != 0 {
		return errors.New("json: trailing data")
	}
	return nil
}

// walk reads one value, of type t if that is known.
func (w *walker) walk(t reflect.Type, depth int) error {
	nullable := t == nil
	for t != nil && t.Kind() == reflect.Pointer && !t.Implements(selfJSON) && !t.Implements(selfText) {
		t, nullable = t.Elem(), depth > 0
	}
	if t != nil && (t.Kind() == reflect.Interface || w.info(t).opaque) {
		t, nullable = nil, depth > 0 || t.Kind() == reflect.Interface // null is no document
	}
	c, err := w.next()
	if err != nil {
		return err
	}
	switch c {
	case '{', '[':
		if depth == MaxDepth {
			return errors.New("json: nested too deeply")
		}
		w.rest = w.rest[1:]
		if c == '{' {
			return w.object(t, depth)
		}
		return w.array(t, depth)
	case '"':
		_, err := w.text()
		return err
	case 'n':
		if !nullable {
			return errors.New("json: null")
		}
	}
	return w.literal()
}

// space passes over white space.
func (w *walker) space() {
	if len(w.rest) > 0 && w.rest[0] <= ' ' {
		w.rest = bytes.TrimLeft(w.rest, space)
	}
}

// next returns the first byte of the next token, which it does not pass over.
func (w *walker) next() (byte, error) {
	if w.space(); len(w.rest) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return w.rest[0], nil
}

// literal passes over a number, true, false or null.
func (w *walker) literal() error {
	n := bytes.IndexAny(w.rest, ",]}:"+space)
	if n == 0 {
		return errors.New("json: value missing")
	}
	if n < 0 {
		n = len(w.rest)
	}
	w.rest = w.rest[n:]
	return nil
}

// text passes over a string and returns it, quotes included.
func (w *walker) text() ([]byte, error) {
	if w.rest[0] != '"' {
		return nil, errors.New("json: member name is not a string")
	}
	for i := 1; i < len(w.rest); i++ {
		switch w.rest[i] {
		case '\\':
			i++
		case '"':
			quoted := w.rest[:i+1]
			w.rest = w.rest[i+1:]
			return quoted, nil
		}
	}
	return nil, io.ErrUnexpectedEOF
}

// more passes over what is between elements, or over the end, and reports whether
// there is another element.
func (w *walker) more(first bool, end byte) (bool, error) {
	c, err := w.next()
	switch {
	case err != nil:
		return false, err
	case c == end:
		w.rest = w.rest[1:]
		return false, nil
	case first:
		return true, nil
	case c != ',':
		return false, errors.New("json: comma missing")
	}
	w.rest = w.rest[1:]
	_, err = w.next()
	return true, err
}

func opaque(t reflect.Type) bool {
	p := reflect.PointerTo(t) // a pointer that does is what the document itself is decoded into
	return t.Implements(selfJSON) || t.Implements(selfText) || p.Implements(selfJSON) || p.Implements(selfText)
}

// array reads what follows the opening bracket.
func (w *walker) array(t reflect.Type, depth int) error {
	if t != nil {
		if t.Kind() != reflect.Slice {
			return fmt.Errorf("json: array where %v is wanted", t)
		}
		t = t.Elem()
	}
	for first := true; ; first = false {
		if ok, err := w.more(first, ']'); err != nil || !ok {
			return err
		}
		if err := w.walk(t, depth+1); err != nil {
			return err
		}
	}
}

// object reads what follows the opening brace.
func (w *walker) object(t reflect.Type, depth int) error {
	if t != nil && t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
		return fmt.Errorf("json: object where %v is wanted", t)
	}
	if w.seen[depth] == nil || len(w.seen[depth]) > maxKept {
		w.seen[depth] = map[string]bool{}
	}
	clear(w.seen[depth])
	for first := true; ; first = false {
		if ok, err := w.more(first, '}'); err != nil || !ok {
			return err
		}
		name, err := w.name(depth)
		if err != nil {
			return err
		}
		member, err := w.member(t, name)
		if err != nil {
			return err
		}
		if err := w.walk(member, depth+1); err != nil {
			if member == nil || t.Kind() == reflect.Map {
				name = fmt.Sprintf("%.40q", name) // the sender's choice
			}
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// name reads the name of a member, which must be new at depth, and the colon.
func (w *walker) name(depth int) (string, error) {
	quoted, err := w.text()
	if err != nil {
		return "", err
	}
	name := string(quoted[1 : len(quoted)-1])
	if strings.Contains(name, `\`) {
		if err := json.Unmarshal(quoted, &name); err != nil {
			return "", err
		}
	}
	folded := strings.ToLower(name)
	if w.seen[depth][folded] {
		return "", fmt.Errorf("json: duplicate member %.40q", name)
	}
	w.seen[depth][folded] = true
	if c, err := w.next(); err != nil {
		return "", err
	} else if c != ':' {
		return "", errors.New("json: colon missing")
	}
	w.rest = w.rest[1:]
	return name, nil
}

// member returns the type of the member called name of t, nil if it has none.
func (w *walker) member(t reflect.Type, name string) (reflect.Type, error) {
	if t == nil {
		return nil, nil
	}
	if t.Kind() == reflect.Map {
		return t.Elem(), nil
	}
	known := w.info(t).members
	member, ok := known[name]
	if !ok && (!w.open || knownInCase(known, name)) {
		return nil, fmt.Errorf("json: unknown member %.40q", name)
	}
	return member, nil
}

// info returns what is to know of t.
func (w *walker) info(t reflect.Type) typeInfo {
	if i, ok := w.types[t]; ok {
		return i
	}
	i := typeInfo{opaque: opaque(t)}
	if t.Kind() == reflect.Struct {
		i.members = members(t)
	}
	w.types[t] = i
	return i
}

// members returns the types of the members of a struct, those of embedded structs
// included, by their exact names.
func members(t reflect.Type) map[string]reflect.Type {
	known := make(map[string]reflect.Type, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		n, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && n == "" && f.Type.Kind() == reflect.Struct:
			for name, of := range members(f.Type) {
				if _, outer := known[name]; !outer {
					known[name] = of
				}
			}
			continue
		case n == "":
			n = f.Name
		}
		if f.IsExported() && n != "-" {
			known[n] = f.Type
		}
	}
	return known
}

// knownInCase reports whether encoding/json would decode name as a member that is
// called otherwise.
func knownInCase(known map[string]reflect.Type, name string) bool {
	for n := range known {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
