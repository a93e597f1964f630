// Package ccatest is a software CCA platform with realms on it, and a vendor that
// certifies platforms. It is for tests, simulations and examples. What it makes
// proves nothing to anyone who does not choose its [Platform.Anchor] or
// [Vendor.Authority].
//
// What it makes without being asked otherwise is meant to be accepted. Each fault
// that a verifier has to find can be made:
//
//   - in what tokens say: the fields of [Platform] and [Realm], and any claim,
//     missing, doubled or of another type, with [Signing.Claims];
//   - in how it is encoded: any bytes in the place of claims with
//     [Signing.Payload], of a token with [Signing.Token], of the whole with
//     [Realm.Raw], and [cbor.RawMessage] as the value of any [Pair];
//   - in how it is signed: the headers, the key and the hash, with the rest of
//     [Signing]; another RAK with [Realm.Key], another binder with the claims;
//   - in the collection: its form and members, with [Realm.Form] and [Realm.Collect];
//   - in certificates: every field of [Certificate], and any chain in [Platform.Chain].
//
// Functions that return no error panic if they are asked for what can't be made,
// such as a claim of a type that CBOR does not have.
package ccatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/internal/wire"
)

// Profiles is a pair of profiles that a [cca.Verifier] knows. The zero Profiles
// is P2023And2024, which TF-RMM makes.
type Profiles uint8

// The Profiles. P2026 and after need [cca.Config.AllowDraft2026], Mixed needs
// [cca.Config.AllowMixedProfiles].
const (
	P2023And2024 Profiles = iota
	Legacy
	P2023
	P2024
	Mixed // platform legacy, realm of 2023
	P2026
	P2026Draft // ";delegated"
	P2026RMM   // "#delegated"
)

// AllProfiles returns all Profiles.
func AllProfiles() []Profiles {
	return []Profiles{P2023And2024, Legacy, P2023, P2024, Mixed, P2026, P2026Draft, P2026RMM}
}

// Platform returns the profile of platform tokens.
func (p Profiles) Platform() string {
	switch p {
	case Legacy, Mixed:
		return wire.PlatformLegacy
	case P2023And2024, P2023:
		return wire.Platform2023
	case P2024:
		return wire.Platform2024
	case P2026:
		return wire.Platform2026
	case P2026Draft:
		return wire.Platform2026 + wire.DelegatedDraft
	case P2026RMM:
		return wire.Platform2026 + wire.DelegatedRMM
	}
	panic(fmt.Sprintf("ccatest: no profiles %d", p))
}

// Realm returns the profile of realm tokens, "" if they have none.
func (p Profiles) Realm() string {
	switch p {
	case Legacy:
		return ""
	case P2023, Mixed:
		return wire.Realm2023
	case P2023And2024, P2024:
		return wire.Realm2024
	}
	return wire.Realm2026
}

// String returns both profiles.
func (p Profiles) String() string { return p.Platform() + " with " + p.Realm() }

// second reports whether realm tokens are of version 2.0.0.
func (p Profiles) second() bool { return p != Legacy && p != P2023 && p != Mixed }

// binder returns the label of the claim with the digest of the RAK.
func (p Profiles) binder() int64 {
	if p >= P2026 {
		return wire.WorkloadBinding
	}
	return wire.Challenge
}

// Platform is a machine with its firmware and its CPAK. Its fields are what
// tokens will say from now on. Its methods are safe for concurrent use as long as
// nobody writes its fields.
type Platform struct {
	Instance            cca.InstanceID
	Implementation      cca.ImplementationID
	Lifecycle           cca.Lifecycle
	Config              cca.Octets
	Hash                cca.Hash // of components that do not say
	Components          []cca.Component
	VerificationService string // may be empty

	// Key is the CPAK, on P-256, P-384 or P-521.
	Key *ecdsa.PrivateKey

	// Chain is sent along as x5chain, the certificate of Key first, all in DER; see
	// [Vendor.Certify]. With Thumbprint it is also in the protected header, as x5t.
	Chain      [][]byte
	Thumbprint bool
}

// NewPlatform returns a secured platform with an instance-id and a CPAK on P-384
// of its own, and two components.
func NewPlatform() *Platform {
	p := &Platform{
		Implementation: cca.ImplementationID{0: 0x7F, 31: 0x01},
		Lifecycle:      cca.Lifecycle(cca.LifecycleSecured) << 8,
		Config:         "\xcf\xcf\xcf\xcf",
		Hash:           cca.SHA256,
		Components: []cca.Component{
			{Type: "BL", Measurement: digest(0x11), SignerID: digest(0x51), Version: "1.2"},
			{Type: "RMM", Measurement: digest(0x12), SignerID: digest(0x52)},
		},
		VerificationService: "https://verifier.example.com/",
		Key:                 must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
	}
	rand.Read(p.Instance[:]) // never fails
	p.Instance[0] = wire.UEIDTypeRAND
	return p
}

// digest returns 32 bytes b.
func digest(b byte) cca.Octets {
	var d [32]byte
	for i := range d {
		d[i] = b
	}
	return cca.Octets(d[:])
}

// Anchor returns the trust anchor for p.
func (p *Platform) Anchor() cca.Anchor {
	return cca.Anchor{Instance: p.Instance, Implementation: p.Implementation, Key: &p.Key.PublicKey}
}

// Reference returns the reference value that p just matches, with a mask of ones.
func (p *Platform) Reference() cca.Platform {
	mask := make([]byte, len(p.Config))
	for i := range mask {
		mask[i] = 0xFF
	}
	return cca.Platform{
		Implementation: p.Implementation,
		Config:         p.Config, ConfigMask: cca.Octets(mask),
		Components: append([]cca.Component(nil), p.Components...),
	}
}

// must returns v, which can't fail to be made.
func must[T any](v T, err error) T {
	if err != nil {
		panic("ccatest: " + err.Error())
	}
	return v
}
