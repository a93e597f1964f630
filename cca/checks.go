package cca

import "github.com/teebroker/teebroker/evidence"

// Names of checks; see [Checks].
const (
	checkFormat            = "format"
	checkSize              = "size"
	checkCollection        = "collection"
	checkSign1             = "sign1"
	checkHeaders           = "headers"
	checkProfile           = "profile"
	checkClaims            = "claims"
	checkBinding           = evidence.BindingCheck
	checkAnchor            = "anchor"
	checkValidity          = "validity"
	checkRevocation        = "revocation"
	checkAlgorithm         = "algorithm"
	checkPlatformSignature = "platform-signature"
	checkBinder            = "binder"
	checkRAK               = "rak"
	checkRealmSignature    = "realm-signature"
)

// Checks lists what Verify checks, in order. All up to the binding are about
// shape and cost no cryptography.
func Checks() []evidence.Check {
	return []evidence.Check{
		{Name: checkFormat, Doc: "the evidence is a CCA token, rests on no other evidence, and nothing came along"},
		{Name: checkSize, Doc: "the token has at most 65536 bytes"},
		{Name: checkCollection, Doc: "it is a collection under tag 399, or one of CMW records under tag 907, of exactly a platform and a realm token"},
		{Name: checkSign1, Doc: "each token is a COSE_Sign1 under tag 18, in strict CBOR: definite lengths, no other tag, no key twice, nothing after it"},
		{Name: checkHeaders, Doc: "the protected header names a known algorithm, for the realm token ES384, and no header is there that is not understood"},
		{Name: checkProfile, Doc: "the profiles of the two tokens go together and the Config admits them"},
		{Name: checkClaims, Doc: "every claim that the profiles demand is there, of its type and size; a digest is as long as its algorithm's"},
		{Name: checkBinding, Doc: "the challenge of the realm token is the binding"},
		{Name: checkAnchor, Doc: "the instance's CPAK is an anchor for that implementation, or a pinned authority certifies it"},
		{Name: checkValidity, Doc: "the anchor, or the certificate chain, is valid now"},
		{Name: checkRevocation, Doc: "neither the instance nor a key that vouches for it is denied"},
		{Name: checkAlgorithm, Doc: "the platform token's algorithm is that of the CPAK"},
		{Name: checkPlatformSignature, Doc: "the CPAK signed the platform token"},
		{Name: checkBinder, Doc: "the platform token has the digest of the RAK in the realm token"},
		{Name: checkRAK, Doc: "the RAK is a public key on P-384 in the form of its profile, and nothing else"},
		{Name: checkRealmSignature, Doc: "the RAK signed the realm token"},
	}
}

// fail returns the error of a check.
func fail(check string, reason evidence.Reason, field string, cause error) *evidence.Error {
	return &evidence.Error{Format: Format, Reason: reason, Check: check, Field: field, Err: cause}
}
