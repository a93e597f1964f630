package activation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/activation"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/store/memory"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

const tenant = "acme"

var instance, neighbour = [16]byte{15: 1}, [16]byte{15: 2}

func start() time.Time { return time.Date(2026, 11, 1, 12, 0, 30, 0, time.UTC) }

// hardware is what takes time to make, once.
type hardware struct {
	amd         *snptest.AMD
	chip, chip2 *snptest.Chip
	rsa         *vtpmtest.TPM
}

var platform = sync.OnceValue(func() hardware {
	amd := snptest.NewAMD()
	amd.Time = start
	return hardware{amd, amd.Chip(snp.Turin), amd.Chip(snp.Turin), vtpmtest.NewTPM(vtpmtest.RSA, nil, nil)}
})

// world is a broker with the state of a memory store, an instance and its
// neighbour, and a clock that a test moves.
type world struct {
	testing.TB
	*memory.Store
	broker  *teebroker.Broker
	service *activation.Service
	quotes  *vtpm.Verifier // of the broker
	now     time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, now: start()}
	clock := func() time.Time { return w.now }
	w.Store = memory.New(clock)
	amd := platform().amd
	reports, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(snp.Turin), Source: amd.Source(), Time: start})
	w.check(err)
	w.quotes, err = vtpm.NewVerifier(vtpm.Config{
		Platform: evidence.Verifiers{snp.Format: reports}, AKs: activation.AKs(w.Store), Time: clock,
	})
	w.check(err)
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Time: clock})
	w.check(err)
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.check(err)
	w.broker, err = teebroker.New(teebroker.Config{
		Verifier: evidence.Verifiers{snp.Format: reports, vtpm.Format: w.quotes}, Issuer: issuer, Nonces: w.Store, Directory: w.Store,
		Secrets: w.Store, Ledger: w.Store, Kept: w.Store, Identity: identity, Time: clock,
	})
	w.check(err)
	w.service, err = activation.New(activation.Config{
		Broker: w.broker, Verifier: w.quotes, Nonces: w.Store, Kept: w.Store, Identities: w.Store, Time: clock,
	})
	w.check(err)
	w.register(instance, nil)
	w.register(neighbour, nil)
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// register registers an instance that is as strict as there is, but for what edit
// changes.
func (w *world) register(instance [16]byte, edit func(*teebroker.Instance)) {
	w.Helper()
	id := teebroker.LaunchID(tenant, instance)
	inst := teebroker.Instance{
		Tenant: tenant, ID: instance, Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.X25519}},
		Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: id[:]},
		Policies: []*policy.Policy{{
			Name: "turin", Version: "1", Document: []byte("one measurement"),
			Require: map[evidence.Format]policy.Rule{snp.Format: snp.Baseline([]snp.Floor{platform().chip.Floor()}, [48]byte{1})},
		}},
	}
	if edit != nil {
		edit(&inst)
	}
	w.check(w.Register(w.Context(), inst))
}

// guest is what a guest has and says; each field may be a lie.
type guest struct {
	binding teebroker.TPMBinding // without what follows from the rest
	svsm    vtpmtest.SVSM
	azure   *vtpmtest.Azure // instead
	tpm     vtpmtest.Device // that answers

	nonce func(*[64]byte) // what the SVSM is asked with
	items func([]evidence.Item) []evidence.Item
	bound func(*nonce.EK) // what is bound
	quote vtpmtest.Quote
	proof func(*teebroker.TPMProof)
}

// guest returns an honest guest of instance on a chip, with a TPM of its own.
func (w *world) guest(tpm vtpmtest.Device) *guest {
	id := w.broker.ID()
	return &guest{
		binding: teebroker.TPMBinding{Broker: id[:], Tenant: tenant, Instance: instance, AK: tpm.AK()},
		svsm: vtpmtest.SVSM{
			Chip: platform().chip, TPM: tpm,
			Guest: snptest.Guest{Measurement: [48]byte{1}, HostData: teebroker.LaunchID(tenant, instance)},
		},
		tpm: tpm,
	}
}

func ecc() *vtpmtest.TPM { return vtpmtest.NewTPM(vtpmtest.ECC, nil, nil) }

// ask returns what g binds with a nonce.
func (w *world) ask(g *guest, n nonce.Nonce) teebroker.TPMBinding {
	w.Helper()
	b := g.binding
	b.Nonce = n
	r := nonce.EK{Broker: b.Broker, Tenant: b.Tenant, Instance: b.Instance, AK: b.AK}
	if g.bound != nil {
		g.bound(&r)
	}
	want, err := r.Bind(n)
	w.check(err)
	data := [64]byte(want.Bytes())
	if g.nonce != nil {
		g.nonce(&data)
	}
	if g.azure != nil {
		g.azure.UserData = data
		ev := g.azure.Evidence(vtpmtest.Quote{}, want)
		b.Report, b.Items = ev.Layers[0], []evidence.Item{ev.Items[0], {Type: vtpm.EK, Data: g.tpm.EK()}}
	} else {
		g.svsm.Nonce = data
		b.Report, b.Items = g.svsm.Attestation()
	}
	if g.items != nil {
		b.Items = g.items(b.Items)
	}
	return b
}

// challenge is a nonce and a binding.
func (w *world) challenge(g *guest) (teebroker.TPMCredential, error) {
	w.Helper()
	c, err := w.service.Challenge(w.Context())
	w.check(err)
	return w.service.Bind(w.Context(), w.ask(g, c.Nonce))
}

// prove answers a credential as g does.
func (w *world) prove(g *guest, c teebroker.TPMCredential) (teebroker.TPMProof, error) {
	w.Helper()
	secret, err := g.tpm.Activate(c.Blob)
	if err != nil {
		return teebroker.TPMProof{}, err
	}
	want, err := nonce.QuoteBinding(c.Session)
	w.check(err)
	raw, _ := g.tpm.Quote(g.quote, want)
	p := teebroker.TPMProof{Session: c.Session, Secret: secret, Quote: raw}
	if g.proof != nil {
		g.proof(&p)
	}
	return p, nil
}

// activate is all that a guest does.
func (w *world) activate(g *guest) (teebroker.TPMActivated, error) {
	w.Helper()
	c, err := w.challenge(g)
	if err != nil {
		return teebroker.TPMActivated{}, err
	}
	p, err := w.prove(g, c)
	w.check(err)
	return w.service.Activate(w.Context(), p)
}

// quoted reports whether the broker's verifier takes a quote of tpm now.
func (w *world) quoted(g *guest) error {
	w.Helper()
	want, err := evidence.NewBinding([]byte("a nonce"))
	w.check(err)
	_, err = w.quotes.Verify(w.Context(), g.svsm.Evidence(vtpmtest.Quote{}, want), want)
	return err
}
