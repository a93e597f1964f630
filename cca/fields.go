package cca

import (
	"crypto"
	_ "crypto/sha256" // for Hash.sum
	_ "crypto/sha512"
	"encoding/hex"
)

// InstanceID names one platform, and with it the CPAK: a UEID of type RAND, 33
// bytes of which the first is 1. Also the realm-instance-id of profile 2.0.0.
type InstanceID [33]byte

// String returns i in hexadecimal.
func (i InstanceID) String() string { return hex.EncodeToString(i[:]) }

// ImplementationID names a class of platforms, for which one vendor publishes
// reference values. All zero is an id like others.
type ImplementationID [32]byte

// String returns i in hexadecimal.
func (i ImplementationID) String() string { return hex.EncodeToString(i[:]) }

// Octets are bytes that can be compared and can't be changed: a digest of 32, 48
// or 64 bytes, or platform configuration of any length.
type Octets string

// String returns o in hexadecimal.
func (o Octets) String() string { return hex.EncodeToString([]byte(o)) }

// Hash is an algorithm that a token names for its digests. The zero Hash is none.
type Hash uint8

// The Hashes, by their names in the IANA Named Information registry.
const (
	SHA256 Hash = iota + 1 // sha-256
	SHA384                 // sha-384
	SHA512                 // sha-512
)

// hash returns the algorithm that h is.
func (h Hash) hash() crypto.Hash {
	switch h {
	case SHA256:
		return crypto.SHA256
	case SHA384:
		return crypto.SHA384
	case SHA512:
		return crypto.SHA512
	}
	return 0
}

// Size returns the length of a digest in bytes: 32, 48 or 64, or 0 for no Hash.
func (h Hash) Size() int {
	if h.hash() == 0 {
		return 0
	}
	return h.hash().Size()
}

// String returns the name of h.
func (h Hash) String() string {
	switch h {
	case SHA256:
		return "sha-256"
	case SHA384:
		return "sha-384"
	case SHA512:
		return "sha-512"
	}
	return "none"
}

// sum returns the digest of s. It is for the three Hashes only.
func (h Hash) sum(s string) []byte {
	w := h.hash().New()
	w.Write([]byte(s))
	return w.Sum(nil)
}

// hashNamed returns the Hash called name, or zero.
func hashNamed(name string) Hash {
	for _, h := range [...]Hash{SHA256, SHA384, SHA512} {
		if h.String() == name {
			return h
		}
	}
	return 0
}

// Lifecycle is the cca-platform-lifecycle claim: 16 bits, of which the upper
// eight are the state.
type Lifecycle uint16

// LifecycleState is the upper half of a [Lifecycle].
type LifecycleState uint8

// The states. In the two debug states somebody outside may read what realms
// have in memory or change the firmware below them.
const (
	LifecycleUnknown          LifecycleState = 0x00
	LifecycleAssembly         LifecycleState = 0x10 // assembly and test
	LifecycleProvisioning     LifecycleState = 0x20 // of the platform's root of trust
	LifecycleSecured          LifecycleState = 0x30
	LifecycleNonRoTDebug      LifecycleState = 0x40 // non-CCA-platform-RoT debug: RMM and realms
	LifecycleRecoverableDebug LifecycleState = 0x50 // recoverable CCA platform RoT debug
	LifecycleDecommissioned   LifecycleState = 0x60
)

// State returns the state.
func (l Lifecycle) State() LifecycleState { return LifecycleState(l >> 8) }

// Debug reports whether s is a debug state.
func (s LifecycleState) Debug() bool {
	return s == LifecycleNonRoTDebug || s == LifecycleRecoverableDebug
}

// String returns the name of s, which is "undefined" for values without a state.
func (s LifecycleState) String() string {
	switch s {
	case LifecycleUnknown:
		return "unknown"
	case LifecycleAssembly:
		return "assembly-and-test"
	case LifecycleProvisioning:
		return "rot-provisioning"
	case LifecycleSecured:
		return "secured"
	case LifecycleNonRoTDebug:
		return "non-rot-debug"
	case LifecycleRecoverableDebug:
		return "recoverable-rot-debug"
	case LifecycleDecommissioned:
		return "decommissioned"
	}
	return "undefined"
}

// MECPolicy says with whom a realm shares its memory encryption context. The
// zero MECPolicy is that of tokens that do not say: those before realm profile
// 2.0.0, and some of it.
type MECPolicy uint8

// The MECPolicies.
const (
	MECShared  MECPolicy = iota + 1 // with other realms
	MECPrivate                      // with none
)

// String returns "shared", "private" or, for zero, "none".
func (m MECPolicy) String() string {
	switch m {
	case MECShared:
		return "shared"
	case MECPrivate:
		return "private"
	}
	return "none"
}

// Component is one piece of the platform's firmware, as a token says it was
// measured and a vendor says it should be. Two are the same if all of it is.
type Component struct {
	Type        string // such as "RMM"; may be empty
	Measurement Octets // digest of the component
	SignerID    Octets // digest of the key that signed it
	Version     string // may be empty
}
