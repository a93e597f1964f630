package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
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

// releaseTDX gives a simulated TD its key, and not to one that is another or may be
// looked into.
func releaseTDX(ctx context.Context, t *transcript) error {
	t.title("6. A release to a simulated TD")
	intel := tdxtest.NewIntel()
	platform := intel.Platform(tdx.PlatformCA)
	verifier, err := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: intel.Source()})
	if err != nil {
		return err
	}
	document, err := tdxPolicy()
	if err != nil {
		return err
	}
	s := simulation{
		guest: "TD", format: tdx.Format, verifier: verifier, root: sha256.Sum256(intel.Anchors()[0]),
		policy: document, launch: "tdx.mrconfigid", launchSize: 48,
	}
	// Each of these changes one thing of the TD that gets the key.
	quote := func(change func(*tdxtest.TD)) func(evidence.Binding) evidence.Evidence {
		td := tdxtest.TD{Version: 5, MRTD: image, Log: started(application)}
		copy(td.MRConfigID[:], s.launchedAs(instance))
		change(&td)
		return func(want evidence.Binding) evidence.Evidence { return platform.Quote(td, want) }
	}
	return s.release(ctx, t, []boot{
		{"a TD of the same image, launched as the neighbour", "denied", quote(func(td *tdxtest.TD) {
			copy(td.MRConfigID[:], s.launchedAs(neighbour))
		})},
		{"a TD that its host may debug", "denied", quote(func(td *tdxtest.TD) { td.Attributes = tdx.Debug | tdx.SEPTVEDisable })},
		{"a TD that started another application, by its event log", "denied", quote(func(td *tdxtest.TD) {
			td.Log = started("something else")
		})},
		{"the same with the event log of the right one", string(evidence.BadSignature), quote(func(td *tdxtest.TD) {
			td.Log = started("something else")
			td.Items = func([]evidence.Item) []evidence.Item { return started(application).Items() }
		})},
		{"the owner's TD: it opens the secret", accepted, quote(func(*tdxtest.TD) {})},
		{"a second TD of this instance, after the use is taken", "denied", quote(func(*tdxtest.TD) {})},
	})
}

// application is what the image has to start, which it measures into RTMR3.
const application = "an application that the owner wrote"

func started(what string) tdxtest.EventLog {
	return tdxtest.EventLog{{RTMR: 3, Name: "application", Data: []byte(what)}}
}

// tdxPolicy is a document as an owner writes it: this image with this application,
// not to be debugged, on an up-to-date platform.
func tdxPolicy() (*policy.Policy, error) {
	return policy.Parse(fmt.Appendf(nil, `{
		"policy": "teebroker/1", "name": "production-tdx", "version": "1", "scope": "global",
		"require": {"tdx-quote": [{
			"mrtd": [%q], "rtmr0": "*", "rtmr1": "*", "rtmr2": "*", "rtmr3": "*",
			"runtime_events": [{"name": "application", "payloads": [%q]}],
			"mrconfigid": "*", "mrowner": "*", "mrownerconfig": "*", "body_types": [2, 3],
			"require_attributes": ["sept_ve_disable"], "allow_xfam": "*", "mrseam": "*", "allow_any_module": true,
			"statuses": ["UpToDate"], "advisories": "*", "ppids": "*", "platform_instances": "*",
			"allow_dynamic_platform": true, "allow_cached_keys": true, "allow_smt": true
		}]}}`, hex.EncodeToString(image[:]), hex.EncodeToString([]byte(application))),
		policy.Decoders{tdx.Format: policy.Decoder(tdx.DecodeReferenceValues)})
}
