// Package vtpm verifies quotes of TPMs that run inside of a TEE: the vTPM of an
// SVSM on AMD SEV-SNP, and that of Azure's paravisor on SEV-SNP and Intel TDX.
//
// A [Quote] is a view of bytes that somebody sent. A [Verifier] turns Evidence
// into [Claims], which then hold: the report of the TEE below is genuine, was asked
// for by the most privileged software in the guest, and names an endorsement key
// (SVSM) or an attestation key (Azure); the attestation key that signed the quote is
// that one, or was shown to be in the same TPM; it signs only what its TPM made; and
// the TPM was asked for this quote with the Binding, over PCRs with these values.
//
// It does not follow that the PCRs have good values, that their event log describes
// a good guest, or that what runs the TPM is to be trusted: that is for
// [ReferenceValues], and for those of the report below, to judge. A policy has to
// admit the format of that report, and its rule judges it. Azure's paravisor is
// closed source: nothing here says what it does beside what it is measured as.
//
// What links a quote to hardware is a claim, vtpm.link; see [Link]. The report
// below can be older than the quote: freshness is that of the quote, and clones of
// one TPM state make quotes that can't be told apart but for clock and counts.
//
// Documents: TPM 2.0 Library Parts 1 and 2, TCG EK Credential Profile, TCG PC
// Client Platform Firmware Profile, the SVSM specification, chapter 7.
package vtpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// Format is the Evidence format of a quote. Its Raw is what [ParseQuote] parses.
const Format evidence.Format = "vtpm"

// Formats of the reports that a quote may rest on.
const (
	formatSNP evidence.Format = "snp-report"
	formatTDX evidence.Format = "tdx-quote"
)

// AKs says which attestation keys were shown to be in the TPM of an endorsement
// key. It is safe for concurrent use. A broker implements it with what it
// remembers of [MakeCredential] answered by TPM2_ActivateCredential. An item
// can't say it: what proves it is a secret that only the challenger knew.
type AKs interface {
	// Activated reports whether the object called ak was shown to be in the TPM
	// that has the endorsement key called ek. Both are the Names of what came with
	// the evidence; it is asked when the quote is known to be signed by ak and the
	// report below to be of ek. An error means that it is not known now.
	Activated(ctx context.Context, ek, ak Name) (bool, error)
}

// Config says what makes a quote genuine. What makes it acceptable is in
// [ReferenceValues].
type Config struct {
	// Platform verifies the report below, usually [evidence.Verifiers] of snp and
	// tdx. Required.
	Platform evidence.Verifier

	// AKs says which AKs are linked to an EK that a report or a certificate vouches
	// for. If nil, none is. Azure's AK is in the report and is not asked for.
	AKs AKs

	// Releases says which release the PCR called ProofPCR shows, and results then
	// have claims of it. If nil, they have none. ProofPCR is one that
	// CanProve, and zero without Releases.
	Releases Releases
	ProofPCR PCR

	// EKRoots are the certificates, in DER, that EK certificates have to chain to,
	// with intermediates beside them. If empty, no EK certificate is accepted.
	EKRoots [][]byte

	// Time returns the time at which EK certificates are judged. If nil, time.Now.
	Time func() time.Time

	// AllowUnlinkedAKUnsafe accepts quotes of an AK of which nothing shows that
	// it is in the TPM of the EK: anybody can have signed them, and no claim about
	// PCRs, clock or logs holds. Results say so in Skipped, as "link", and in
	// vtpm.link; an appraisal refuses them unless its policy allows both, and a
	// broker always.
	AllowUnlinkedAKUnsafe bool
}

// Verifier authenticates quotes; see [evidence.Verifier] and [Checks].
//
// The PCR values are an Item: those of the selected PCRs, bank by bank in the order
// of the quote's selection and by number within a bank, one after the other with
// nothing between. Their digest by the hash of the signature is what the quote has.
//
// The quote signs the Binding as extraData, exactly as long as it is. A Binding of
// 64 bytes, for which the buffers of some TPMs are too small, may be signed as its
// SHA-256 of 32 bytes instead.
type Verifier struct {
	cfg   Config
	roots ekRoots
}

// NewVerifier returns a Verifier, or an error that names the field of cfg at
// fault. It does not keep cfg.EKRoots.
func NewVerifier(cfg Config) (*Verifier, error) {
	if cfg.Platform == nil {
		return nil, errors.New("vtpm: Config.Platform: none")
	}
	if cfg.Releases != nil && !cfg.ProofPCR.CanProve() || cfg.Releases == nil && cfg.ProofPCR != (PCR{}) {
		return nil, errors.New("vtpm: Config.ProofPCR: goes with Releases, and is PCR 0 to 15 of SHA-256")
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	roots, err := newEKRoots(cfg.EKRoots)
	if err != nil {
		return nil, fmt.Errorf("vtpm: Config.EKRoots: %w", err)
	}
	cfg.EKRoots = nil
	return &Verifier{cfg, roots}, nil
}

// Verify implements [evidence.Verifier]. On success the result has [*Claims].
func (v *Verifier) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	now := v.cfg.Time()
	is, err := open(ev)
	if err != nil {
		return nil, err
	}
	q, err := ParseQuote(bytes.Clone(ev.Raw[:min(len(ev.Raw), maxRaw)]))
	if err != nil {
		return nil, err
	}
	if err := q.checkBinding(want); err != nil {
		return nil, err
	}
	pcrs, err := q.openPCRs(is[PCRs])
	if err != nil {
		return nil, err
	}
	g, err := openGround(is)
	if err != nil {
		return nil, err
	}
	if err := g.checkSignature(q); err != nil {
		return nil, err
	}
	got := &evidence.Verified{Format: Format, Bound: want.Checked(), Signed: slices.Clone(q.ExtraData), CheckedAt: now}
	c := &Claims{Quote: q, PCRs: pcrs, ground: g, proofPCR: v.cfg.ProofPCR}
	if err := v.rest(ctx, c, ev.Layers, is, got); err != nil {
		return nil, err
	}
	if err := v.prove(ctx, c); err != nil {
		return nil, err
	}
	if err := c.openLogs(is); err != nil {
		return nil, err
	}
	got.Claims = c
	return got, nil
}

