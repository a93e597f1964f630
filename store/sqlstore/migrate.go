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
		switch {
		case version == len(migrations):
			return nil
		case version > 0 && version < firstWithMACs && len(migrations) >= firstWithMACs:
			if !s.cfg.AllowUnauthenticatedRows {
				return fmt.Errorf("%w: it is of version %d", ErrUnauthenticated, version)
			}
			if err := s.authenticate(ctx, x); err != nil {
				return fmt.Errorf("authenticating rows: %w", err)
			}
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
		simulated, err := s.marked(ctx, x, "simulated")
		if err != nil {
			return fmt.Errorf("the RowKey is not that of the database, or: %w", err)
		}
		if string(simulated) != strconv.FormatBool(s.cfg.Simulated) {
			return fmt.Errorf("%w: simulated is %s", ErrSimulated, simulated)
		}
		var c clockRow
		if _, err := scanOne(x.query(ctx, "SELECT "+clockTable.as("c")+" FROM clock c"))(dest(&c)...); err != nil {
			return err
		}
		if err := s.rows.check(&c); err != nil {
			return err
		}
		s.generation, s.latest = uint64(c.generation), c.latest
		return nil
	})
}

// marked is meta of a value that has a MAC.
func (s *Store) marked(ctx context.Context, x *session, name string) ([]byte, error) {
	var m metaRow
	if _, err := scanOne(x.query(ctx, "SELECT "+metaTable.as("m")+" FROM meta m WHERE m.name = ?", name))(dest(&m)...); err != nil {
		return nil, err
	}
	return m.value, s.rows.check(&m)
}

// begin is the first start of a database.
func (s *Store) begin(ctx context.Context, x *session) error {
	id := make([]byte, 16)
	rand.Read(id)
	canary, err := s.cfg.Cipher.Seal(ctx, id, aad("meta", "", []byte("cipher")))
	if err != nil {
		return err
	}
	for name, value := range map[string][]byte{"cipher": canary, "simulated": strconv.AppendBool(nil, s.cfg.Simulated)} {
		if _, err := x.exec(ctx, metaTable.insert, s.rows.args(&metaRow{name: name, value: value})...); err != nil {
			return err
		}
	}
	c := &clockRow{one: 1, generation: 1}
	_, err = x.exec(ctx, "UPDATE clock SET generation = ?, mac = ? WHERE one = 1 AND latest = 0", c.generation, s.rows.sum(c))
	return err
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
