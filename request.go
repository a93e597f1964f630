package teebroker

import (
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// What a Request may have at most; more is TooLarge. Adapters have smaller
// limits of their own for what they read.
const (
	maxEvidence = 16       // with Layers
	maxLayers   = 4        // below one Evidence
	maxItems    = 64       // of one Evidence
	maxBytes    = 16 << 20 // Raw and Items of all, and AdditionalEvidence
	maxWrapped  = 64 << 10
)

// Request is what a guest presents. All that its answer depends on is here, and
// for nonce.ProfileV1 all of it is bound by the hardware's signature. At most 16
// Evidence, Layers included, of 16 MiB together are looked at.
type Request struct {
	Profile nonce.Profile
	Nonce   nonce.Nonce

	// Tenant comes from the listener or route, or for v1 from the guest whose
	// binding has it; never from Evidence.
	Tenant string

	// Broker is the broker id that the guest pins, 32 bytes, or empty. Another
	// than ID is Denied; so is empty, unless the Instance has
	// AllowUnpinnedBroker.
	Broker []byte

	// Instance is who the guest says it is, or zero where the protocol has no
	// word for it. The Directory decides.
	Instance [16]byte

	// Purpose names the secret: of v1. Profiles that do not bind it leave it
	// empty, and name it to Fetch.
	Purpose string

	// Recipient is the key of the guest, parsed with what the listener allows.
	// The suites of the Instance are compared later.
	Recipient keywrap.Recipient

	// Evidence is all there is, each bound to the one nonce and key, in the
	// order sent. The Broker chooses the Recipe of each from Profile and Format.
	// The first one is of the guest itself, and its binding names the release.
	Evidence []evidence.Evidence

	// Wrapped is a secret that the owner, or this broker, wrapped to an
	// attestation key, as received, or nil where Secrets has it or the owner
	// left a copy. Of v1, at most 64 KiB. Its digest is in the binding, and must
	// be the one that is registered for the purpose.
	Wrapped []byte

	// CoCo is required with nonce.ProfileCoCo, and an error otherwise.
	CoCo *CoCo
}

// CoCo are the parameters of the recipes of nonce.ProfileCoCo. The first
// Evidence of a Request is the primary one, the others are of devices.
type CoCo struct {
	AdditionalEvidence string
	Hashes             []crypto.Hash // one for each Evidence, as its TEE has it
}

// RequestID identifies a request for retries: SHA-256("teebroker/v1/request" ‖
// for each Evidence: LP(format) ‖ LP(binding) ‖ LP(SHA-256(raw))). Items and
// Layers are not part of it. bindings are those of evs, one for each in their
// order; otherwise the result is zero, which is no request's.
func RequestID(evs []evidence.Evidence, bindings []evidence.Binding) [32]byte {
	if len(evs) != len(bindings) {
		return [32]byte{}
	}
	b := []byte("teebroker/v1/request")
	for i, ev := range evs {
		raw := sha256.Sum256(ev.Raw)
		b = appendLP(b, []byte(ev.Format))
		b = appendLP(b, bindings[i].Bytes())
		b = appendLP(b, raw[:])
	}
	return sha256.Sum256(b)
}

// appendLP appends x after its length, 4 bytes big-endian.
func appendLP(b, x []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
}

// presented is a Request of good shape, and what follows from it alone.
type presented struct {
	req      Request
	bindings []evidence.Binding // of each Evidence
	blob     [32]byte           // digest of Wrapped, or zero
	id       [32]byte
}

// present looks at the shape of req and computes what the hardware must have
// signed. Nothing has been stored or verified when it fails.
func (b *Broker) present(req Request) (*presented, error) {
	if err := req.withinLimits(); err != nil {
		return nil, err
	}
	if err := req.wellFormed(); err != nil {
		return nil, err
	}
	if len(req.Broker) != 0 && subtle.ConstantTimeCompare(req.Broker, b.id[:]) != 1 {
		return nil, fmt.Errorf("teebroker: %w: the guest pins another broker", Denied)
	}
	p := &presented{req: req}
	var digest []byte
	if req.Wrapped != nil {
		w, err := keywrap.ParseWrapped(req.Wrapped)
		if err != nil {
			return nil, fmt.Errorf("teebroker: %w: wrapped key: %w", MalformedRequest, err)
		}
		p.blob = w.Digest()
		digest = p.blob[:]
	}
	for i := range req.Evidence {
		binding, err := req.recipe(i, digest).Bind(req.Nonce, req.Recipient)
		if err != nil {
			return nil, fmt.Errorf("teebroker: %w: %w", MalformedRequest, err)
		}
		p.bindings = append(p.bindings, binding)
	}
	p.id = RequestID(req.Evidence, p.bindings)
	return p, nil
}

// recipe returns what binds Evidence i. It is chosen by the profile and by the
// place of the Evidence, never by the guest.
func (r Request) recipe(i int, blob []byte) nonce.Recipe {
	switch {
	case r.Profile == nonce.ProfileSVSM:
		return nonce.SVSM{}
	case r.Profile == nonce.ProfileCoCo && i == 0:
		return nonce.CoCo{Hash: r.CoCo.Hashes[i], AdditionalEvidence: r.CoCo.AdditionalEvidence}
	case r.Profile == nonce.ProfileCoCo:
		return nonce.CoCoDevice{Hash: r.CoCo.Hashes[i]}
	}
	return nonce.V1{
		Broker: r.Broker, Tenant: r.Tenant, Instance: r.Instance, Purpose: r.Purpose,
		Format: r.Evidence[i].Format, Blob: blob,
	}
}

// wellFormed returns an error unless r has what its profile has, and nothing
// that it could not bind.
func (r Request) wellFormed() error {
	switch {
	case !names.Tenant(r.Tenant):
		return malformed("not a tenant")
	case len(r.Evidence) == 0:
		return malformed("no evidence")
	case (r.CoCo != nil) != (r.Profile == nonce.ProfileCoCo):
		return malformed("parameters of another profile")
	}
	switch r.Profile {
	case nonce.ProfileV1:
		return nil // nonce.V1 holds the other fields to their grammar
	case nonce.ProfileSVSM, nonce.ProfileCoCo:
	case nonce.ProfileVTPM, nonce.ProfileVerify:
		return fmt.Errorf("teebroker: %w: nothing is released for %s", ProfileNotAllowed, r.Profile)
	default:
		return malformed("unknown profile")
	}
	switch {
	case r.Purpose != "" || len(r.Broker) != 0 || r.Wrapped != nil:
		return malformed("a field that the profile can't bind")
	case r.Profile == nonce.ProfileSVSM && len(r.Evidence) != 1:
		return malformed("more than one evidence")
	case r.CoCo != nil && len(r.CoCo.Hashes) != len(r.Evidence):
		return malformed("not one hash for each evidence")
	}
	return nil
}

// withinLimits bounds everything that is done with r.
func (r Request) withinLimits() error {
	s := size{}
	for _, ev := range r.Evidence {
		if s.add(ev, 0); s.over {
			break
		}
	}
	if r.CoCo != nil {
		s.bytes += len(r.CoCo.AdditionalEvidence)
	}
	if s.over || s.bytes > maxBytes || len(r.Wrapped) > maxWrapped {
		return fmt.Errorf("teebroker: %w", TooLarge)
	}
	return nil
}

// size counts evidence. Once over, it counts no further.
type size struct {
	evidence, bytes int
	over            bool
}

func (s *size) add(ev evidence.Evidence, depth int) {
	s.evidence++
	s.bytes += len(ev.Format) + len(ev.Raw)
	if s.over = s.over || s.evidence > maxEvidence || depth > maxLayers || len(ev.Items) > maxItems; s.over {
		return
	}
	for _, it := range ev.Items {
		s.bytes += len(it.Type) + len(it.Data)
	}
	for _, l := range ev.Layers {
		if s.add(l, depth+1); s.over {
			return
		}
	}
}
