package sqlstore

import (
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/teebroker/teebroker/store"
)

// ErrForged is wrapped if a row was not written by a holder of the row key, is
// not where it was written, or is older than one that this process saw. The text
// names its table. Nothing is decided or answered from such a row.
const ErrForged store.Error = "sqlstore: a row is not as it was written"

// rowLabel begins what a MAC is over.
const rowLabel = "teebroker/store/row/v1"

// A table is one whose rows have a MAC under the row key, section 10 of the
// protocol.
type table struct {
	name    string
	version uint64   // of the meaning of its columns
	key     int      // how many columns the primary key has
	columns []string // that the MAC is over, in this order, which begins with the key
	wide    []string // that it is not over itself

	insert string
	update string // of the row that has a certain MAC
}

// newTable returns the table of columns, a bar, and the wide ones.
func newTable(name string, version uint64, key int, columns string) *table {
	columns, wide, _ := strings.Cut(columns, "|")
	t := &table{name: name, version: version, key: key, columns: strings.Fields(columns), wide: strings.Fields(wide)}
	all := append(append(slices.Clone(t.columns), "mac"), t.wide...)
	t.insert = "INSERT INTO " + name + " (" + strings.Join(all, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(all)-1) + ")"
	t.update = "UPDATE " + name + " SET " + strings.Join(t.columns[key:], " = ?, ") + " = ?, mac = ? WHERE " + strings.Join(t.columns[:key], " = ? AND ") + " = ? AND mac = ?"
	return t
}

// as returns the columns of t under an alias, and the MAC.
func (t *table) as(alias string) string {
	return alias + "." + strings.Join(t.columns, ", "+alias+".") + ", " + alias + ".mac"
}

// record is a row of a table.
type record interface {
	of() *table
	fields() []any // pointers to what the columns have: string, []byte, int64 or their Null types
	mac() *[]byte  // as it is stored
}

// authentic is part of every record.
type authentic struct{ stored []byte }

func (a *authentic) mac() *[]byte { return &a.stored }

// present reports whether the row of an outer join is there.
func present(r record) bool {
	for _, f := range r.fields()[:r.of().key] {
		switch p := f.(type) {
		case *string:
			if *p != "" {
				return true
			}
		case *[]byte:
			if len(*p) > 0 {
				return true
			}
		case *int64:
			if *p != 0 {
				return true
			}
		}
	}
	return false
}

// rowKey makes MACs.
type rowKey struct{ macs sync.Pool }

// newRowKey returns the row key. Its use is this one only.
func newRowKey(key [32]byte) *rowKey {
	return &rowKey{sync.Pool{New: func() any { return hmac.New(sha256.New, key[:]) }}}
}

// sum returns the MAC of r as it is now: HMAC-SHA-256 over
//
//	LP("teebroker/store/row/v1") ‖ LP(table) ‖ u64 version ‖ columns
//
// where each column is a byte that says what it has, and that: nothing (0), u64
// (1), LP(bytes) (2) or LP(text) (3). Bytes of no length are nothing. The tenant
// is a column of every table that has one.
func (k *rowKey) sum(r record) []byte {
	t := r.of()
	b := make([]byte, 0, 512)
	b = appendLP(b, rowLabel)
	b = appendLP(b, t.name)
	b = binary.BigEndian.AppendUint64(b, t.version)
	b = appendColumns(b, r.fields()...)
	m := k.macs.Get().(hash.Hash)
	defer k.macs.Put(m)
	m.Reset()
	m.Write(b)
	return m.Sum(nil)
}

// check returns an error unless r is as it was written.
func (k *rowKey) check(r record) error {
	if !hmac.Equal(k.sum(r), *r.mac()) {
		return forged(r.of().name)
	}
	return nil
}

func forged(table string) error { return fmt.Errorf("%w: table %s", ErrForged, table) }

// content is SHA-256 of columns that are too long to be read every time.
func content(columns ...any) []byte {
	d := sha256.Sum256(appendColumns(nil, columns...))
	return d[:]
}

