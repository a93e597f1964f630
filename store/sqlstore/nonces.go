package sqlstore

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
)

// Redeem implements [nonce.Store].
func (s *Store) Redeem(ctx context.Context, n nonce.Nonce, request [32]byte, expiry time.Time) error {
	until, err := stamp(expiry)
	if err == nil {
		// A database that was put back has forgotten nonces, and much else: it is
		// not asked to judge anybody.
		_, err = s.seen(headKey{"", teebroker.Decisions})
	}
	if err != nil {
		return err
	}
	return s.do(ctx, &job{order: "nonces\x00" + string(n[:]), run: func(t *tx) error {
		if t.now >= until {
			return nonce.Spent
		}
		added, err := t.exec("INSERT INTO nonces (nonce, request, at, expiry) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", n[:], request[:], t.now, until)
		if err != nil || added == 1 {
			return err
		}
		t.wrote = false // nothing
		var by []byte
		var at int64
		found, err := t.row("SELECT request, at FROM nonces WHERE nonce = ?", []any{n[:]}, &by, &at)
		switch {
		case err != nil:
			return err
		case found && string(by) == string(request[:]) && t.now-at < int64(inProgress):
			return nonce.InProgress
		}
		return nonce.Spent
	}})
}

// maxKept bounds a kept value. Clients send up to 10 MiB of evidence.
const maxKept = 24 << 20

var errKept = errors.New("sqlstore: kept before")

// Put implements [teebroker.Kept]. An id is used once.
func (s *Store) Put(ctx context.Context, id string, value []byte, expiry time.Time) error {
	until, err := stamp(expiry)
	switch {
	case err != nil:
		return err
	case id == "" || len(id) > 128 || len(value) > maxKept:
		return errors.New("sqlstore: not to be kept: the id or the value is too long")
	}
	place := s.keptPlace(id, until)
	sealed, err := s.seal(ctx, value, "kept.value", "", place...)
	if err != nil {
		return err
	}
	return s.do(ctx, &job{order: "kept\x00" + id, run: func(t *tx) error {
		added, err := t.exec("INSERT INTO kept (id, value, expiry) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", id, sealed, until)
		if err == nil && added == 0 {
			t.wrote = false
			err = errKept
		}
		return err
	}})
}

// Get implements [teebroker.Kept].
func (s *Store) Get(ctx context.Context, id string) ([]byte, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var c clockRow
	var db int64
	var sealed []byte
	var until *int64
	_, err = r.row("SELECT "+clockTable.as("c")+", "+s.d.clock+", k.value, k.expiry FROM clock c LEFT JOIN kept k ON k.id = ?", []any{id}, append(dest(&c), &db, &sealed, &until)...)
	if err != nil {
		return nil, err
	}
	now, err := s.clock(&c, db)
	switch {
	case err != nil:
		return nil, err
	case until == nil || now >= *until:
		return nil, teebroker.Gone
	}
	return s.open(ctx, sealed, "kept.value", "", s.keptPlace(id, *until)...)
}

// keptPlace is what a kept value is sealed for: its expiry is as it was put, and
// after a restore none opens.
func (s *Store) keptPlace(id string, expiry int64) [][]byte {
	return [][]byte{[]byte(id), binary.BigEndian.AppendUint64(nil, uint64(expiry)), binary.BigEndian.AppendUint64(nil, s.generation)}
}
