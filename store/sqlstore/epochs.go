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

// epochs are those of one purpose, checked.
type epochs struct {
	epochRow
	is     epoch.Row
	before epoch.Row // as it is stored, if the database was restored since
}

// parseEpochs checks row and returns what it says. What was written before the
// database was restored is held.
func (s *Store) parseEpochs(row epochRow) (*epochs, error) {
	if err := s.rows.check(&row); err != nil {
		return nil, err
	}
	e := &epochs{epochRow: row}
	if err := strictjson.Unmarshal(row.state, &e.before); err != nil {
		return nil, errors.New("sqlstore: an epoch is damaged")
	}
	if e.is = e.before; row.era != int64(s.generation) {
		e.is = e.before.Restored()
	}
	return e, nil
}

// epochsOf returns the epochs of a purpose, or nil if there are none. In a
// transaction its instance is locked.
func epochsOf(q querier, at epochPlace) (*epochs, error) {
	var row epochRow
	found, err := q.row("SELECT "+epochTable.as("x")+" FROM epochs x WHERE x.tenant = ? AND x.instance = ? AND x.purpose = ?",
		[]any{at.tenant, at.instance[:], at.purpose}, dest(&row)...)
	if err != nil || !found {
		return nil, err
	}
	return q.store().parseEpochs(row)
}

// granted returns what a release of g is for, or what the one that its key has
// was for; nil if its purpose has no epochs.
func (f *facts) granted(g teebroker.Grant) (*teebroker.Epoch, error) {
	switch {
	case f.epochs == nil:
		return nil, nil
	case !f.has():
		return f.epochs.is.Terms(g.Presented)
	}
	if err := f.epochs.is.Serves([16]byte(f.release.id)); err != nil {
		return nil, err
	}
	return parseEpoch(f.release.epoch)
}

// wrappedKey returns the wrapped key of an epoch, nil if there is no copy.
func wrappedKey(q querier, g teebroker.Grant, number uint64) ([]byte, error) {
	var b epochBlobRow
	_, err := fetch(q, &b, " FROM epoch_blobs x WHERE x.tenant = ? AND x.instance = ? AND x.purpose = ? AND x.epoch = ?",
		[]any{g.Tenant, g.Instance[:], g.Purpose, int64(number)})
	return b.wrapped, err
}

// epochPlace is a purpose with epochs.
type epochPlace struct {
	tenant   string
	instance [16]byte
	purpose  string
}

// taken is the event of the release r of g, for which terms were granted.
func (t *tx) taken(g teebroker.Grant, r teebroker.Response, terms *teebroker.Epoch, before *epochs) ([]byte, error) {
	switch {
	case !terms.Same(g.Epoch):
		return nil, teebroker.ErrAgain
	case len(g.ConfirmKey) == 0 || g.Epoch.NextBlob == (strictjson.Digest{}):
		return nil, errors.New("sqlstore: a release without what confirms it")
	}
	row, _, err := before.is.Take(r.Release, g.Presented, g.Epoch.NextBlob)
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
	return body, t.keep(at, teebroker.Blob{Digest: g.Epoch.NextBlob, Epoch: g.Epoch.Next, Wrapped: g.Epoch.NextWrapped})
}

// set makes row what follows before, nil if there was nothing, and closes the
// slots of what it superseded.
func (t *tx) set(at epochPlace, before *epochs, row epoch.Row) error {
	body, err := json.Marshal(row)
	if err != nil {
		return err
	}
	if before == nil {
		return t.insert(&epochRow{
			tenant: at.tenant, instance: at.instance[:], purpose: at.purpose, version: 1, era: int64(t.s.generation), state: body,
		})
	}
	next := before.epochRow
	next.version, next.era, next.state = next.version+1, int64(t.s.generation), body
	if err := t.update(&next); err != nil {
		return err
	}
	if err := t.forgetKeys(at, before.before, row); err != nil {
		return err
	}
	for _, ended := range row.Ended(before.before) {
		if err := t.supersede(at, ended); err != nil {
			return err
		}
	}
	return nil
}

// supersede closes the slot of a release, of which nothing is served any more.
func (t *tx) supersede(at epochPlace, id [16]byte) error {
	var r releaseRow
	var slot slotRow
	found, err := t.row("SELECT "+releaseTable.as("r")+", "+slotTable.as("s")+` FROM releases r
JOIN slots s ON s.tenant = r.tenant AND s.instance = r.instance AND s.recipient = r.recipient WHERE r.tenant = ? AND r.id = ?`,
		[]any{at.tenant, id[:]}, dest(&r, &slot)...)
	if err != nil {
		return err
	}
	if !found {
		return forged(slotTable.name)
	}
	if err := errors.Join(t.s.rows.check(&r), t.s.rows.check(&slot)); err != nil {
		return err
	}
	if slot.closed == 0 {
		slot.closed = 1
		if err := t.update(&slot); err != nil {
			return err
		}
	}
	_, err = t.exec("UPDATE releases SET sealed = NULL WHERE tenant = ? AND instance = ? AND recipient = ?", at.tenant, at.instance[:], slot.recipient)
	return err
}

