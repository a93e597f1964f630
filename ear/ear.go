// Package ear writes and reads EARs: signed EAT Attestation Results
// (draft-ietf-rats-ear) that say in the words of AR4SI (draft-ietf-rats-ar4si)
// what a Verifier made of an Attester. An [Issuer] signs one for an Appraisal of
// any format, a [Reader] is the Relying Party's side.
//
// An EAR is a result, never a capability: it says what was found of a guest at one
// time, to one audience. Who holds it has proved nothing, and nothing in this
// module releases anything for one.
//
// A token is a JWT signed with ES256 or ES384, whichever the key is for, with "kid"
// and "typ", and no other header. Raw evidence and claims are not in it: they name
// chips and guests, and are for whoever verified. docs/ear.md has the table by
// which claims become a trustworthiness vector.
package ear

import "time"

// Type is the "typ" of an EAR: its media type application/eat+jwt (RFC 9782).
const Type = "eat+jwt"

// A Profile is an "eat_profile": which names the members of an EAR have. Profiles
// are stable on the wire.
type Profile string

// The Profiles.
const (
	// Draft03 is draft-ietf-rats-ear-03: names with underscores, and a submodule
	// for each Evidence, called by its format.
	Draft03 Profile = "tag:ietf.org,2026:rats/ear#03"

	// KBS is what services and clients of the KBS protocol read: names with dots
	// and hyphens, as drafts before -03 had them, submodules "cpu0", "cpu1", and the
	// attested key as "tee-pubkey" among the runtime data of its submodule.
	KBS Profile = "tag:github.com,2024:confidential-containers/Trustee"
)

// VerifierID says which software appraised.
type VerifierID struct {
	Developer string `json:"developer"` // who makes it, usually a URL
	Build     string `json:"build"`     // its name and version
}

// EAR is what one token says, once a [Reader] verified it.
type EAR struct {
	Profile  Profile
	KeyID    string // RFC 7638 thumbprint of the key that signed, in base64url
	Audience string
	Verifier VerifierID

	// Issued and Expires have whole seconds.
	Issued, Expires time.Time

	// Nonce is what the Relying Party gave to the Verifier, 8 to 64 bytes, or nil.
	Nonce []byte

	// Status is that of the worst submodule.
	Status Tier

	// Submodules are in the order of their labels. There is one at least.
	Submodules []Submodule
}

// Submodule is what became of one Evidence.
type Submodule struct {
	Label  string // names the Evidence; a layer below it has its label and a dot before its own
	Status Tier
	Vector Vector

	// PolicyIDs name the policies applied, the widest first: "sha256:" and the
	// digest of the document, in lower-case hexadecimal.
	PolicyIDs []string

	// Signed is the value that was found in the signed Evidence, where the nonce
	// goes: 64 bytes for the formats that pad it. Whoever challenged the Attester
	// compares it with the Binding of the challenge.
	Signed []byte

	// Key is the public key that the Evidence was bound to, a SubjectPublicKeyInfo in
	// DER, and TEEKey the same as a JWK. They are nil unless the Evidence was accepted;
	// TEEKey is only in the KBS profile.
	Key, TEEKey []byte

	// Reasons say why the Evidence was not accepted: the stable name of each claim
	// that a policy refused, or the evidence.Reason for which it is not authentic.
	Reasons []string
}

// spelling is how a Profile names what is not named alike in both.
type spelling struct {
	status, vector, verifier     string
	policies                     string // of a list, or of one text
	evidence, reasons, key       string // maps
	runtime, teeKey, reasonCodes string // members of these
	listed                       bool   // policies are a list; else they have spaces between them
}

// spelling returns the names of p. This is the only place that has them.
func (p Profile) spelling() (spelling, bool) {
	s := spelling{runtime: "runtime_data_claims", teeKey: "tee-pubkey", reasonCodes: "reasons"}
	switch p {
	case Draft03:
		s.status, s.vector, s.verifier = "ear_status", "ear_trustworthiness_vector", "ear_verifier_id"
		s.policies, s.listed = "ear_appraisal_policy_ids", true
		s.evidence, s.reasons, s.key = "ear_veraison_annotated_evidence", "ear_veraison_policy_claims", "ear_veraison_key_attestation"
	case KBS:
		s.status, s.vector, s.verifier = "ear.status", "ear.trustworthiness-vector", "ear.verifier-id"
		s.policies = "ear.appraisal-policy-id"
		s.evidence, s.reasons, s.key = "ear.veraison.annotated-evidence", "ear.veraison.policy-claims", "ear.veraison.key-attestation"
	default:
		return spelling{}, false
	}
	return s, true
}

// What an EAT nonce may have, in bytes (RFC 9711 section 4.1).
const (
	minNonce = 8
	maxNonce = 64
)
