package collateral

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// recordKind is the kind and version of what a Cache has in a file.
const recordKind = "teebroker/1"

// maxName bounds names of collateral, in bytes.
const maxName = 512

// record is one piece of collateral in a file of its own, in a cache, or among
// others, in a bundle.
type record struct {
	Kind   string            `json:"collateral,omitempty"` // in a file of its own
	Name   string            `json:"name"`
	Data   strictjson.Base64 `json:"data"`
	Issuer strictjson.Base64 `json:"issuer,omitempty"`
}

func (r record) collateral() evidence.Collateral {
	return evidence.Collateral{Data: r.Data, Issuer: r.Issuer}
}

// check reports whether r is of the sizes that collateral has.
func (r record) check() error {
	switch {
	case !isName(r.Name):
		return errors.New("not a name")
	case len(r.Data) == 0 || len(r.Data) > maxItem || len(r.Issuer) > maxItem:
		return errors.New("not of the size of collateral")
	}
	return nil
}

// isName reports whether s is 1 to 512 bytes of printable ASCII.
func isName(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxName
}

// encode returns the file of c under name.
func encode(name string, c evidence.Collateral) ([]byte, error) {
	r := record{recordKind, name, c.Data, c.Issuer}
	if err := r.check(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// decode returns what the file b has.
func decode(b []byte) (record, error) {
	var r record
	if err := strictjson.Unmarshal(b, &r); err != nil {
		return record{}, err
	}
	if r.Kind != recordKind {
		return record{}, errors.New("not a file of a cache, or of another version")
	}
	return r, r.check()
}

// place returns where in a directory what has name is: a folder, and how the names
// of its files in it start.
func place(name string) (folder, prefix string) {
	sum := sha256.Sum256([]byte(name))
	h := hex.EncodeToString(sum[:17])
	return h[:2], h[2:] + "-"
}

// fileName returns how the file b of the place with prefix is called: two that
// write the same write the same file, and none writes over another's.
func fileName(prefix string, b []byte) string {
	sum := sha256.Sum256(b)
	return prefix + hex.EncodeToString(sum[:16]) + ".json"
}
