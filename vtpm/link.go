package vtpm

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/teebroker/teebroker/evidence"
)

// Link says what ties the AK that signed a quote to hardware.
type Link string

// The Links, strongest first. There is no other: a quote with nothing behind its
// AK is refused.
const (
	// LinkAK: the report of the TEE has the AK. Azure.
	LinkAK Link = "ak"

	// LinkEK: the report of the TEE has the EK, and the AK was shown to be in the
	// TPM of that EK. SVSM.
	LinkEK Link = "ek"

	// LinkCertificate: a certificate vouches for the EK, and the AK was shown to be
	// in its TPM. No TEE has any part in it: whoever runs that TPM can do with
	// its state as he likes.
	LinkCertificate Link = "ek-certificate"

	// LinkUnlinked: nothing shows that the AK is in the TPM of the EK. See
	// Config.AllowUnlinkedAKUnsafe.
	LinkUnlinked Link = "unlinked"
)

// Links returns all Links.
func Links() []Link { return []Link{LinkAK, LinkEK, LinkCertificate, LinkUnlinked} }

// rest verifies what the quote rests on, down to the root, and adds it to c and got.
func (v *Verifier) rest(ctx context.Context, c *Claims, layers []evidence.Evidence, is items, got *evidence.Verified) error {
	if len(layers) > 0 {
		below, err := v.platform(ctx, c.ground, layers[0])
		if err != nil {
			return err
		}
		c.Platform = below.Format
		got.Root, got.NotAfter, got.Layers = below.Root, below.NotAfter, []*evidence.Verified{below}
	}
	if is.has(EKCertificate) {
		chain, err := v.roots.verify(is[EKCertificate], c.ground.ekKey(), got.CheckedAt)
		if err != nil {
			return err
		}
		c.EKCertificate = chain.leaf
		if len(layers) == 0 {
			got.Root, got.NotAfter = chain.root, chain.notAfter
		} else if chain.notAfter.Before(got.NotAfter) {
			got.NotAfter = chain.notAfter
		}
	}
	return v.link(ctx, c, got)
}

// platform verifies the report below, which has to be of what g came with.
func (v *Verifier) platform(ctx context.Context, g ground, layer evidence.Evidence) (*evidence.Verified, error) {
	wanted := formatSNP
	if g.azure != nil {
		wanted = g.azure.format
	}
	if layer.Format != wanted {
		return nil, fail(checkPlatform, evidence.Unsupported, "layers", errors.New("a report of another format than that of manifest or runtime data"))
	}
	if g.azure != nil && g.azure.Report != nil && !bytes.Equal(g.azure.Report, layer.Raw) {
		return nil, fail(checkPlatform, evidence.NotBound, HCL, errors.New("the blob has another report than the one below"))
	}
	want, err := evidence.NewBinding(g.data)
	if err != nil {
		return nil, fail(checkPlatform, evidence.NotBound, "layers", err)
	}
	got, err := v.cfg.Platform.Verify(ctx, layer, want)
	switch {
	case err != nil:
		reason := evidence.Unavailable
		var e *evidence.Error
		if errors.As(err, &e) {
			reason = e.Reason
		}
		return nil, fail(checkPlatform, reason, "layers", err)
	case got == nil || got.Format != layer.Format || !got.Bound || got.Claims == nil:
		return nil, fail(checkPlatform, evidence.Unsupported, "layers", errors.New("the verifier's answer is not about this report"))
	}
	if err := checkPrivilege(got); err != nil {
		return nil, err
	}
	return got, nil
}

// checkPrivilege reports whether a report of SEV-SNP was asked for at VMPL 0. At
// others runs the guest that a TPM at VMPL 0 is kept from.
func checkPrivilege(got *evidence.Verified) error {
	if got.Format != formatSNP {
		return nil
	}
	for name, value := range got.Claims.All() {
		if name == "snp.vmpl" && value.Equal(evidence.Uint(0)) {
			return nil
		}
	}
	return fail(checkVMPL, evidence.Untrusted, "VMPL", errors.New("not asked for at VMPL 0"))
}

// link finds out what ties the AK to what was verified.
func (v *Verifier) link(ctx context.Context, c *Claims, got *evidence.Verified) error {
	g := c.ground
	if g.azure != nil {
		c.Link = LinkAK
		return nil
	}
	linked := false
	if v.cfg.AKs != nil {
		var err error
		if linked, err = v.cfg.AKs.Activated(ctx, g.ek.Name, g.akPublic.Name); err != nil {
			return fail(checkLink, evidence.Unavailable, AK, err)
		}
	}
	switch {
	case linked && c.Platform != "":
		c.Link = LinkEK
	case linked:
		c.Link = LinkCertificate
	case v.cfg.AllowUnlinkedAKUnsafe:
		c.Link, got.Skipped = LinkUnlinked, []string{checkLink}
	default:
		return fail(checkLink, evidence.Untrusted, AK, errors.New("the EK is linked, the AK is not: nothing shows that it is in the same TPM"))
	}
	return nil
}

// VerifyEK returns the EK that the report of an SVSM vouches for: what a challenger
// needs before an AK can be linked to it. is are SVSMNonce and either SVSMManifest
// or SVSMServices, and nothing else; the nonce has to be exactly want, so the report
// is as fresh as that is. The other result is that of the report, which is genuine
// and not yet acceptable. Errors wrap an [*evidence.Error].
func (v *Verifier) VerifyEK(ctx context.Context, report evidence.Evidence, is []evidence.Item, want evidence.Binding) (*Public, *evidence.Verified, error) {
	got, err := openItems(append(slices.Clone(is), evidence.Item{Type: PCRs}, evidence.Item{Type: AK}))
	if err != nil {
		return nil, nil, err
	}
	if !got.has(SVSMNonce) || len(got) != 4 {
		return nil, nil, fail(checkItems, evidence.Malformed, "items", errors.New("not a nonce and a manifest"))
	}
	if !want.MatchExact(got[SVSMNonce]) {
		return nil, nil, fail(checkBinding, evidence.NotBound, SVSMNonce, nil)
	}
	g, err := openEK(got)
	if err != nil {
		return nil, nil, err
	}
	below, err := v.platform(ctx, g, report)
	if err != nil {
		return nil, nil, err
	}
	below.Bound = want.Checked()
	return g.ek, below, nil
}

// VerifyHCL returns what Azure's paravisor says in blob, the content of NV index
// 0x01400001, once report is verified to be of it. The report was made when the
// VM started, or when the guest last had UserData written into it, so that it is
// as fresh as those are. The other result is that of the report, which is genuine
// and not yet acceptable. Errors wrap an [*evidence.Error].
func (v *Verifier) VerifyHCL(ctx context.Context, blob []byte, report evidence.Evidence) (*Azure, *evidence.Verified, error) {
	g, err := openAzure(blob)
	if err != nil {
		return nil, nil, err
	}
	below, err := v.platform(ctx, g, report)
	if err != nil {
		return nil, nil, err
	}
	return g.azure, below, nil
}
