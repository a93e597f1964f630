package sqlstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// forEver is when the stored bytes of a release with epochs are erased unless an
// event of its epochs does it.
const forEver = 1 << 62

func parseEpoch(b []byte) (*teebroker.Epoch, error) {
	if b == nil {
		return nil, nil
	}
	var e teebroker.Epoch
	if err := strictjson.Unmarshal(b, &e); err != nil {
		return nil, errors.New("sqlstore: a release is damaged")
	}
	return &e, nil
}

func parseRow(b []byte) (epoch.Row, error) {
	var r epoch.Row
	if err := strictjson.Unmarshal(b, &r); err != nil {
		return r, errors.New("sqlstore: an epoch is damaged")
	}
	return r, nil
}

// granted returns what a release of g is for, or what have was for; nil if its
// purpose has no epochs, of which state is the row.
func granted(state []byte, g teebroker.Grant, have *release) (*teebroker.Epoch, error) {
	if state == nil {
		return nil, nil
	}
	row, err := parseRow(state)
	switch {
	case err != nil:
		return nil, err
	case have == nil:
		return row.Terms(g.Presented)
	}
	if err := row.Serves(have.id); err != nil {
		return nil, err
	}
	return parseEpoch(have.epoch)
}

// wrappedKey returns the wrapped key of an epoch, nil if there is no copy.
func wrappedKey(q querier, g teebroker.Grant, number uint64) (wrapped []byte, err error) {
	_, err = q.row("SELECT wrapped FROM epoch_blobs WHERE tenant = ? AND instance = ? AND purpose = ? AND epoch = ?", []any{g.Tenant, g.Instance[:], g.Purpose, int64(number)}, &wrapped)
	return wrapped, err
}

// epochPlace is a purpose with epochs.
type epochPlace struct {
	tenant   string
	instance [16]byte
	purpose  string
}

// taken is the event of the release r of g, for which terms were granted.
func (t *tx) taken(g teebroker.Grant, r teebroker.Response, terms *teebroker.Epoch, state []byte) ([]byte, error) {
	switch {
	case !terms.Same(g.Epoch):
		return nil, teebroker.ErrAgain
	case len(g.ConfirmKey) == 0 || g.Epoch.NextBlob == (strictjson.Digest{}):
		return nil, errors.New("sqlstore: a release without what confirms it")
	}
	before, err := parseRow(state)
	if err != nil {
		return nil, err
	}
	row, _, err := before.Take(r.Release, g.Presented, g.Epoch.NextBlob)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(g.Epoch)
	if err != nil {
		return nil, err
	}
	at := epochPlace{g.Tenant, g.Instance, g.Purpose}
	if err := t.set(at, before, row); err != nil {
		return nil, err
	}
	return body, t.keep(at, row, teebroker.Blob{Digest: g.Epoch.NextBlob, Epoch: g.Epoch.Next, Wrapped: g.Epoch.NextWrapped})
}

