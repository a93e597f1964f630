// Package keylime answers POST /v2.x/verify/evidence as a Keylime verifier does,
// for callers that know only that, and asks one. What a Handler answers to is the
// API of versions 2.4 to 2.6:
//
//	POST /v2.6/verify/evidence   is this evidence genuine, bound to this key and nonce, and acceptable?
//	GET  /version                which versions there are
//
// Envelope, status codes, names of claims and ids of failures are Keylime's. What
// is judged is more: the whole chain and its revocation, as the Verifier does it,
// and a policy. Evidence of TDX and CCA, lists of evidence (enhancement 123), names
// of policies and EARs are extensions that such a caller does not notice.
// docs/keylime.md has the bodies and all ids.
//
// The nonce is the caller's: only who chose it knows that evidence is fresh.
// Nothing is stored, nothing is released, and no nonce means anything to a broker.
package keylime
