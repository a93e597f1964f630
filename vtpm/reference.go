package vtpm

import "github.com/teebroker/teebroker/evidence"

// ReferenceValues are the claims a Relying Party accepts: a policy.Rule. The zero
// ReferenceValues accepts nothing; start from [Baseline]. They are not modified
// while in use. The report below is judged by those of its own format.
type ReferenceValues struct {
	// What ties the quote to hardware. LinkCertificate needs AllowNoTEE as well:
	// no TEE has a part in it, and whoever runs the TPM can do with it as he
	// likes. LinkUnlinked is of a check left out, which documents can't allow.
	Links      evidence.Set[Link]
	AllowNoTEE bool

	// Manifests are what the report below may be of; not asked without a report.
	Manifests evidence.Set[Manifest]

	// Keys, by [KeyDigest]. An EK that is not known is in no Set but Anything.
	EKs, AKs evidence.Set[[32]byte]

	// UserData is what the guest had Azure's paravisor put beside its keys: 64
	// bytes, zero if nothing. Not asked of others.
	UserData evidence.Set[[64]byte]

	// PCRs are the PCRs that have to be quoted, and their values. Others are refused
	// unless AllowOtherPCRs: they say something that nobody looks at then.
	PCRs           []PCRRule
	AllowOtherPCRs bool

	// Events are PCRs of which an event log has to come along.
	Events []EventRule

	// IMA says which files may have been measured. If it is not nil, an IMA list has
	// to come along; if it is, PCR 10 says nothing but its value.
	IMA *IMARules

	// RequireProof asks that Claims.Proof is ProofLive: the PCR of the Verifier's
	// Config.ProofPCR shows the live release of a broker, so that this is the last
	// start of its state, and no clone of it. That PCR need not be in PCRs then. A
	// Verifier without Config.Releases says nothing, which is refused.
	RequireProof bool

	// RequireSafeClock refuses quotes of a TPM whose clock may have gone back.
	RequireSafeClock bool
}

// PCRRule is a PCR and the values it may have. A digest of another length than that
// of the bank is never one.
type PCRRule struct {
	PCR
	Values evidence.Set[Octets]
}

// EventRule is a PCR and what it may have been extended with, in any order, as far
// as the event log goes.
type EventRule struct {
	PCR
	Digests evidence.Set[Octets]
}

// IMARules are the files that may have been measured.
type IMARules struct {
	// Files has the digests that files may have, such as "sha256:9f86…", by path.
	// One that ends in a slash stands for everything below it, however deep, unless
	// a longer one does. The first entry of a list, the boot aggregate, is not a
	// file and is not asked.
	Files map[string]evidence.Set[string]

	// AllowViolations accepts entries for files that were written while they were
	// read. What files, and what was in them, is not known.
	AllowViolations bool

	// AllowUncheckedBootAggregate accepts quotes that are not over PCR 0 to 9, so
	// that the list may be of another boot chain than those.
	AllowUncheckedBootAggregate bool
}

// Baseline returns ReferenceValues for quotes over exactly the PCRs of pcrs, with
// values of those, by a TPM that a TEE vouches for, of any manifest, EK, AK and user
// data.
func Baseline(pcrs ...PCRRule) ReferenceValues {
	return ReferenceValues{
		Links:     evidence.OneOf(LinkAK, LinkEK),
		Manifests: evidence.OneOf(manifests()...),
		EKs:       evidence.Anything[[32]byte](),
		AKs:       evidence.Anything[[32]byte](),
		UserData:  evidence.Anything[[64]byte](),
		PCRs:      pcrs,
	}
}

func manifests() []Manifest { return []Manifest{SVSMSingle, SVSMAll, AzureHCL1, AzureHCL2} }
