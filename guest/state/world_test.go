package state_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
)

const (
	tenant  = "acme"
	purpose = "vtpm"
)

var instance = [16]byte{15: 1}

// ledger is a Store one of whose calls fails, before it did anything or after it
// did all.
type ledger struct {
	*memory.Store
	calls, at int // which call fails, from 1; 0 for none
	after     bool
}

var errKilled = errors.New("killed")

func (l *ledger) call(f func() error) error {
	l.calls++
	fails := l.calls == l.at
	if fails && !l.after {
		return errKilled
	}
	if err := f(); err != nil || !fails {
		return err
	}
	return errKilled
}

func (l *ledger) Check(ctx context.Context, g teebroker.Grant) (t teebroker.Terms, err error) {
	err = l.call(func() error { t, err = l.Store.Check(ctx, g); return err })
	return t, err
}

func (l *ledger) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (out teebroker.Response, err error) {
	err = l.call(func() error { out, err = l.Store.Commit(ctx, g, r, e); return err })
	return out, err
}

func (l *ledger) Released(ctx context.Context, id [16]byte) (r teebroker.Released, err error) {
	err = l.call(func() error { r, err = l.Store.Released(ctx, id); return err })
	return r, err
}

func (l *ledger) Confirm(ctx context.Context, r teebroker.Released, c teebroker.Confirm, receipt []byte, e teebroker.Entry) (b []byte, err error) {
	err = l.call(func() error { b, err = l.Store.Confirm(ctx, r, c, receipt, e); return err })
	return b, err
}

// world is a broker on fake hardware, and one instance whose purpose has epochs.
type world struct {
	testing.TB
	*ledger
	broker *teebroker.Broker
	first  []byte // the owner's blob, as JSON
}

func newWorld(t testing.TB, mode string) *world {
	t.Helper()
	w := &world{TB: t, ledger: &ledger{Store: memory.New(nil)}}
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.check(err)
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})
	w.check(err)
	wrap, err := keywrap.NewWrapKey("wrap-1", [32]byte{2})
	w.check(err)
	attest, err := keywrap.Generate(keywrap.P384)
	w.check(err)
	keys, err := teebroker.NewKeySet(map[string][]teebroker.AttestationKey{tenant: {{ID: "one", Opener: attest}}})
	w.check(err)
	w.broker, err = teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{NotAfter: time.Now().AddDate(1, 0, 0)}, Issuer: issuer, Nonces: w.Store, Directory: w.Store,
		Secrets: w.Store, Ledger: w.ledger, Identity: identity, Keys: keys, Wrap: wrap,
	})
	w.check(err)
	id := teebroker.LaunchID(tenant, instance)
	w.check(w.Register(t.Context(), teebroker.Instance{
		Tenant: tenant, ID: instance,
		Policies: []*policy.Policy{{
			Name: "test", Version: "1", Document: []byte("measured"),
			Require: map[evidence.Format]policy.Rule{faketee.Format: policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text("good")}},
		}},
		Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: id[:]},
		Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.X25519}},
	}))
	blob, err := keywrap.Wrap(attest.Recipient(), keywrap.Header{
		By: keywrap.ByOwner, KeyID: "one", Tenant: tenant, Instance: instance, Purpose: purpose, Epoch: 1,
	}, bytes.Repeat([]byte{3}, 32))
	w.check(err)
	w.first, err = blob.MarshalJSON()
	w.check(err)
	_, err = w.Begin(t.Context(), tenant, instance, purpose, store.EpochStart{
		Mode: mode, Blob: teebroker.Blob{Digest: blob.Digest(), Epoch: 1, Wrapped: w.first}, Initial: true,
	})
	w.check(err)
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) authorize() {
	w.Helper()
	w.check(w.Authorize(w.Context(), teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{purpose}, NotAfter: time.Now().Add(time.Hour)}))
}

// machine is one boot: its key, and the disk that the host gave it.
type machine struct {
	*world
	session *guest.Session
	disk    *disk
	net     func(ctx context.Context, c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error)
}

// start starts a guest on a disk, with an authorization to boot.
func (w *world) start(d *disk, wrapped []byte) *machine {
	w.Helper()
	w.authorize()
	key, err := keywrap.Generate(keywrap.X25519)
	w.check(err)
	id := w.broker.ID()
	s, err := guest.New(guest.Config{Tenant: tenant, Instance: instance, Purpose: purpose, Broker: id[:], Key: key, Wrapped: wrapped})
	w.check(err)
	return &machine{w, s, d, w.broker.Confirm}
}

// release asks once.
func (m *machine) release() (*guest.Opened, error) {
	m.Helper()
	c, err := m.broker.Challenge(m.Context(), nonce.ProfileV1)
	m.check(err)
	b, err := m.session.Bind(c.Nonce, faketee.Format)
	m.check(err)
	id := teebroker.LaunchID(tenant, instance)
	r, err := m.broker.Answer(m.Context(), m.session.Request(c.Nonce, faketee.Guest{Measurement: "good", HostData: id[:]}.Evidence(b)))
	if err != nil {
		return nil, err
	}
	if _, err := m.session.Open(m.Context(), r); !errors.Is(err, guest.HasEpochs) {
		m.Errorf("a key without a confirm: %v", err)
	}
	return m.session.OpenEpoch(m.Context(), r)
}

func (m *machine) config() state.Config {
	return state.Config{Slots: m.disk, Confirm: m.net}
}

// prepare asks and writes, and does not confirm.
func (m *machine) prepare() (*state.Pending, error) {
	m.Helper()
	o, err := m.release()
	if err != nil {
		return nil, err
	}
	return state.Prepare(m.config(), o, func() ([]byte, error) { return []byte("fresh"), nil })
}

// boot is a whole boot, after which the state is history and one more.
func (m *machine) boot() (*state.State, error) {
	m.Helper()
	p, err := m.prepare()
	if err != nil {
		return nil, err
	}
	return p.Confirm(m.Context())
}

// disk is what the host has, and can copy and put back.
type disk struct{ slots [2][]byte }

func (d *disk) Read(i int) ([]byte, error)  { return bytes.Clone(d.slots[i]), nil }
func (d *disk) Write(i int, b []byte) error { d.slots[i] = bytes.Clone(b); return nil }
func (d *disk) Erase(i int) error           { d.slots[i] = nil; return nil }
func (d *disk) copy() *disk {
	return &disk{[2][]byte{bytes.Clone(d.slots[0]), bytes.Clone(d.slots[1])}}
}

func (d *disk) String() string {
	return fmt.Sprintf("%d and %d bytes", len(d.slots[0]), len(d.slots[1]))
}

// grown boots once, adds line to the state, and ends.
func (w *world) grown(d *disk, line string) {
	w.Helper()
	s, err := w.start(d, nil).boot()
	w.check(err)
	w.check(s.Save(w.Context(), append(s.Value(), line...)))
	s.Close()
}
