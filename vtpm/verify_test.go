package vtpm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

func TestVerify(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	all := w.svsm(w.rsa)
	all.Services = true
	for _, tt := range []struct {
		name     string
		ev       evidence.Evidence
		link     vtpm.Link
		platform evidence.Format
		manifest vtpm.Manifest
	}{
		{"SVSM, RSA", w.svsm(w.rsa).Evidence(vtpmtest.Quote{}, want), vtpm.LinkEK, snp.Format, vtpm.SVSMSingle},
		{"SVSM, ECC", w.svsm(w.ecc).Evidence(vtpmtest.Quote{}, want), vtpm.LinkEK, snp.Format, vtpm.SVSMSingle},
		{"SVSM, all services", all.Evidence(vtpmtest.Quote{}, want), vtpm.LinkEK, snp.Format, vtpm.SVSMAll},
		{"Azure on SNP", w.azure().Evidence(vtpmtest.Quote{}, want), vtpm.LinkAK, snp.Format, vtpm.AzureHCL2},
		{"Azure on TDX", w.azureTDX().Evidence(vtpmtest.Quote{}, want), vtpm.LinkAK, tdx.Format, vtpm.AzureHCL2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, got := claimsOf(t, w.newVerifier(t, w.rsa, w.ecc), tt.ev, want)
			if c.Link != tt.link || c.Platform != tt.platform || c.Manifest() != tt.manifest {
				t.Errorf("link %s, platform %s, manifest %s", c.Link, c.Platform, c.Manifest())
			}
			if !got.Bound || !bytes.Equal(got.Signed, want.Bytes()) || len(got.Skipped) != 0 {
				t.Errorf("bound %v, signed %x, skipped %v", got.Bound, got.Signed, got.Skipped)
			}
			if len(got.Layers) != 1 || got.Layers[0].Format != tt.platform || got.Root != got.Layers[0].Root || !got.NotAfter.Equal(got.Layers[0].NotAfter) {
				t.Error("layers, root or expiry are not those of the report")
			}
			if v, ok := c.PCR(vtpm.PCR{Bank: vtpm.SHA256, Index: 7}); !ok || v != vtpm.Octets(make([]byte, 32)) {
				t.Errorf("PCR 7 is %x, %v", v, ok)
			}
		})
	}
}

// A quote carries the Binding exactly or, of 64 bytes, its SHA-256.
func TestBindingForms(t *testing.T) {
	w := theWorld()
	v := w.newVerifier(t, w.ecc)
	long, short := sixtyFour(t), bindingOf(t, []byte{1, 2, 3})
	sum := func(b evidence.Binding) []byte { s := sha256.Sum256(b.Bytes()); return s[:] }
	for _, tt := range []struct {
		name  string
		extra []byte
		want  evidence.Binding
		ok    bool
	}{
		{"64 bytes", long.Bytes(), long, true},
		{"SHA-256 of 64 bytes", sum(long), long, true},
		{"short", short.Bytes(), short, true},
		{"SHA-256 of a short one", sum(short), short, false},
		{"padded", append(short.Bytes(), 0), short, false},
		{"cut", long.Bytes()[:32], long, false},
		{"none", []byte{}, long, false},
		{"SHA-256 of SHA-256", sum(bindingOf(t, sum(long))), long, false},
		{"zero Binding", []byte{}, evidence.Binding{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev := w.svsm(w.ecc).Evidence(vtpmtest.Quote{Extra: tt.extra}, tt.want)
			if !tt.ok {
				refused(t, v, ev, tt.want, "binding", evidence.NotBound)
				return
			}
			if _, got := claimsOf(t, v, ev, tt.want); !bytes.Equal(got.Signed, tt.extra) {
				t.Errorf("signed %x", got.Signed)
			}
		})
	}
	ev := w.svsm(w.ecc).Evidence(vtpmtest.Quote{}, long)
	if _, got := claimsOf(t, v, ev, evidence.UncheckedBindingUnsafe()); got.Bound {
		t.Error("an unchecked binding is bound")
	}
}

// failing is an AKs that can't say.
type failing struct{}

func (failing) Activated(context.Context, vtpm.Name, vtpm.Name) (bool, error) {
	return true, errors.New("out of reach")
}

