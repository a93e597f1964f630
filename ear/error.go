package ear

// A Reason says why a token is not taken. Reasons are constant errors: match them
// with [errors.Is].
type Reason string

// The Reasons.
const (
	Malformed    Reason = "malformed"      // not a JWS of this type, algorithm and form, or not an EAR
	UnknownKey   Reason = "unknown-key"    // names a key that the Reader does not have
	BadSignature Reason = "bad-signature"  // not signed by the key that it names
	OtherProfile Reason = "other-profile"  // of a Profile that the Reader does not take
	OtherAud     Reason = "other-audience" // for somebody else
	OtherNonce   Reason = "other-nonce"    // an answer to something else
	NotYetValid  Reason = "not-yet-valid"  // issued in the future
	Expired      Reason = "expired"
	Inconsistent Reason = "inconsistent" // a status is better than what it rests on
)

// Error implements error.
func (r Reason) Error() string { return string(r) }

// Error is the error of every token that is not taken.
type Error struct {
	Reason Reason
	Member string // the member at fault, as the token spells it, or ""
	Err    error  // cause, or nil
}

// Error implements error. The text has nothing of the token in it but names that a
// Profile has.
func (e *Error) Error() string {
	s := "ear: " + string(e.Reason)
	if e.Member != "" {
		s += ": " + e.Member
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap lets [errors.Is] match the Reason and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}
