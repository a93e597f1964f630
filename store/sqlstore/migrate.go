package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
)

// maintain runs f in a transaction of its own, while no other process maintains.
func (s *Store) maintain(ctx context.Context, f func(*session) error) (err error) {
	x, err := s.connect(ctx)
	if err != nil {
		return err
	}
	x.stmts = nil
	done := false
	defer func() {
		if !done {
			_ = x.rollback(ctx)
			x.discard()
			return
		}
		x.close()
	}()
	if _, err := x.conn.ExecContext(ctx, s.d.begin); err != nil {
		return err
	}
	if s.d.once != "" {
		if _, err := x.conn.ExecContext(ctx, s.d.once); err != nil {
			return err
		}
	}
	if err := f(x); err != nil {
		return err
	}
	_, err = x.conn.ExecContext(ctx, "COMMIT")
	done = err == nil
	return err
}

// meta returns a value of the database, nil if there is none.
func (x *session) meta(ctx context.Context, name string) (value []byte, err error) {
	_, err = scanOne(x.query(ctx, "SELECT value FROM meta WHERE name = ?", name))(&value)
	return value, err
}

func (x *session) setMeta(ctx context.Context, name string, value []byte) error {
	_, err := x.exec(ctx, "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
	return err
}

// migrate brings the schema forward.
func (s *Store) migrate(ctx context.Context, migrations []string) error {
	return s.maintain(ctx, func(x *session) error {
		if _, err := x.conn.ExecContext(ctx, s.d.types.Replace("CREATE TABLE IF NOT EXISTS meta (name NAME NOT NULL PRIMARY KEY, value BYTES NOT NULL) TABLE_END")); err != nil {
			return err
		}
		has, err := x.meta(ctx, "schema")
		if err != nil {
			return err
		}
		version := 0
		if has != nil {
			if version, err = strconv.Atoi(string(has)); err != nil || version < 1 {
				return errors.New("the version of the schema is damaged")
			}
		}
		if version > len(migrations) {
			return fmt.Errorf("%w: version %d, known are %d", ErrNewer, version, len(migrations))
		}
		for i, m := range migrations[version:] {
			if _, err := x.conn.ExecContext(ctx, s.d.types.Replace(m)); err != nil {
				return fmt.Errorf("migration %d: %w", version+i+1, err)
			}
		}
		if version == len(migrations) {
			return nil
		}
		return x.setMeta(ctx, "schema", strconv.AppendInt(nil, int64(len(migrations)), 10))
	})
}

// first marks the database at its first start, and compares the marks later.
func (s *Store) first(ctx context.Context) error {
	return s.maintain(ctx, func(x *session) error {
		canary, err := x.meta(ctx, "cipher")
		if err != nil {
			return err
		}
		if canary == nil {
			if err := s.begin(ctx, x); err != nil {
				return err
			}
		} else if _, err := s.cfg.Cipher.Open(ctx, canary, aad("meta", "", []byte("cipher"))); err != nil {
			return fmt.Errorf("the Cipher is not that of the database: %w", err)
		}
		simulated, err := x.meta(ctx, "simulated")
		if err != nil {
			return err
		}
		if string(simulated) != strconv.FormatBool(s.cfg.Simulated) {
			return fmt.Errorf("%w: simulated is %s", ErrSimulated, simulated)
		}
		generation, err := x.meta(ctx, "generation")
		if err != nil {
			return err
		}
		if s.generation, err = strconv.ParseUint(string(generation), 10, 63); err != nil || s.generation == 0 {
			return errors.New("the generation of the database is damaged")
		}
		_, err = scanOne(x.query(ctx, "SELECT latest FROM clock"))(&s.latest)
		return err
	})
}

// begin is the first start of a database.
func (s *Store) begin(ctx context.Context, x *session) error {
	id := make([]byte, 16)
	rand.Read(id)
	canary, err := s.cfg.Cipher.Seal(ctx, id, aad("meta", "", []byte("cipher")))
	if err != nil {
		return err
	}
	return errors.Join(
		x.setMeta(ctx, "cipher", canary),
		x.setMeta(ctx, "simulated", strconv.AppendBool(nil, s.cfg.Simulated)),
		x.setMeta(ctx, "generation", []byte("1")),
	)
}

// seal encrypts value for its place: the table and column, the tenant, and the
// primary key.
func (s *Store) seal(ctx context.Context, value []byte, place, tenant string, key ...[]byte) ([]byte, error) {
	sealed, err := s.cfg.Cipher.Seal(ctx, value, aad(place, tenant, key...))
	if err == nil && len(sealed) == 0 {
		err = errors.New("sealed to nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: sealing %s: %w", place, err)
	}
	return sealed, nil
}

// open is the inverse of seal. What does not open was changed, moved, or sealed
// under another key: it is never used.
func (s *Store) open(ctx context.Context, sealed []byte, place, tenant string, key ...[]byte) ([]byte, error) {
	value, err := s.cfg.Cipher.Open(ctx, sealed, aad(place, tenant, key...))
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", place, err)
	}
	return value, nil
}

func aad(place, tenant string, key ...[]byte) []byte {
	b := []byte("teebroker/store/v1")
	for _, x := range append([][]byte{[]byte(place), []byte(tenant)}, key...) {
		b = append(b, byte(len(x)>>24), byte(len(x)>>16), byte(len(x)>>8), byte(len(x)))
		b = append(b, x...)
	}
	return b
}