// An AK that nothing links to the EK is refused as what it is.
func TestUnlinkedAK(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	ev := w.svsm(w.ecc).Evidence(vtpmtest.Quote{}, want)
	verifier := func(cfg vtpm.Config) *vtpm.Verifier {
		cfg.Platform = w.verifier
		v, err := vtpm.NewVerifier(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	refused(t, verifier(vtpm.Config{}), ev, want, "link", evidence.Untrusted)
	refused(t, verifier(vtpm.Config{AKs: vtpmtest.AKs{w.rsa}}), ev, want, "link", evidence.Untrusted)
	refused(t, verifier(vtpm.Config{AKs: failing{}}), ev, want, "link", evidence.Unavailable)
	refused(t, verifier(vtpm.Config{AKs: failing{}, AllowUnlinkedAKUnsafe: true}), ev, want, "link", evidence.Unavailable)

	// The AK of one TPM, the EK of another: both are linked, not to each other.
	other := w.svsm(w.ecc)
	other.Items = func(is []evidence.Item) []evidence.Item { return is }
	_, items := w.svsm(w.rsa).Attestation()
	report, _ := w.svsm(w.rsa).Attestation()
	mixed := with(ev, vtpm.SVSMManifest, items[1].Data)
	mixed.Layers = []evidence.Evidence{report}
	refused(t, verifier(vtpm.Config{AKs: vtpmtest.AKs{w.rsa, w.ecc}}), mixed, want, "link", evidence.Untrusted)

	c, got := claimsOf(t, verifier(vtpm.Config{AllowUnlinkedAKUnsafe: true}), ev, want)
	if c.Link != vtpm.LinkUnlinked || !slices.Equal(got.Skipped, []string{"link"}) {
		t.Errorf("link %s, skipped %v", c.Link, got.Skipped)
	}
	c, got = claimsOf(t, verifier(vtpm.Config{AllowUnlinkedAKUnsafe: true, AKs: vtpmtest.AKs{w.ecc}}), ev, want)
	if c.Link != vtpm.LinkEK || len(got.Skipped) != 0 {
		t.Errorf("a linked AK: link %s, skipped %v", c.Link, got.Skipped)
	}
}

// What else is not the TPM of that report.
func TestForeign(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	v := w.newVerifier(t, w.rsa, w.ecc)
	good := w.svsm(w.ecc).Evidence(vtpmtest.Quote{}, want)
	azure := w.azure().Evidence(vtpmtest.Quote{}, want)
	raw, pcrs := w.rsa.Quote(vtpmtest.Quote{}, want)
	swap := func(ev evidence.Evidence, raw []byte, layers ...evidence.Evidence) evidence.Evidence {
		ev.Raw = raw
		if layers != nil {
			ev.Layers = layers
		}
		return ev
	}
	own, _ := w.svsm(w.rsa).Attestation()
	at := func(edit func(*vtpmtest.SVSM)) evidence.Evidence {
		s := w.svsm(w.ecc)
		edit(&s)
		return s.Evidence(vtpmtest.Quote{}, want)
	}
	plain := w.chip.Report(snptest.Guest{}, want)
	refused(t, v, swap(with(good, vtpm.PCRs, pcrs), raw), want, "signature", evidence.BadSignature)  // another TPM's quote
	refused(t, v, swap(good, good.Raw, own), want, "platform", evidence.NotBound)                    // foreign EK
	refused(t, v, swap(good, good.Raw, plain), want, "platform", evidence.NotBound)                  // the guest's own report
	refused(t, v, swap(good, good.Raw, azure.Layers...), want, "platform", evidence.NotBound)        // Azure's report
	refused(t, v, swap(azure, azure.Raw, good.Layers...), want, "platform", evidence.NotBound)       // and the other way
	refused(t, v, with(good, vtpm.SVSMNonce, make([]byte, 64)), want, "platform", evidence.NotBound) // another nonce
	refused(t, v, at(func(s *vtpmtest.SVSM) { s.Guest.VMPL = 1 }), want, "vmpl", evidence.Untrusted) // asked for by the guest
	refused(t, v, at(func(s *vtpmtest.SVSM) { s.Guest.VMPL = 3 }), want, "vmpl", evidence.Untrusted) //
	refused(t, v, at(func(s *vtpmtest.SVSM) { s.Manifest = tail }), want, "manifest", evidence.Malformed)
	refused(t, v, at(func(s *vtpmtest.SVSM) { s.Manifest = cut }), want, "manifest", evidence.Malformed)
	refused(t, v, at(func(s *vtpmtest.SVSM) { s.Manifest = uefi }), want, "manifest", evidence.Malformed) // another service's
	refused(t, v, at(func(s *vtpmtest.SVSM) {
		s.Guest.Fault = func(b []byte) []byte { b[0x2A0] ^= 1; return b }
	}), want, "platform", evidence.BadSignature)
	refused(t, v, w.azureTDX().Evidence(vtpmtest.Quote{}, want), bindingOf(t, []byte("x")), "binding", evidence.NotBound)
	tdxBelow := swap(w.azureTDX().Evidence(vtpmtest.Quote{}, want), nil, w.azure().Evidence(vtpmtest.Quote{}, want).Layers...)
	tdxBelow.Raw = azure.Raw
	refused(t, v, tdxBelow, want, "platform", evidence.Unsupported)
}

func tail(b []byte) []byte { return append(bytes.Clone(b), 0) }
func cut(b []byte) []byte  { return b[:len(b)-1] }
func uefi([]byte) []byte   { return vtpmtest.UEFIMM().Manifest }

// Keys that are not what they are used as.
func TestKeysOfOtherKinds(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	ak := func(edit func(*tpm2.TPMAObject)) *vtpmtest.TPM {
		return vtpmtest.NewTPM(vtpmtest.ECC, nil, func(p *tpm2.TPMTPublic) { edit(&p.ObjectAttributes) })
	}
	ek := func(edit func(*tpm2.TPMTPublic)) *vtpmtest.TPM { return vtpmtest.NewTPM(vtpmtest.ECC, edit, nil) }
	for name, tt := range map[string]struct {
		tpm    *vtpmtest.TPM
		check  string
		reason evidence.Reason
	}{
		"unrestricted AK":                  {ak(func(a *tpm2.TPMAObject) { a.Restricted = false }), "ak", evidence.Untrusted},
		"AK that does not sign":            {ak(func(a *tpm2.TPMAObject) { a.SignEncrypt = false }), "ak", evidence.Untrusted},
		"AK that decrypts":                 {ak(func(a *tpm2.TPMAObject) { a.Decrypt = true }), "ak", evidence.Untrusted},
		"AK that can be moved":             {ak(func(a *tpm2.TPMAObject) { a.FixedTPM = false }), "ak", evidence.Untrusted},
		"AK under a parent that can":       {ak(func(a *tpm2.TPMAObject) { a.FixedParent = false }), "ak", evidence.Untrusted},
		"AK made elsewhere":                {ak(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }), "ak", evidence.Untrusted},
		"EK that signs":                    {ek(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = true }), "ek", evidence.Untrusted},
		"unrestricted EK":                  {ek(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }), "ek", evidence.Untrusted},
		"EK that can be moved":             {ek(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }), "ek", evidence.Untrusted},
		"EK with a password":               {ek(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = true }), "ek", evidence.Untrusted},
		"EK with a policy of its own":      {ek(func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = make([]byte, 32) }), "ek", evidence.Untrusted},
		"an AK as EK":                      {ek(func(p *tpm2.TPMTPublic) { u := p.Unique; *p = vtpmtest.AKTemplate(vtpmtest.ECC); p.Unique = u }), "ek", evidence.Untrusted},
		"EK whose name is made by SHA-384": {ek(func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA384 }), "ek", evidence.Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, w.newVerifier(t, tt.tpm), w.svsm(tt.tpm).Evidence(vtpmtest.Quote{}, want), want, tt.check, tt.reason)
		})
	}
}

// Whatever bit of quote, PCR values, manifest, nonce or AK is another one, the
// quote is refused.
func TestEveryBit(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	v := w.newVerifier(t, w.ecc)
	good := w.svsm(w.ecc).Evidence(vtpmtest.Quote{}, want)
	claimsOf(t, v, good, want)
	for bit := range 8 * len(good.Raw) {
		bad := good
		bad.Raw = flipped(good.Raw, bit)
		if _, err := v.Verify(t.Context(), bad, want); err == nil {
			t.Errorf("bit %d of the quote flipped: accepted", bit)
		}
	}
	for _, i := range good.Items {
		for bit := range 8 * len(i.Data) {
			if _, err := v.Verify(t.Context(), with(good, i.Type, flipped(i.Data, bit)), want); err == nil {
				t.Errorf("bit %d of %s flipped: accepted", bit, i.Type)
			}
		}
	}
}

func flipped(b []byte, bit int) []byte {
	b = bytes.Clone(b)
	b[bit/8] ^= 1 << (bit % 8)
	return b
}
