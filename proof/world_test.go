package proof_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"iter"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/proof"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

const (
	tenant  = "acme"
	purpose = "vtpm"
)

var (
	instance = [16]byte{15: 1}
	pcr      = vtpm.PCR{Bank: vtpm.SHA256, Index: 13}
)

// world is a broker on fake hardware that releases the key of a state.
type world struct {
	testing.TB
	*memory.Store
	broker *teebroker.Broker
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, Store: memory.New(nil)}
	identity := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	attest := must(keywrap.Generate(keywrap.P384))
	w.broker = must(teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{NotAfter: time.Now().AddDate(1, 0, 0)}, Issuer: must(nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})),
		Nonces: w.Store, Directory: w.Store, Secrets: w.Store, Ledger: w.Store, Identity: identity,
		Keys: must(teebroker.NewKeySet(map[string][]teebroker.AttestationKey{tenant: {{ID: "one", Opener: attest}}})),
		Wrap: must(keywrap.NewWrapKey("wrap-1", [32]byte{2})),
	}))
	launch := teebroker.LaunchID(tenant, instance)
	w.check(w.Register(t.Context(), teebroker.Instance{
		Tenant: tenant, ID: instance, Policies: []*policy.Policy{{
			Name: "test", Version: "1", Document: []byte("measured"),
			Require: map[evidence.Format]policy.Rule{faketee.Format: policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text("good")}},
		}},
		Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: launch[:]},
		Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.X25519}},
	}))
	blob := must(keywrap.Wrap(attest.Recipient(), keywrap.Header{
		By: keywrap.ByOwner, KeyID: "one", Tenant: tenant, Instance: instance, Purpose: purpose, Epoch: 1,
	}, bytes.Repeat([]byte{3}, 32)))
	_, err := w.Begin(t.Context(), tenant, instance, purpose, store.EpochStart{
		Mode: "boot", Blob: teebroker.Blob{Digest: blob.Digest(), Epoch: 1, Wrapped: must(blob.MarshalJSON())}, Initial: true,
	})
	w.check(err)
	return w
}

func must[T any](t T, err error) T {
	if err != nil {
		panic(err)
	}
	return t
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// started is a guest with what its release gave it.
type started struct {
	*world
	opened  *guest.Opened
	receipt []byte
	tpm     *vtpmtest.TPM
}

// start starts a guest of the one state, whose TPM state is state.
func (w *world) start(state *vtpmtest.TPM) *started {
	w.Helper()
	s, r := w.release(purpose)
	o, err := s.OpenEpoch(w.Context(), r)
	w.check(err)
	return &started{w, o, r.Receipt, state}
}

// release releases a purpose to a guest with a key of its own.
func (w *world) release(purpose string) (*guest.Session, teebroker.Response) {
	w.Helper()
	ctx, id := w.Context(), w.broker.ID()
	w.check(w.Authorize(ctx, teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{purpose}, NotAfter: time.Now().Add(time.Hour)}))
	s := must(guest.New(guest.Config{Tenant: tenant, Instance: instance, Purpose: purpose, Broker: id[:], Key: must(keywrap.Generate(keywrap.X25519))}))
	c := must(w.broker.Challenge(ctx, nonce.ProfileV1))
	launch := teebroker.LaunchID(tenant, instance)
	fake := faketee.Guest{Measurement: "good", HostData: launch[:]}
	r, err := w.broker.Answer(ctx, s.Request(c.Nonce, fake.Evidence(must(s.Bind(c.Nonce, faketee.Format)))))
	w.check(err)
	return s, r
}

// confirm says that the next state is written.
func (s *started) confirm() teebroker.Acknowledged {
	s.Helper()
	c := teebroker.Confirm{Release: s.opened.Release, Epoch: s.opened.Next, State: [32]byte{1}}
	a, err := s.broker.Confirm(s.Context(), c, c.MAC(s.opened.ConfirmKey))
	s.check(err)
	return a
}

// extend extends the proof of s.
func (s *started) extend() error {
	d := s.opened.PCR()
	return proof.Extend(s.tpm, pcr, &d)
}

// live is the broker's word, as an owner hears it.
func (w *world) live(ctx context.Context, tenant string, instance [16]byte, purpose string) ([16]byte, error) {
	status, err := w.Epoch(ctx, tenant, instance, purpose)
	if err != nil || status.State != "CURRENT" {
		return [16]byte{}, err
	}
	return status.Live, nil
}

func (w *world) want() proof.Want {
	return proof.Want{PCR: pcr, Broker: w.broker.ID(), Tenant: tenant, Instance: instance, Purpose: purpose, Live: w.live}
}

// quote is a verified quote of a TPM below which there is a genuine report, over
// these PCRs.
func (w *world) quote(d vtpmtest.Device, banks ...vtpm.BankSelection) *evidence.Verified {
	w.Helper()
	challenge := must(evidence.NewBinding(bytes.Repeat([]byte{5}, 32)))
	raw, pcrs := d.Quote(vtpmtest.Quote{Selection: banks}, challenge)
	v := must(vtpm.NewVerifier(vtpm.Config{Platform: genuine{}, AKs: vtpmtest.AKs{d}, Releases: proof.Releases(w.Store), ProofPCR: pcr}))
	got, err := v.Verify(w.Context(), evidence.Evidence{
		Format: vtpm.Format, Raw: raw, Layers: []evidence.Evidence{{Format: "snp-report"}},
		Items: []evidence.Item{
			{Type: vtpm.PCRs, Data: pcrs},
			{Type: vtpm.AK, Data: d.AK()},
			{Type: vtpm.SVSMNonce, Data: make([]byte, vtpm.SVSMNonceSize)},
			{Type: vtpm.SVSMManifest, Data: vtpmtest.VTPM(d).Manifest},
		},
	}, challenge)
	w.check(err)
	return got
}

func bank(b vtpm.Alg, pcrs ...int) vtpm.BankSelection {
	return vtpm.BankSelection{Bank: b, PCRs: pcrs}
}

// genuine is a platform verifier that has verified everything before, at VMPL 0.
type genuine struct{}

func (genuine) Verify(_ context.Context, ev evidence.Evidence, _ evidence.Binding) (*evidence.Verified, error) {
	return &evidence.Verified{Format: ev.Format, Bound: true, Claims: privileged{}, Root: [32]byte{1}}, nil
}

type privileged struct{}

func (privileged) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) { yield("snp.vmpl", evidence.Uint(0)) }
}
