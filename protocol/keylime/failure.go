package keylime

import (
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// The ids of failures, below "tee_attestation.". The first seven are Keylime's.
const (
	missingParam     = "missing_param"
	invalidTEE       = "invalid.tee"
	invalidInput     = "invalid_input"
	vcekFetch        = "vcek_fetch"
	invalidSignature = "invalid_signature"
	freshness        = "freshness_hash_failed"
	invalidPublicKey = "invalid_public_key" // of whoever signed the evidence

	invalidNonce    = "invalid_nonce"
	invalidKey      = "invalid_tee_pubkey"
	unsupported     = "unsupported"
	unsupportedType = "unsupported_type"
	revoked         = "revoked"
	stale           = "stale"
	unavailable     = "collateral_unavailable"
	unknownPolicy   = "policy.unknown"
	noPolicy        = "policy.none"
	policyMismatch  = "policy.mismatch"
	listMismatch    = "list_mismatch"
)

// The ids of failures of evidence of type "tpm", below one of its components. Those
// with a number and those that have one use only are written where they are used.
const (
	missingPolicy = "missing_policy"
	invalidPolicy = "invalid_policy" // ours
	missingPCRs   = "missing_pcrs"
	runtimeHash   = "validation.ima-ng.runtime_policy_hash"
)

// maxFailures is how many failures an answer has: one says that evidence is not
// acceptable, a few say why.
const maxFailures = 16

// Keylime's names for what failed.
const (
	teeComponent     = "tee_attestation." // where a failure names none
	defaultComponent = "default."
	quoteComponent   = "qoute_validation." // as it is spelled there
	pcrComponent     = "pcr_validation."
	bootComponent    = "measured_boot."
	imaComponent     = "ima."
	tpmComponent     = "tpm_identity." // ours
)

// failure is why evidence is not accepted. Messages quote no evidence.
type failure struct {
	component string // if empty, teeComponent
	id        string
	message   string
	claim     string          // of a policyMismatch
	policy    string          // of a policyMismatch
	cause     *evidence.Error // if evidence is not authentic
}

// name returns the id with its component.
func (f *failure) name() string { return or(f.component, teeComponent) + f.id }

// MarshalJSON implements [json.Marshaler]; see its use in [result].
func (f *failure) context() map[string]string {
	c := map[string]string{"message": f.message}
	for name, value := range map[string]string{"claim": f.claim, "policy": f.policy} {
		if value != "" {
			c[name] = value
		}
	}
	if f.cause != nil {
		c["reason"], c["field"] = string(f.cause.Reason), f.cause.Field
	}
	return c
}

func missing(name string) *failure {
	return &failure{id: missingParam, message: fmt.Sprintf("missing parameter %q", name)}
}

// invalid is a member that can't be decoded. Decoders quote at most names.
func invalid(name string, err error) *failure {
	return &failure{id: invalidInput, message: fmt.Sprintf("%s: %v", name, err)}
}

// unauthentic returns the failure for what a Verifier returned. Its text may name
// chips and addresses, so that callers get the reason and the field only.
func unauthentic(format evidence.Format, err error) *failure {
	var e *evidence.Error
	if !errors.As(err, &e) {
		e = &evidence.Error{Format: format, Reason: evidence.Unavailable}
	}
	f := &failure{cause: e}
	switch e.Reason {
	case evidence.Malformed:
		f.id, f.message = invalidInput, "the evidence is malformed"
	case evidence.Unsupported:
		f.id, f.message = unsupported, "the evidence is of a format, version or algorithm that is not verified here"
	case evidence.Untrusted:
		f.id, f.message = invalidPublicKey, "who signed the evidence does not chain to a root"
	case evidence.Revoked:
		f.id, f.message = revoked, "who signed the evidence is revoked"
	case evidence.Stale:
		f.id, f.message = stale, "a certificate or collateral is outside of its validity"
	case evidence.BadSignature:
		f.id, f.message = invalidSignature, "the signature does not verify"
	case evidence.NotBound:
		f.id, f.message = freshness, "the evidence is not over this key and nonce"
	default:
		f.id, f.message = unavailable, "what the evidence has to be verified with could not be obtained"
		if format == snp.Format {
			f.id = vcekFetch
		}
	}
	return f
}
