package teebroker

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
)

// accept verifies and appraises what was presented: steps 4 and 5 of section 4.
// It neither looks at nor changes the nonce. Until it returns, a peer is told
// Denied or a Reason, whoever it claims to be.
func (b *Broker) accept(ctx context.Context, p *presented) (*Attestation, error) {
	got, err := b.verify(ctx, p)
	if err != nil {
		return nil, err
	}
	inst, err := b.instance(ctx, p.req, got)
	if err != nil {
		return nil, err
	}
	if err := inst.admit(p.req); err != nil {
		return nil, err
	}
	verdict, err := inst.appraise(got)
	if err != nil {
		return nil, err
	}
	if err := inst.launched(got[0]); err != nil {
		return nil, err
	}
	return b.attestation(p, got, inst, verdict)
}

// instance asks the Directory who the guest is. Whatever it fails with, a peer
// learns no more than that it is denied, or that something is out of reach.
func (b *Broker) instance(ctx context.Context, req Request, got []*evidence.Verified) (Instance, error) {
	inst, err := b.cfg.Directory.Instance(ctx, Lookup{req.Tenant, req.Instance, req.Profile, got})
	switch {
	case err != nil && Code(err) == string(Denied):
		return Instance{}, fmt.Errorf("teebroker: directory: %w", err)
	case err != nil:
		return Instance{}, unavailable("directory", err)
	case inst.ID == [16]byte{} || inst.Tenant != req.Tenant || req.Instance != [16]byte{} && inst.ID != req.Instance:
		return Instance{}, fmt.Errorf("teebroker: directory answered for another: %w", NoInstance)
	}
	return b.obey(inst)
}

// admit returns an error unless i may be asked in the way of req.
func (i Instance) admit(req Request) error {
	v1 := req.Profile == nonce.ProfileV1
	if v1 && !i.admits(req.Profile, req.Purpose) || !v1 && !i.admitsSome(req.Profile) {
		return fmt.Errorf("teebroker: %w: %s", ProfileNotAllowed, req.Profile)
	}
	if err := i.admitKey(req); err != nil {
		return fmt.Errorf("teebroker: %w: %w", ProfileNotAllowed, err)
	}
	if v1 && len(req.Broker) == 0 && !i.AllowUnpinnedBroker {
		return fmt.Errorf("teebroker: %w: the guest pins no broker", Denied)
	}
	return nil
}

// newRSABits is the least modulus of RSA keys where no older client needs less:
// only nonce.ProfileCoCo may have 2048 bits (section 1 of the protocol).
const newRSABits = 3072

// admitKey returns an error unless i takes the key of req. To parse it again is
// to ask whether i would have taken it at all.
func (i Instance) admitKey(req Request) error {
	allows := []keywrap.Allow{i.Suites}
	if req.Profile != nonce.ProfileCoCo {
		allows = append(allows, keywrap.Allow{Suites: i.Suites.Suites, MinRSABits: newRSABits})
	}
	for _, allow := range allows {
		if _, err := keywrap.Parse(req.Recipient.Suite(), req.Recipient.Bytes(), allow); err != nil {
			return err
		}
	}
	return nil
}

// appraise returns the verdict of all policies of i, or why there is none. To
// package policy no policy at all is a refusal.
func (i Instance) appraise(got []*evidence.Verified) (policy.Appraisal, error) {
	for _, p := range i.Policies {
		// A release could not say what it rests on.
		if p == nil || len(p.Document) == 0 {
			return policy.Appraisal{}, fmt.Errorf("teebroker: %w: a policy without a document", Denied)
		}
	}
	verdict := policy.Appraise(got, i.Policies...)
	if !verdict.Accepted() {
		return policy.Appraisal{}, &DeniedError{verdict}
	}
	return verdict, nil
}

// launched returns an error unless v shows the launch identity of i.
func (i Instance) launched(v *evidence.Verified) error {
	if i.Launch == nil {
		if i.AllowSharedLaunchIdentity {
			return nil
		}
		return fmt.Errorf("teebroker: %w: none registered", LaunchIdentity)
	}
	if ms := i.Launch.Appraise(v); len(ms) > 0 {
		return fmt.Errorf("teebroker: %w: %v", LaunchIdentity, ms[0])
	}
	return nil
}

// attestation returns what a release needs to know of evidence that was
// accepted. It copies: nothing that a caller can reach decides a release.
func (b *Broker) attestation(p *presented, got []*evidence.Verified, inst Instance, verdict policy.Appraisal) (*Attestation, error) {
	a := &Attestation{
		by: b, p: p.clone(), got: got, inst: inst, verdict: verdict,
		notAfter: b.cfg.Time().Add(b.cfg.KeepLife),
	}
	for i, v := range got {
		if i == 0 || v.NotAfter.Before(a.good) {
			a.good = v.NotAfter
		}
	}
	if a.good.Before(a.notAfter) {
		a.notAfter = a.good
	}
	a.grant = Grant{
		Request:    p.id,
		Profile:    p.req.Profile,
		Tenant:     inst.Tenant,
		Instance:   inst.ID,
		Generation: inst.Generation,
		Key:        p.req.Recipient.Thumbprint(),
		Policies:   inst.policyDigests(),
		Chip:       platform(got),
		Ordered:    inst.ordered != nil,
	}
	claims, err := claimsDigest(got)
	if err != nil {
		return nil, unavailable("claims", err)
	}
	a.root, a.claims = got[0].Root, claims
	return a, nil
}

// claimsDigest is SHA-256("teebroker/v1/claims" ‖ results): their number, and for
// each LP(format), the number of claims, LP(name) ‖ LP(value as JSON) of each, and
// in the same way the results of its layers. Numbers are 4 bytes, big-endian.
func claimsDigest(got []*evidence.Verified) ([32]byte, error) {
	b, err := appendResults([]byte("teebroker/v1/claims"), got)
	return sha256.Sum256(b), err
}

func appendResults(b []byte, got []*evidence.Verified) ([]byte, error) {
	b = binary.BigEndian.AppendUint32(b, uint32(len(got)))
	for _, v := range got {
		var n uint32
		var claims []byte
		for name, value := range v.Claims.All() {
			text, err := value.MarshalJSON()
			if err != nil {
				return nil, errors.New("a claim has no text")
			}
			claims = appendLP(appendLP(claims, []byte(name)), text)
			n++
		}
		b = binary.BigEndian.AppendUint32(appendLP(b, []byte(v.Format)), n)
		var err error
		if b, err = appendResults(append(b, claims...), v.Layers); err != nil {
			return nil, err
		}
	}
	return b, nil
}