func appendColumns(b []byte, columns ...any) []byte {
	for _, c := range columns {
		switch p := c.(type) {
		case *int64:
			b = binary.BigEndian.AppendUint64(append(b, 1), uint64(*p))
		case *sql.NullInt64:
			if b = append(b, 0); p.Valid {
				b = binary.BigEndian.AppendUint64(append(b[:len(b)-1], 1), uint64(p.Int64))
			}
		case *[]byte:
			if b = append(b, 0); len(*p) > 0 {
				b = appendLP(append(b[:len(b)-1], 2), *p)
			}
		case *string:
			b = appendLP(append(b, 3), *p)
		case *sql.NullString:
			if b = append(b, 0); p.Valid {
				b = appendLP(append(b[:len(b)-1], 3), p.String)
			}
		default:
			panic(fmt.Sprintf("sqlstore: a column of type %T", c))
		}
	}
	return b
}

func appendLP[T ~string | ~[]byte](b []byte, x T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
}

// dest returns where the columns and the MAC of records are scanned to.
func dest(rs ...record) []any {
	var to []any
	for _, r := range rs {
		to = append(append(to, r.fields()...), r.mac())
	}
	return to
}

// outer is dest for the records of outer joins, of which nothing may be there.
func outer(rs ...record) []any {
	to := dest(rs...)
	for i, p := range to {
		switch p.(type) {
		case *string, *int64:
			to[i] = maybe{p}
		}
	}
	return to
}

// maybe scans NULL as nothing.
type maybe struct{ to any }

// Scan implements [sql.Scanner].
func (m maybe) Scan(src any) error {
	switch p := m.to.(type) {
	case *string:
		switch v := src.(type) {
		case nil:
			*p = ""
		case string:
			*p = v
		case []byte:
			*p = string(v)
		default:
			return errors.New("sqlstore: a column is no text")
		}
	case *int64:
		switch v := src.(type) {
		case nil:
			*p = 0
		case int64:
			*p = v
		default:
			return errors.New("sqlstore: a column is no integer")
		}
	}
	return nil
}

// values returns what a statement is given for columns.
func values(columns ...any) []any {
	vs := make([]any, 0, len(columns)+1)
	for _, c := range columns {
		switch p := c.(type) {
		case *int64:
			vs = append(vs, *p)
		case *[]byte:
			vs = append(vs, null(*p))
		case *string:
			vs = append(vs, *p)
		case *sql.NullInt64:
			vs = append(vs, *p)
		case *sql.NullString:
			vs = append(vs, *p)
		}
	}
	return vs
}

// null is b, or NULL if it is empty.
func null(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// insert adds r with its wide columns.
func (t *tx) insert(r record, wide ...any) error {
	_, err := t.exec(r.of().insert, t.s.rows.args(r, wide...)...)
	return err
}

// insertNew is insert that leaves alone what is there. It reports whether it added
// r.
func (t *tx) insertNew(r record, wide ...any) (bool, error) {
	n, err := t.exec(r.of().insert+" ON CONFLICT DO NOTHING", t.s.rows.args(r, wide...)...)
	return n == 1, err
}

// args returns what the insert of a table is given, and sets the MAC of r.
func (k *rowKey) args(r record, wide ...any) []any {
	*r.mac() = k.sum(r)
	return append(append(values(r.fields()...), *r.mac()), wide...)
}

// update writes r over the row that it was read from, which is there as it was
// read: the transaction has locked it, or what it belongs to.
func (t *tx) update(r record) error {
	old := *r.mac()
	*r.mac() = t.s.rows.sum(r)
	k := r.of().key
	args := append(values(r.fields()[k:]...), *r.mac())
	args = append(append(args, values(r.fields()[:k]...)...), old)
	t.saw(r)
	n, err := t.exec(r.of().update, args...)
	if err == nil && n != 1 {
		err = errors.New("sqlstore: a row is not there any more: table " + r.of().name)
	}
	return err
}

// fetch reads the row of r that where names, with more columns, and checks it. It
// reports whether it is there.
func fetch(q querier, r record, where string, args []any, more ...any) (bool, error) {
	found, err := q.row("SELECT "+r.of().as("x")+where, args, append(dest(r), more...)...)
	if err != nil || !found {
		return false, err
	}
	return true, q.store().rows.check(r)
}
