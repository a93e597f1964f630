// Package spiffe makes the identities of SPIFFE for attested guests: X.509-SVIDs and
// JWT-SVIDs, named spiffe://TRUST-DOMAIN/TENANT/INSTANCE.
//
// An [Authority] is the [teebroker.Credentials] of a broker, so that an identity is released
// as a secret is: to a guest whose evidence its policies accept, once for each use of
// an authorization that names [PurposeX509] or [PurposeJWT], sealed to the key that
// the hardware signed for, with a receipt and an entry of the record. The private key of the
// identity is the guest's own, and leaves it never: the guest presents the public key with
// [NewRequest] where a wrapped blob would be, which puts its digest under the hardware's signature.
//
// Who verifies identities needs the bundle of the trust domain, which [Authority.Bundle]
// returns and [Authority.ServeHTTP] serves. docs/spiffe.md has the flow and its limits.
package spiffe

// The purposes of an Authority.
const (
	PurposeX509 = "spiffe/x509" // the secret is a chain of certificates, DER one after the other, the guest's first
	PurposeJWT  = "spiffe/jwt"  // the secret is a token in compact form
)

// Error is a constant error of this package.
type Error string

// The Errors.
const (
	// ErrConfig: what was configured can't be meant.
	ErrConfig Error = "spiffe: not a configuration"

	// ErrRequest: not the public key of a guest with a proof that it has the private one.
	ErrRequest Error = "spiffe: not a request for an identity"

	// ErrSVID: not an identity for this key, or not one that the bundle vouches for.
	ErrSVID Error = "spiffe: not the identity that was asked for"
)

// Error implements error.
func (e Error) Error() string { return string(e) }