// maxRaw is one byte more than Raw may have.
const maxRaw = 2 + maxAttest + 4 + 2 + maxRSAKey + 1

// open checks what ev has beside the quote.
func open(ev evidence.Evidence) (items, error) {
	switch {
	case ev.Format != Format:
		return nil, fail(checkFormat, evidence.Unsupported, "format", nil)
	case len(ev.Layers) > 1:
		return nil, fail(checkFormat, evidence.Malformed, "layers", errors.New("more than one report below"))
	}
	is, err := openItems(ev.Items)
	if err != nil {
		return nil, err
	}
	if is.has(EK) != (len(ev.Layers) == 0) {
		return nil, fail(checkFormat, evidence.Malformed, "layers", errors.New("an EK that no manifest has goes without a report, all else with one"))
	}
	return is, nil
}

// checkBinding compares extraData with want. The two forms have different lengths,
// so neither can be taken for the other.
func (q Quote) checkBinding(want evidence.Binding) error {
	if want.MatchExact(q.ExtraData) {
		return nil
	}
	if full := want.Bytes(); len(full) == 64 {
		sum := sha256.Sum256(full)
		if short, err := evidence.NewBinding(sum[:]); err == nil && short.MatchExact(q.ExtraData) {
			return nil
		}
	}
	return fail(checkBinding, evidence.NotBound, "extraData", nil)
}

// ground is what a quote rests on, as far as it came along: nobody vouches for it yet.
type ground struct {
	manifest Manifest         // empty for an EK without a report
	ak       crypto.PublicKey // what has to have signed
	akPublic *Public          // nil for Azure
	ek       *Public          // nil for Azure
	azure    *Azure           // nil for others
	data     []byte           // that the report below has to be of
}

func openGround(is items) (g ground, err error) {
	if is.has(HCL) {
		return openAzure(is[HCL])
	}
	ak, err := ParsePublic(is[AK])
	if err != nil {
		return ground{}, refield(err, checkItems, AK)
	}
	if g, err = openEK(is); err != nil {
		return ground{}, err
	}
	if err := ak.checkAK(); err != nil {
		return ground{}, err
	}
	g.ak, g.akPublic = ak.Key, &ak
	return g, nil
}

// openEK returns the EK that manifest or item has.
func openEK(is items) (g ground, err error) {
	var ek Public
	switch {
	case is.has(SVSMManifest):
		g.manifest = SVSMSingle
		ek, err = ParseManifest(is[SVSMManifest])
	case is.has(SVSMServices):
		g.manifest = SVSMAll
		ek, err = ParseServices(is[SVSMServices])
	default:
		if ek, err = ParsePublic(is[EK]); err != nil {
			return ground{}, refield(err, checkItems, EK)
		}
		err = ek.checkEK()
	}
	if err != nil {
		return ground{}, err
	}
	if is.has(SVSMNonce) {
		manifest := is[SVSMManifest]
		if g.manifest == SVSMAll {
			manifest = is[SVSMServices]
		}
		sum := SVSMReportData([SVSMNonceSize]byte(is[SVSMNonce]), manifest)
		g.data = sum[:]
	}
	g.ek = &ek
	return g, nil
}

// openAzure takes the AK from the blob of the paravisor, which vouches for it by
// calling it HCLAkPub.
func openAzure(blob []byte) (ground, error) {
	a, err := ParseHCL(blob)
	if err != nil {
		return ground{}, err
	}
	data := a.ReportData()
	return ground{manifest: a.Manifest, ak: a.AK, azure: &a, data: data[:]}, nil
}

// ekKey returns the EK, or nil.
func (g ground) ekKey() crypto.PublicKey {
	switch {
	case g.ek != nil:
		return g.ek.Key
	case g.azure != nil && g.azure.EK != nil:
		return g.azure.EK
	}
	return nil
}

// checkSignature reports whether the AK signed q.
func (g ground) checkSignature(q Quote) error {
	if g.akPublic != nil && !g.akPublic.signs(q) {
		return fail(checkSignature, evidence.BadSignature, "sigAlg", errors.New("not the scheme of the AK"))
	}
	if _, azure := g.ak.(*rsa.PublicKey); g.akPublic == nil && !azure || !q.signedBy(g.ak) {
		return fail(checkSignature, evidence.BadSignature, "signature", nil)
	}
	return nil
}