// set makes row what follows before, and closes the slots of what it superseded.
func (t *tx) set(at epochPlace, before, row epoch.Row) error {
	body, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO epochs (tenant, instance, purpose, state) VALUES (?, ?, ?, ?)
ON CONFLICT (tenant, instance, purpose) DO UPDATE SET state = excluded.state`, at.tenant, at.instance[:], at.purpose, body)
	if err != nil {
		return err
	}
	const its = "WHERE tenant = ? AND instance = ? AND recipient = (SELECT r.recipient FROM releases r WHERE r.tenant = ? AND r.id = ?)"
	for _, ended := range row.Ended(before) {
		args := []any{at.tenant, at.instance[:], at.tenant, ended[:]}
		n, err := t.exec("UPDATE slots SET closed = 1 "+its, args...)
		if err == nil && n != 1 {
			err = errors.New("sqlstore: a release of an epoch is not there")
		}
		if err != nil {
			return err
		}
		if _, err := t.exec("UPDATE releases SET closed = 1, sealed = NULL "+its, args...); err != nil {
			return err
		}
	}
	return nil
}

// keep remembers the blob of an epoch, and forgets old ones.
func (t *tx) keep(at epochPlace, row epoch.Row, b teebroker.Blob) error {
	_, err := t.exec("INSERT INTO epoch_blobs (tenant, instance, purpose, epoch, digest, wrapped) VALUES (?, ?, ?, ?, ?, ?)",
		at.tenant, at.instance[:], at.purpose, int64(b.Epoch), b.Digest[:], null(b.Wrapped))
	if err != nil || row.High <= store.KeptBlobs {
		return err
	}
	_, err = t.exec("DELETE FROM epoch_blobs WHERE tenant = ? AND instance = ? AND purpose = ? AND epoch <= ? AND epoch <> ?",
		at.tenant, at.instance[:], at.purpose, int64(row.High-store.KeptBlobs), int64(row.Epoch))
	return err
}

// epochRow returns the epochs of a purpose, whose instance is locked, and whether
// there are any.
func epochRow(q querier, at epochPlace) (epoch.Row, bool, error) {
	var state []byte
	found, err := q.row("SELECT state FROM epochs WHERE tenant = ? AND instance = ? AND purpose = ?", []any{at.tenant, at.instance[:], at.purpose}, &state)
	if err != nil || !found {
		return epoch.Row{}, false, err
	}
	row, err := parseRow(state)
	return row, err == nil, err
}

// Released implements [teebroker.Ledger].
func (s *Store) Released(ctx context.Context, id [16]byte) (teebroker.Released, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return teebroker.Released{}, err
	}
	var out teebroker.Released
	var instance, recipient, auth, sealed []byte
	var generation int64
	found, err := r.row(`SELECT r.tenant, r.instance, r.recipient, r.purpose, r.auth, r.confirm_key, i.generation FROM releases r
JOIN instances i ON i.tenant = r.tenant AND i.id = r.instance AND i.deleted = 0
WHERE r.id = ? AND r.epoch IS NOT NULL AND r.confirm_key IS NOT NULL`, []any{id[:]},
		&out.Tenant, &instance, &recipient, &out.Purpose, &auth, &sealed, &generation)
	switch {
	case err != nil:
		return teebroker.Released{}, err
	case !found:
		return teebroker.Released{}, teebroker.NotAuthorized
	case len(instance) != 16 || len(recipient) != 32 || len(auth) != 16:
		return teebroker.Released{}, errors.New("sqlstore: a release is damaged")
	}
	out.ID, out.Instance, out.Key, out.Authorization = id, [16]byte(instance), [32]byte(recipient), [16]byte(auth)
	out.Generation = uint64(generation)
	out.ConfirmKey, err = s.open(ctx, sealed, "releases.confirm_key", out.Tenant, instance, recipient, []byte(out.Purpose), id[:])
	return out, err
}

// Shown implements [teebroker.Releases]. The column it looks in says nothing: what
// a release shows is in what it was for.
func (s *Store) Shown(ctx context.Context, value [32]byte) (teebroker.Shown, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return teebroker.Shown{}, err
	}
	var out teebroker.Shown
	var id, instance, of, state []byte
	found, err := r.row(`SELECT r.id, r.tenant, r.instance, r.purpose, r.epoch, e.state FROM releases r
JOIN instances i ON i.tenant = r.tenant AND i.id = r.instance AND i.deleted = 0
JOIN epochs e ON e.tenant = r.tenant AND e.instance = r.instance AND e.purpose = r.purpose
WHERE r.pcr = ? AND r.epoch IS NOT NULL`, []any{value[:]}, &id, &out.Tenant, &instance, &out.Purpose, &of, &state)
	switch {
	case err != nil:
		return teebroker.Shown{}, err
	case !found:
		return teebroker.Shown{}, teebroker.NotAuthorized
	case len(id) != 16 || len(instance) != 16:
		return teebroker.Shown{}, errors.New("sqlstore: a release is damaged")
	}
	e, err := parseEpoch(of)
	if err != nil {
		return teebroker.Shown{}, err
	}
	row, err := parseRow(state)
	switch {
	case err != nil:
		return teebroker.Shown{}, err
	case e.PCR != value:
		return teebroker.Shown{}, errors.New("sqlstore: a release is damaged")
	}
	out.Release, out.Instance = [16]byte(id), [16]byte(instance)
	out.State = row.Shows(out.Release)
	return out, nil
}

// Confirm implements [teebroker.Ledger].
func (s *Store) Confirm(ctx context.Context, r teebroker.Released, c teebroker.Confirm, receipt []byte, e teebroker.Entry) ([]byte, error) {
	at := epochPlace{r.Tenant, r.Instance, r.Purpose}
	receipt, e.Body = bytes.Clone(receipt), bytes.Clone(e.Body)
	if c.Release != r.ID || len(receipt) == 0 || len(receipt) > maxReceipt || e.Tenant != r.Tenant || e.Chain != teebroker.Decisions || e.Kind == "" {
		return nil, errors.New("sqlstore: not a confirm to store")
	}
	stored := receipt
	key := instanceKey{r.Tenant, r.Instance}
	var held error
	run := func(t *tx) error {
		stored, held = receipt, nil
		if _, ok := t.instances[key]; !ok {
			return teebroker.NotAuthorized
		}
		before, found, err := epochRow(t, at)
		if err != nil {
			return err
		}
		if !found {
			return teebroker.NotAuthorized
		}
		row, err := before.Confirm(c)
		if err != nil {
			return err
		}
		if before.Live == c.Release && before.Last == c {
			if err := t.s.witnessed(t, r.Tenant); err != nil {
				return err
			}
			_, err := t.row("SELECT confirmed FROM releases WHERE tenant = ? AND id = ?", []any{r.Tenant, r.ID[:]}, &stored)
			return err
		}
		if held, err = t.confirmEK(key, c); err != nil || held != nil {
			return err
		}
		return t.confirm(at, r, before, row, receipt, e)
	}
	var err error
	if c.EK == (strictjson.Digest{}) {
		err = s.do(ctx, &job{order: r.Tenant + "\x00d", locks: []instanceKey{key}, run: run})
	} else {
		// An EK is looked for in all of the tenant.
		err = s.own(ctx, r.Tenant, func(t *tx) error {
			if err := t.lock([]*job{{locks: []instanceKey{key}}}); err != nil {
				return err
			}
			return run(t)
		})
	}
	if err = cmp.Or(err, held); err != nil {
		return nil, err
	}
	return bytes.Clone(stored), nil
}

func (t *tx) confirm(at epochPlace, r teebroker.Released, before, row epoch.Row, receipt []byte, e teebroker.Entry) error {
	q := "UPDATE releases SET confirmed = ? WHERE tenant = ? AND id = ?"
	if first := before.Live != r.ID; first {
		q = "UPDATE releases SET confirmed = ?, sealed = NULL WHERE tenant = ? AND id = ?"
		if err := t.confirmed(r); err != nil {
			return err
		}
	}
	if _, err := t.exec(q, receipt, r.Tenant, r.ID[:]); err != nil {
		return err
	}
	if err := t.set(at, before, row); err != nil {
		return err
	}
	_, err := t.add(e)
	return err
}

// confirmed ends the authorization of a release, unless it outlives that.
func (t *tx) confirmed(r teebroker.Released) error {
	var auth *authorization
	err := t.each("SELECT "+authorizationColumns+" FROM authorizations a WHERE a.tenant = ? AND a.id = ?", []any{r.Tenant, r.Authorization[:]}, func(row scanner) (err error) {
		auth, err = scanAuthorization(row, r.Tenant)
		return err
	})
	if err != nil || auth == nil || auth.OutlivesConfirm || auth.used == auth.Uses {
		return err
	}
	_, err = t.exec("UPDATE authorizations SET uses = used WHERE tenant = ? AND id = ?", r.Tenant, r.Authorization[:])
	return err
}

// EpochBlob implements [teebroker.Ledger].
func (s *Store) EpochBlob(ctx context.Context, tenant string, instance [16]byte, purpose string, number uint64) (teebroker.Blob, uint64, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return teebroker.Blob{}, 0, err
	}
	var digest, wrapped, state []byte
	found, err := r.row(`SELECT b.digest, b.wrapped, e.state FROM epoch_blobs b
JOIN epochs e ON e.tenant = b.tenant AND e.instance = b.instance AND e.purpose = b.purpose
WHERE b.tenant = ? AND b.instance = ? AND b.purpose = ? AND b.epoch = ?`, []any{tenant, instance[:], purpose, int64(min(number, forEver))}, &digest, &wrapped, &state)
	switch {
	case err != nil:
		return teebroker.Blob{}, 0, err
	case !found:
		return teebroker.Blob{}, 0, fmt.Errorf("no such epoch, or forgotten: %w", teebroker.NotAuthorized)
	case len(digest) != 32:
		return teebroker.Blob{}, 0, errors.New("sqlstore: a blob is damaged")
	}
	row, err := parseRow(state)
	return teebroker.Blob{Digest: [32]byte(digest), Epoch: number, Wrapped: wrapped}, row.High, err
}
