package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store/memory"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// genuineTDX verifies a quote of a real platform, which go-tdx-guest publishes, as
// far as the collateral goes that it publishes with it.
func genuineTDX(ctx context.Context, t *transcript) error {
	at := time.Date(2023, 6, 28, 8, 0, 0, 0, time.UTC) // when that collateral was current
	t.title("5. Genuine evidence of Intel TDX, looked at as on %s", at.Format(time.DateOnly))
	published := collateral.Fixed{}
	for _, data := range [][]byte{testdata.TcbInfoBody, testdata.QeIdentityBody, testdata.PckCrlBody, testdata.RootCrlBody} {
		for _, name := range tdx.NamesOf(data) {
			published[name] = append(published[name], evidence.Collateral{Data: data})
		}
	}
	verify := func(c tdx.Config, raw []byte) (*evidence.Verified, error) {
		c.Anchors, c.Source, c.Time = tdx.Intel(), published, func() time.Time { return at }
		v, err := tdx.NewVerifier(c)
		if err != nil {
			return nil, err
		}
		return v.Verify(ctx, evidence.Evidence{Format: tdx.Format, Raw: raw}, evidence.UncheckedBindingUnsafe())
	}

	file := testdata.RawQuote
	quote := withoutTail(file)
	t.try("the file as it is published", string(evidence.Malformed), func() error {
		_, err := verify(tdx.Config{}, file)
		return err
	})
	t.note("behind the quote it has %d bytes that nobody signed; the quote alone:", len(file)-len(quote))
	var missing error
	t.try("with all the collateral that is published beside it", string(evidence.Unavailable), func() error {
		_, missing = verify(tdx.Config{}, quote)
		return missing
	})
	t.note("missing is who signed TCB Info and QE identity (%v)", missing)
	var got *evidence.Verified
	if !t.try("without them it is authentic: Intel's root, its PCK unrevoked, a quoting enclave it signed for", accepted, func() (err error) {
		got, err = verify(tdx.Config{SkipTCBUnsafe: true}, quote)
		return err
	}) {
		return errors.New("the genuine quote does not verify")
	}
	claims, _ := tdx.ClaimsOf(got)
	t.note("a platform of kind %s; not checked: %v, so that nobody knows how up to date it is", claims.PCK.FMSPC, got.Skipped)
	t.try("the same with one bit of it changed", string(evidence.BadSignature), func() error {
		forged := bytes.Clone(quote)
		forged[200] ^= 1 // in the TD report
		_, err := verify(tdx.Config{SkipTCBUnsafe: true}, forged)
		return err
	})
	return nil
}

// withoutTail returns the quote of version 4 that file starts with.
func withoutTail(file []byte) []byte {
	const signedSize = 48 + 584 // header and body; then 4 bytes of length
	return file[:signedSize+4+binary.LittleEndian.Uint32(file[signedSize:])]
}

// mrtd is what the owner's TDs are measured as.
var mrtd = [48]byte(image)

// releaseTDX gives a simulated TD its key, and not to one launched as another.
func releaseTDX(ctx context.Context, t *transcript) error {
	t.title("6. A release to a simulated TD")
	intel, store := tdxtest.NewIntel(), memory.New(nil)
	platform := intel.Platform(tdx.PlatformCA)
	verifier, err := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: intel.Source()})
	if err != nil {
		return err
	}
	broker, err := newBroker(store, evidence.Verifiers{tdx.Format: verifier}, [][32]byte{sha256.Sum256(intel.Anchors()[0])})
	if err != nil {
		return err
	}
	instance, neighbour, secret := [16]byte{1}, [16]byte{2}, make([]byte, 32)
	rand.Read(secret)
	launch := launchConfig(instance)
	if !t.try("the owner registers the TD, its policy and its secret, and authorizes one boot", accepted, func() error {
		return errors.Join(
			store.Register(ctx, teebroker.Instance{
				Tenant: tenant, ID: instance, Image: "quickstart", Policies: []*policy.Policy{tdxPolicy()},
				Launch: teebroker.LaunchClaim{Name: "tdx.mrconfigid", Want: launch[:]},
				Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.MLKEM768X25519}},
			}),
			store.PutSecret(ctx, tenant, instance, purpose, secret),
			store.Authorize(ctx, teebroker.Authorization{
				Tenant: tenant, Instance: instance, Purposes: []string{purpose},
				NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
			}),
		)
	}) {
		return errors.New("nothing is registered")
	}
	for _, boot := range []struct {
		what, want string
		td         tdxtest.TD
	}{
		{"a TD of the same image, launched as the neighbour", "denied", tdxtest.TD{MRTD: mrtd, MRConfigID: launchConfig(neighbour)}},
		{"a TD that its host may debug", "denied", tdxtest.TD{MRTD: mrtd, MRConfigID: launch, Attributes: tdx.Debug | tdx.SEPTVEDisable}},
		{"the owner's TD, with a quote of version 5: it opens the secret", accepted, tdxtest.TD{Version: 5, MRTD: mrtd, MRConfigID: launch}},
		{"a second TD of this instance, after the use is taken", "denied", tdxtest.TD{MRTD: mrtd, MRConfigID: launch}},
	} {
		t.try(boot.what, boot.want, func() error { return bootTD(ctx, broker, platform, boot.td, instance, secret) })
	}
	return nil
}

// launchConfig returns the MRCONFIGID with which the host launches an instance: its
// launch identity, then zeros.
func launchConfig(instance [16]byte) (config [48]byte) {
	id := teebroker.LaunchID(tenant, instance)
	copy(config[:], id[:])
	return config
}

// tdxPolicy is built in Go: this image, not to be debugged, on an up-to-date
// platform.
func tdxPolicy() *policy.Policy {
	return &policy.Policy{
		Name: "production-tdx", Version: "1", Document: []byte("mrtd, no debug, UpToDate"),
		Require: map[evidence.Format]policy.Rule{tdx.Format: policy.All{
			policy.Claim{Name: "tdx.mrtd", Op: evidence.Equal, Want: evidence.Bytes(mrtd[:])},
			policy.Claim{Name: "tdx.td_attributes.debug", Op: evidence.Equal, Want: evidence.Bool(false)},
			policy.Claim{Name: "tdx.tcb.status", Op: evidence.Equal, Want: evidence.Text(string(tdx.UpToDate))},
		}},
	}
}

// bootTD is a whole boot: nonce, quote, answer, and the secret opened.
func bootTD(ctx context.Context, broker *teebroker.Broker, p *tdxtest.Platform, td tdxtest.TD, asksFor [16]byte, secret []byte) error {
	key, err := keywrap.Generate(keywrap.MLKEM768X25519)
	if err != nil {
		return err
	}
	id := broker.ID()
	session, err := guest.New(guest.Config{Tenant: tenant, Instance: asksFor, Purpose: purpose, Broker: id[:], Key: key})
	if err != nil {
		return err
	}
	c, err := broker.Challenge(ctx, nonce.ProfileV1)
	if err != nil {
		return err
	}
	want, err := session.Bind(c.Nonce, tdx.Format)
	if err != nil {
		return err
	}
	answer, err := broker.Answer(ctx, session.Request(c.Nonce, p.Quote(td, want)))
	if err != nil {
		return err
	}
	got, err := session.Open(ctx, answer)
	if err != nil {
		return err
	}
	defer clear(got)
	if !bytes.Equal(got, secret) {
		return fmt.Errorf("another secret of %d bytes", len(got))
	}
	return nil
}
