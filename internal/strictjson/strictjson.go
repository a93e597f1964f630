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
	"iter"
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
	if !utf8.Valid(data) {
		return errors.New("json: invalid UTF-8")
	}
	if err := surrogates(data); err != nil {
		return err
	}
	dec := walker{json.NewDecoder(bytes.NewReader(data)), open}
	dec.UseNumber()
	if err := dec.walk(reflect.TypeOf(v), 0); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("json: trailing data")
	}
	return json.Unmarshal(data, v)
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

// walker looks through a document before it is decoded.
type walker struct {
	*json.Decoder
	open bool // to unknown members
}

// walk reads one value, of type t if that is known.
func (dec walker) walk(t reflect.Type, depth int) error {
	tok, err := dec.Token()
	if err != nil {
		return syntax(err)
	}
	nullable := t == nil
	for t != nil && t.Kind() == reflect.Pointer && !t.Implements(selfJSON) && !t.Implements(selfText) {
		t, nullable = t.Elem(), depth > 0
	}
	if t != nil && (t.Kind() == reflect.Interface || opaque(t)) {
		t, nullable = nil, true
	}
	if tok == nil && !nullable {
		return errors.New("json: null")
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	if depth == MaxDepth {
		return errors.New("json: nested too deeply")
	}
	if delim == '{' {
		err = dec.object(t, depth)
	} else {
		err = dec.array(t, depth)
	}
	if err != nil {
		return err
	}
	_, err = dec.Token()
	return syntax(err)
}

func opaque(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(selfJSON) || p.Implements(selfText)
}

func (dec walker) array(t reflect.Type, depth int) error {
	if t != nil {
		if t.Kind() != reflect.Slice {
			return fmt.Errorf("json: array where %v is wanted", t)
		}
		t = t.Elem()
	}
	for dec.More() {
		if err := dec.walk(t, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (dec walker) object(t reflect.Type, depth int) error {
	if t != nil && t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
		return fmt.Errorf("json: object where %v is wanted", t)
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return syntax(err)
		}
		name, ok := tok.(string)
		if !ok {
			return errors.New("json: member name is not a string")
		}
		if folded := strings.ToLower(name); seen[folded] {
			return fmt.Errorf("json: duplicate member %.40q", name)
		} else {
			seen[folded] = true
		}
		member := reflect.Type(nil)
		switch {
		case t == nil:
		case t.Kind() == reflect.Map:
			member = t.Elem()
		default:
			if member, ok = field(t, name); !ok && (!dec.open || knownInCase(t, name)) {
				return fmt.Errorf("json: unknown member %.40q", name)
			}
		}
		if err := dec.walk(member, depth+1); err != nil {
			if member == nil || t.Kind() == reflect.Map {
				name = fmt.Sprintf("%.40q", name) // the sender's choice
			}
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// field returns the type of the member of t that is called name exactly.
func field(t reflect.Type, name string) (reflect.Type, bool) {
	for n, of := range members(t) {
		if n == name {
			return of, true
		}
	}
	return nil, false
}

// knownInCase reports whether encoding/json would decode name as a member of t
// that is called otherwise.
func knownInCase(t reflect.Type, name string) bool {
	for n := range members(t) {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// members yields the names and types of the members of a struct.
func members(t reflect.Type) iter.Seq2[string, reflect.Type] {
	return func(yield func(string, reflect.Type) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if !f.IsExported() || f.Anonymous && f.Tag.Get("json") == "" {
				continue
			}
			n, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if n == "" {
				n = f.Name
			}
			if n != "-" && !yield(n, f.Type) {
				return
			}
		}
	}
}

func syntax(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
