package pkcs11

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// URI is a pkcs11 URI (RFC 7512): which token of which module, how to log in, and
// which object in it. Attributes of this package's use only: any other is an
// error, since to ignore it would be to take a token that was not meant.
type URI struct {
	Token, Manufacturer, Serial, Model string // of the token, as it says of itself

	Object string // label of the object
	ID     []byte // CKA_ID of the object

	Module    string // module-path, absolute
	PINSource string // pin-source: absolute path of a file with the PIN
	PIN       []byte // pin-value; a secret
}

// ErrURI is wrapped by every failure of [ParseURI].
var ErrURI = errors.New("pkcs11: not a URI to use")

const (
	scheme = "pkcs11:"
	maxURI = 2048 // bytes
)

// Characters beside letters and digits that stand for themselves, RFC 7512
// section 2.3.
const (
	pathChars  = "-._~" + ":[]@!$'()*+,=" + "&"
	queryChars = "-._~" + ":[]@!$'()*+,=" + "/?|"
)

// ParseURI parses a pkcs11 URI of at most 2048 bytes. An attribute may be there
// once, and not empty; what RFC 7512 wants encoded is. Of pin-source and
// pin-value at most one is there; a pin-source is a path or a URI of scheme
// "file" without a host. Errors wrap ErrURI and quote no value.
func ParseURI(s string) (URI, error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok || len(s) > maxURI {
		return URI{}, fmt.Errorf("%w: scheme or length", ErrURI)
	}
	path, query, asked := strings.Cut(rest, "?")
	var u URI
	seen := map[string]bool{}
	if path != "" {
		for attr := range strings.SplitSeq(path, ";") {
			if err := u.path(seen, attr); err != nil {
				return URI{}, fmt.Errorf("%w: %w", ErrURI, err)
			}
		}
	}
	if asked {
		for attr := range strings.SplitSeq(query, "&") {
			if err := u.query(seen, attr); err != nil {
				return URI{}, fmt.Errorf("%w: %w", ErrURI, err)
			}
		}
	}
	if u.PIN != nil && u.PINSource != "" {
		return URI{}, fmt.Errorf("%w: both pin-source and pin-value", ErrURI)
	}
	return u, nil
}

// path takes one attribute of the path.
func (u *URI) path(seen map[string]bool, attr string) error {
	name, value, err := attribute(seen, attr, pathChars)
	if err != nil {
		return err
	}
	if name == "id" {
		u.ID = value
		return nil
	}
	if !utf8.Valid(value) {
		return fmt.Errorf("%s is not UTF-8", name)
	}
	switch name {
	case "token":
		u.Token = string(value)
	case "manufacturer":
		u.Manufacturer = string(value)
	case "serial":
		u.Serial = string(value)
	case "model":
		u.Model = string(value)
	case "object":
		u.Object = string(value)
	case "type":
		if t := string(value); t != "private" && t != "secret-key" {
			return errors.New("type of no key")
		}
	default:
		return fmt.Errorf("attribute %.40q of no use here", name)
	}
	return nil
}

// query takes one attribute of the query.
func (u *URI) query(seen map[string]bool, attr string) error {
	name, value, err := attribute(seen, attr, queryChars)
	if err != nil {
		return err
	}
	switch name {
	case "pin-value":
		u.PIN = value
		return nil
	case "pin-source":
		u.PINSource = strings.TrimPrefix(string(value), "file:")
		if rest, ok := strings.CutPrefix(u.PINSource, "//"); ok && len(u.PINSource) < len(value) {
			u.PINSource = rest // file:///path
		}
		return absolute(name, u.PINSource)
	case "module-path":
		u.Module = string(value)
		return absolute(name, u.Module)
	}
	return fmt.Errorf("attribute %.40q of no use here", name)
}

func absolute(name, path string) error {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsRune(path, 0) || !utf8.ValidString(path) {
		return fmt.Errorf("%s is not an absolute path", name)
	}
	return nil
}

// attribute splits name=value, which is new, and decodes the value.
func attribute(seen map[string]bool, attr, chars string) (name string, value []byte, err error) {
	name, text, ok := strings.Cut(attr, "=")
	switch {
	case !ok || name == "" || text == "":
		return "", nil, errors.New("not name=value")
	case seen[name]:
		return "", nil, fmt.Errorf("%.40q twice", name)
	}
	seen[name] = true
	value, ok = unescape(text, chars)
	if !ok {
		return "", nil, fmt.Errorf("%.40q is not encoded as it has to be", name)
	}
	return name, value, nil
}

// unescape undoes percent encoding, of which either case of hexadecimal is taken.
func unescape(s, chars string) ([]byte, bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			if i+2 >= len(s) || !hexDigit(s[i+1]) || !hexDigit(s[i+2]) {
				return nil, false
			}
			out = append(out, nibble(s[i+1])<<4|nibble(s[i+2]))
			i += 2
		case alphanumeric(c) || strings.IndexByte(chars, c) >= 0:
			out = append(out, c)
		default:
			return nil, false
		}
	}
	return out, true
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func nibble(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// String returns u as a URI that ParseURI parses, without the PIN.
func (u URI) String() string {
	var b bytes.Buffer
	b.WriteString(scheme)
	sep := ""
	add := func(name string, value []byte, chars string) {
		if len(value) == 0 {
			return
		}
		b.WriteString(sep + name + "=")
		for _, c := range value {
			if alphanumeric(c) || strings.IndexByte(chars, c) >= 0 {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		}
		sep = ";"
	}
	add("token", []byte(u.Token), pathChars)
	add("manufacturer", []byte(u.Manufacturer), pathChars)
	add("serial", []byte(u.Serial), pathChars)
	add("model", []byte(u.Model), pathChars)
	add("object", []byte(u.Object), pathChars)
	add("id", u.ID, "")
	sep = "?"
	add("module-path", []byte(u.Module), queryChars)
	if u.Module != "" {
		sep = "&"
	}
	add("pin-source", []byte(u.PINSource), queryChars)
	return b.String()
}

// GoString keeps the PIN out of logs.
func (u URI) GoString() string { return u.String() }