// keep remembers the blob of an epoch.
func (t *tx) keep(at epochPlace, b teebroker.Blob) error {
	return t.insert(&epochBlobRow{
		tenant: at.tenant, instance: at.instance[:], purpose: at.purpose, epoch: int64(b.Epoch), digest: b.Digest[:], wrapped: b.Wrapped,
	})
}

// forgetKeys erases the wrapped keys of epochs that row is too far from. Their digests
// stay: an owner who has one of the keys may still recover it.
func (t *tx) forgetKeys(at epochPlace, before, row epoch.Row) error {
	for _, n := range row.Forgets(before, store.KeptBlobs) {
		var b epochBlobRow
		found, err := fetch(t, &b, " FROM epoch_blobs x WHERE x.tenant = ? AND x.instance = ? AND x.purpose = ? AND x.epoch = ?",
			[]any{at.tenant, at.instance[:], at.purpose, int64(n)})
		if err == nil && found && b.wrapped != nil {
			b.wrapped = nil
			err = t.update(&b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Released implements [teebroker.Ledger].
func (s *Store) Released(ctx context.Context, id [16]byte) (teebroker.Released, error) {
	q, err := s.reader(ctx)
	if err != nil {
		return teebroker.Released{}, err
	}
	var r releaseRow
	var i instanceRow
	var sealed []byte
	found, err := q.row("SELECT "+releaseTable.as("r")+", "+instanceTable.as("i")+`, r.confirm_key FROM releases r
JOIN instances i ON i.tenant = r.tenant AND i.id = r.instance WHERE r.id = ?`, []any{id[:]}, append(dest(&r, &i), &sealed)...)
	switch {
	case err != nil:
		return teebroker.Released{}, err
	case !found:
		return teebroker.Released{}, teebroker.NotAuthorized
	}
	if err := errors.Join(s.rows.check(&r), s.rows.check(&i)); err != nil {
		return teebroker.Released{}, err
	}
	switch {
	case i.deleted != 0 || r.epoch == nil || sealed == nil:
		return teebroker.Released{}, teebroker.NotAuthorized
	case len(r.instance) != 16 || len(r.recipient) != 32 || len(r.auth) != 16:
		return teebroker.Released{}, errors.New("sqlstore: a release is damaged")
	}
	out := teebroker.Released{
		ID: id, Tenant: r.tenant, Instance: [16]byte(r.instance), Purpose: r.purpose,
		Key: [32]byte(r.recipient), Authorization: [16]byte(r.auth), Generation: uint64(i.generation),
	}
	out.ConfirmKey, err = s.open(ctx, sealed, "releases.confirm_key", out.Tenant, r.instance, r.recipient, []byte(out.Purpose), id[:])
	return out, err
}

// Shown implements [teebroker.Releases]. The column it looks in says nothing: what
// a release shows is in what it was for.
func (s *Store) Shown(ctx context.Context, value [32]byte) (teebroker.Shown, error) {
	q, err := s.reader(ctx)
	if err != nil {
		return teebroker.Shown{}, err
	}
	var r releaseRow
	var i instanceRow
	var row epochRow
	found, err := q.row("SELECT "+releaseTable.as("r")+", "+instanceTable.as("i")+", "+epochTable.as("e")+` FROM releases r
JOIN instances i ON i.tenant = r.tenant AND i.id = r.instance
JOIN epochs e ON e.tenant = r.tenant AND e.instance = r.instance AND e.purpose = r.purpose
WHERE r.pcr = ?`, []any{value[:]}, dest(&r, &i, &row)...)
	switch {
	case err != nil:
		return teebroker.Shown{}, err
	case !found:
		return teebroker.Shown{}, teebroker.NotAuthorized
	}
	if err := errors.Join(s.rows.check(&r), s.rows.check(&i)); err != nil {
		return teebroker.Shown{}, err
	}
	of, err := parseEpoch(r.epoch)
	if err != nil {
		return teebroker.Shown{}, err
	}
	e, err := s.parseEpochs(row)
	switch {
	case err != nil:
		return teebroker.Shown{}, err
	case i.deleted != 0:
		return teebroker.Shown{}, teebroker.NotAuthorized
	case of == nil || of.PCR != value || len(r.id) != 16 || len(r.instance) != 16:
		return teebroker.Shown{}, forged(releaseTable.name)
	}
	return teebroker.Shown{
		Tenant: r.tenant, Instance: [16]byte(r.instance), Purpose: r.purpose, Release: [16]byte(r.id), State: e.is.Shows([16]byte(r.id)),
	}, nil
}

// Confirm implements [teebroker.Ledger].
func (s *Store) Confirm(ctx context.Context, r teebroker.Released, c teebroker.Confirm, receipt []byte, e teebroker.Entry) ([]byte, error) {
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
		f, err := t.confirming(r)
		if err != nil {
			return err
		}
		if f.slot.closed != 0 {
			return teebroker.Superseded // for another purpose of its guest
		}
		before := f.epochs.is
		row, err := before.Confirm(c)
		if err != nil {
			return err
		}
		if before.Live == c.Release && before.Last == c {
			if stored = f.release.confirmed; len(stored) == 0 {
				return forged(releaseTable.name)
			}
			return t.s.witnessed(t, r.Tenant)
		}
		if held, err = t.confirmEK(key, c); err != nil || held != nil {
			return err
		}
		return t.confirm(f, row, receipt, e)
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

// confirming reads what a confirm of r is decided by.
func (t *tx) confirming(r teebroker.Released) (*facts, error) {
	f := &facts{}
	var er epochRow
	var ar authorizationRow
	found, err := t.row("SELECT "+epochTable.as("e")+", "+releaseTable.as("r")+", "+authorizationTable.as("a")+", "+slotTable.as("s")+` FROM epochs e
JOIN releases r ON r.tenant = e.tenant AND r.instance = e.instance AND r.purpose = e.purpose AND r.id = ?
JOIN slots s ON s.tenant = r.tenant AND s.instance = r.instance AND s.recipient = r.recipient
JOIN authorizations a ON a.tenant = r.tenant AND a.id = r.auth WHERE e.tenant = ? AND e.instance = ? AND e.purpose = ?`,
		[]any{r.ID[:], r.Tenant, r.Instance[:], r.Purpose}, dest(&er, &f.release, &ar, &f.slot)...)
	if err == nil && !found {
		err = teebroker.NotAuthorized
	}
	if err == nil {
		err = errors.Join(t.s.rows.check(&f.release), t.s.rows.check(&f.slot))
	}
	if err != nil {
		return nil, err
	}
	if f.auth, err = t.s.authorization(ar); err == nil {
		f.epochs, err = t.s.parseEpochs(er)
	}
	if err == nil {
		err = t.newest(f)
	}
	return f, err
}

func (t *tx) confirm(f *facts, row epoch.Row, receipt []byte, e teebroker.Entry) error {
	first := f.epochs.is.Live != [16]byte(f.release.id)
	f.release.confirmed = receipt
	if err := t.update(&f.release); err != nil {
		return err
	}
	if first {
		if _, err := t.exec("UPDATE releases SET sealed = NULL WHERE tenant = ? AND id = ?", f.release.tenant, f.release.id); err != nil {
			return err
		}
		// It ends its authorization, unless that outlives it.
		if a := f.auth.authorizationRow; !f.auth.OutlivesConfirm && a.used != a.uses {
			a.uses, a.version = a.used, a.version+1
			if err := t.update(&a); err != nil {
				return err
			}
		}
	}
	if err := t.set(epochPlace{f.epochs.tenant, [16]byte(f.epochs.instance), f.epochs.purpose}, f.epochs, row); err != nil {
		return err
	}
	_, err := t.add(e)
	return err
}

// EpochBlob implements [teebroker.Ledger].
func (s *Store) EpochBlob(ctx context.Context, tenant string, instance [16]byte, purpose string, number uint64) (teebroker.Blob, uint64, error) {
	q, err := s.reader(ctx)
	if err != nil {
		return teebroker.Blob{}, 0, err
	}
	var b epochBlobRow
	var row epochRow
	found, err := q.row("SELECT "+epochBlobTable.as("b")+", "+epochTable.as("e")+` FROM epoch_blobs b
JOIN epochs e ON e.tenant = b.tenant AND e.instance = b.instance AND e.purpose = b.purpose
WHERE b.tenant = ? AND b.instance = ? AND b.purpose = ? AND b.epoch = ?`, []any{tenant, instance[:], purpose, int64(min(number, forEver))}, dest(&b, &row)...)
	switch {
	case err != nil:
		return teebroker.Blob{}, 0, err
	case !found:
		return teebroker.Blob{}, 0, fmt.Errorf("no such epoch, or forgotten: %w", teebroker.NotAuthorized)
	}
	if err := s.rows.check(&b); err != nil {
		return teebroker.Blob{}, 0, err
	}
	e, err := s.parseEpochs(row)
	switch {
	case err != nil:
		return teebroker.Blob{}, 0, err
	case len(b.digest) != 32:
		return teebroker.Blob{}, 0, errors.New("sqlstore: a blob is damaged")
	}
	return teebroker.Blob{Digest: [32]byte(b.digest), Epoch: number, Wrapped: b.wrapped}, e.is.High, nil
}
