package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/store/memory"
)

const (
	tenant  = "default"
	purpose = "vtpm-state"
)

// image is what the owner's guests are measured as.
var image = sha512.Sum384([]byte("an image that the owner built"))

// world is a simulated chip on a hostile host, and a broker with its owner.
type world struct {
	chip     *snptest.Chip
	amd      *snptest.AMD
	verifier evidence.Verifier
	broker   *teebroker.Broker
	store    *memory.Store

	instance, neighbour [16]byte
	secret              []byte // the owner's, of instance
}

// make makes a simulated vendor, a chip and a broker that knows both.
func (w *world) make() error {
	*w = world{amd: snptest.NewAMD(), store: memory.New(nil), secret: make([]byte, 32)}
	w.chip = w.amd.Chip(snp.Turin)
	rand.Read(w.instance[:])
	rand.Read(w.neighbour[:])
	rand.Read(w.secret)
	// The VCEK comes with the evidence; whether anything was revoked does not.
	lists := collateral.Fixed{snp.CRLName(snp.Turin, snp.VCEK): {{Data: w.amd.CRL(snp.Turin, snp.VCEK, time.Now())}}}
	verifier, err := snp.NewVerifier(snp.Config{Anchors: w.amd.Anchors(), Source: lists})
	if err != nil {
		return err
	}
	w.verifier = verifier
	w.broker, err = newBroker(w.store, evidence.Verifiers{snp.Format: verifier}, roots(w.amd))
	return err
}

// newBroker returns a broker with keys of its own. A simulated platform proves
// nothing: a broker takes it only if its root is named, and its state marked.
func newBroker(store *memory.Store, verifiers evidence.Verifiers, simulated [][32]byte) (*teebroker.Broker, error) {
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	var key [32]byte
	rand.Read(key[:])
	issuer, err := nonce.NewHMAC(nonce.Config{Key: key})
	if err != nil {
		return nil, err
	}
	rand.Read(key[:])
	wrap, err := keywrap.NewWrapKey("wrap-1", key)
	if err != nil {
		return nil, err
	}
	attestation, err := keywrap.Generate(keywrap.MLKEM1024P384)
	if err != nil {
		return nil, err
	}
	keys, err := teebroker.NewKeySet(map[string][]teebroker.AttestationKey{tenant: {{ID: "first", Opener: attestation}}})
	if err != nil {
		return nil, err
	}
	request, err := keywrap.Generate(keywrap.MLKEM768X25519)
	if err != nil {
		return nil, err
	}
	return teebroker.New(teebroker.Config{
		Keys: keys, Wrap: wrap, RequestKeys: []teebroker.RequestKey{{ID: "first", Opener: request}},
		Verifier: verifiers, Issuer: issuer, Identity: identity,
		Nonces: store, Directory: store, Secrets: store, Ledger: store,
		SimulatedRoots: simulated, SimulatedState: true,
	})
}

func roots(amd *snptest.AMD) (sums [][32]byte) {
	for _, a := range amd.Anchors() {
		sums = append(sums, sha256.Sum256(a.ARK))
	}
	return sums
}

// register is the owner's part: which guests there are, what they must be, and
// the secret of one of them.
func (w *world) register(ctx context.Context) error {
	doc, err := w.policy()
	if err != nil {
		return err
	}
	for _, id := range [][16]byte{w.instance, w.neighbour} {
		launch := teebroker.LaunchID(tenant, id)
		if err := w.store.Register(ctx, teebroker.Instance{
			Tenant: tenant, ID: id, Image: "quickstart", Policies: []*policy.Policy{doc},
			Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: launch[:]},
			Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.MLKEM768X25519}},
		}); err != nil {
			return err
		}
	}
	return w.store.PutSecret(ctx, tenant, w.instance, purpose, w.secret)
}

// policy is a document as an owner writes it: this image, at VMPL 0, not to be
// debugged, on Turin with firmware no older than the chip's.
func (w *world) policy() (*policy.Policy, error) {
	f := w.chip.Floor()
	tcb := func(t snp.TCB) string {
		return fmt.Sprintf(`{"fmc": %d, "bootloader": %d, "tee": %d, "firmware": %d, "microcode": %d}`, t.FMC, t.Bootloader, t.TEE, t.Firmware, t.Microcode)
	}
	return policy.Parse(fmt.Appendf(nil, `{
		"policy": "teebroker/1", "name": "production", "version": "1", "scope": "global",
		"require": {"snp-report": [{
			"measurements": [%q], "vmpls": [0], "lines": ["Turin"], "keys": ["VCEK"], "chips": "*", "host_data": "*",
			"id_keys": "*", "author_keys": "*", "family_ids": "*", "image_ids": "*", "allow_smt": true,
			"floors": [{"family": %d, "min_model": %d, "max_model": %d, "steppings": "*", "reported": %s, "committed": %s, "launch": %s}]
		}]}}`, hex.EncodeToString(image[:]), f.Family, f.MinModel, f.MaxModel, tcb(f.Reported), tcb(f.Committed), tcb(f.Launch)),
		policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)})
}

// authorize is the owner's word that the instance may boot once.
func (w *world) authorize(ctx context.Context) error {
	return w.store.Authorize(ctx, teebroker.Authorization{
		Tenant: tenant, Instance: w.instance, Purposes: []string{purpose},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	})
}

// vm is a guest that was launched as an instance: the host chose HOST_DATA for
// it, and its image pins the broker.
type vm struct {
	*guest.Session
	w    *world
	runs snptest.Guest
}

// launch starts a guest of the owner's image as the instance launchedAs, which
// asks for the secret of the instance asksFor.
func (w *world) launch(launchedAs, asksFor [16]byte) (*vm, error) {
	key, err := keywrap.Generate(keywrap.MLKEM768X25519)
	if err != nil {
		return nil, err
	}
	broker := w.broker.ID()
	s, err := guest.New(guest.Config{Tenant: tenant, Instance: asksFor, Purpose: purpose, Broker: broker[:], Key: key})
	return &vm{s, w, snptest.Guest{Measurement: image, HostData: teebroker.LaunchID(tenant, launchedAs)}}, err
}

// request takes a nonce of the broker and returns what the guest sends: a report
// over it, its key, and all that it asks for.
func (g *vm) request(ctx context.Context) (teebroker.Request, error) {
	c, err := g.w.broker.Challenge(ctx, nonce.ProfileV1)
	if err != nil {
		return teebroker.Request{}, err
	}
	want, err := g.Bind(c.Nonce, snp.Format)
	if err != nil {
		return teebroker.Request{}, err
	}
	return g.Request(c.Nonce, g.w.chip.Report(g.runs, want)), nil
}

// svsm is the chip with an SVSM at VMPL 0 of the owner's confidential VM, whose
// guest is at vmpl if that is not 0.
func (w *world) svsm(vmpl uint32) (platform, error) {
	doc, err := w.policy()
	runs := snptest.Guest{Measurement: image, HostData: teebroker.LaunchID(tenant, instance), VMPL: vmpl}
	return platform{
		snp.Format, w.verifier, roots(w.amd),
		policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)},
		doc,
		func(want evidence.Binding) evidence.Evidence { return w.chip.Report(runs, want) },
	}, err
}
