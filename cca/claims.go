package cca

import (
	"iter"
	"slices"

	"github.com/teebroker/teebroker/evidence"
)

// Claims are the claims of a verified token. They own their memory and are
// read-only. docs/claims-cca.md has their names and meanings.
type Claims struct {
	// Of the platform token.
	PlatformProfile     string
	InstanceID          InstanceID       // names the platform and its CPAK
	ImplementationID    ImplementationID // names its class
	Lifecycle           Lifecycle
	Config              Octets // laid out by the vendor; not empty
	PlatformHash        Hash
	VerificationService string   // a hint, never followed; may be empty
	CPAK                [32]byte // SHA-256 of the SubjectPublicKeyInfo of the key that signed

	// Of the realm token. A RealmProfile that is empty is the legacy one, which
	// has no RealmInstanceID (zero) and no MECPolicy, as the one of 2023.
	RealmProfile    string
	RealmInstanceID InstanceID
	Challenge       [64]byte // what the realm asked to be signed
	RPV             [64]byte // personalization value, chosen by the host
	RealmHash       Hash
	RIM             Octets    // initial measurement, as long as RealmHash says
	REM             [4]Octets // extensible measurements, likewise
	RAKHash         Hash      // of the RAK, in the platform token
	MECPolicy       MECPolicy

	components []Component
}

// Components returns the platform's firmware, in the order of the token. There is
// one at least. The caller owns the slice.
func (c *Claims) Components() []Component { return slices.Clone(c.components) }

// ClaimsOf returns the Claims of v, or false if v is not a verified token.
func ClaimsOf(v *evidence.Verified) (*Claims, bool) {
	if v == nil {
		return nil, false
	}
	c, ok := v.Claims.(*Claims)
	return c, ok && c != nil
}

// signedBy returns c with what cpak adds to it.
func (c Claims) signedBy(cpak *endorser) *Claims {
	c.CPAK = cpak.path[0]
	return &c
}

// All implements [evidence.Claims]. Claims that the token does not make are left out.
func (c *Claims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for _, group := range [...]func() []claim{c.platformClaims, c.realmClaims} {
			for _, cl := range group() {
				if !cl.value.IsZero() && !yield(cl.name, cl.value) {
					return
				}
			}
		}
	}
}

// claim is one claim under its stable name. Its Value is zero if it is not made.
type claim struct {
	name  string
	value evidence.Value
}

// platformClaims are about the platform and its firmware.
func (c *Claims) platformClaims() []claim {
	state := c.Lifecycle.State()
	return []claim{
		{"cca.platform_profile", evidence.Text(c.PlatformProfile)},
		{"cca.instance_id", idValue(c.InstanceID)},
		{"cca.implementation_id", implementationValue(c.ImplementationID)},
		{"cca.lifecycle", evidence.Uint(uint64(c.Lifecycle))},
		{"cca.lifecycle_state", evidence.Text(state.String())},
		{"cca.debug", evidence.Bool(state.Debug())},
		{"cca.config", octetsValue(c.Config)},
		{"cca.platform_hash", nameValue(c.PlatformHash)},
		{"cca.components", componentsValue(c.components)},
		{"cca.verification_service", optionalText(c.VerificationService)},
		{"cca.cpak", evidence.Bytes(c.CPAK[:])},
	}
}

// realmClaims are about the realm.
func (c *Claims) realmClaims() []claim {
	return []claim{
		{"cca.realm_profile", optionalText(c.RealmProfile)},
		{"cca.realm_instance_id", optionalID(c.RealmInstanceID)},
		{"cca.challenge", evidence.Bytes(c.Challenge[:])},
		{"cca.rpv", evidence.Bytes(c.RPV[:])},
		{"cca.realm_hash", nameValue(c.RealmHash)},
		{"cca.rim", octetsValue(c.RIM)},
		{"cca.rem0", octetsValue(c.REM[0])},
		{"cca.rem1", octetsValue(c.REM[1])},
		{"cca.rem2", octetsValue(c.REM[2])},
		{"cca.rem3", octetsValue(c.REM[3])},
		{"cca.rak_hash", nameValue(c.RAKHash)},
		{"cca.mec_policy", mecValue(c.MECPolicy)},
	}
}

func octetsValue(o Octets) evidence.Value { return evidence.Bytes([]byte(o)) }

func idValue(id InstanceID) evidence.Value { return evidence.Bytes(id[:]) }

func implementationValue(id ImplementationID) evidence.Value { return evidence.Bytes(id[:]) }

func nameValue(h Hash) evidence.Value { return evidence.Text(h.String()) }

func optionalText(s string) evidence.Value {
	if s == "" {
		return evidence.Value{}
	}
	return evidence.Text(s)
}

func optionalID(id InstanceID) evidence.Value {
	if id == (InstanceID{}) {
		return evidence.Value{}
	}
	return idValue(id)
}

func mecValue(m MECPolicy) evidence.Value {
	if m == 0 {
		return evidence.Value{}
	}
	return evidence.Text(m.String())
}

// componentsValue returns a list of lists: type, measurement, signer-id, version.
func componentsValue(cs []Component) evidence.Value {
	vs := make([]evidence.Value, len(cs))
	for i, c := range cs {
		vs[i] = evidence.List(evidence.Text(c.Type), octetsValue(c.Measurement), octetsValue(c.SignerID), evidence.Text(c.Version))
	}
	return evidence.List(vs...)
}
