// Package v1 is the HTTP of the release protocol: [Server] puts it in front of a
// teebroker.Broker, an owner's store and a verifier, [Client] speaks it, and
// [Remote] is an evidence.Verifier that asks another service.
//
// A Server translates: it reads strict JSON, calls the engine or the store, and
// writes what they answer. It decides about nothing but who an owner is, how
// much is read, and how often somebody may ask. Guests have no credentials, and
// what they may be told is teebroker.Code; owners show a bearer token or a client
// certificate, and reach their own tenant only.
//
// Errors are application/problem+json (RFC 9457) with the members type, title,
// status, code and request. The code is a word of section 12 of the protocol, the
// request is in the header Request-Id of every answer as well.
//
// Nothing here logs: Config.Observe is told of every request.
package v1

// The paths. Those below Instances and Policies are of owners.
const (
	PathKeys        = "/broker/v1/tee-attestation-key"
	PathNonce       = "/broker/v1/nonce"
	PathRelease     = "/broker/v1/release"
	PathConfirm     = "/broker/v1/confirm"
	PathSealed      = "/broker/v1/sealed"
	PathVerify      = "/broker/v1/verify"
	PathInstances   = "/broker/v1/instances"
	PathPolicies    = "/broker/v1/policies"
	PathRecord      = "/broker/v1/record"
	PathEK          = "/broker/v1/ek"
	PathEKRoot      = "/broker/v1/ek-ca"
	PathAgents      = "/broker/v1/agents"
	PathTPMNonce    = "/broker/v1/vtpm/nonce"
	PathTPMBind     = "/broker/v1/vtpm/bind"
	PathTPMActivate = "/broker/v1/vtpm/activate"
	PathHealth      = "/healthz"
	PathReady       = "/readyz"
	PathMetrics     = "/metrics"
)

// DefaultTenant is the tenant where none is named.
const DefaultTenant = "default"

// What is read of a body, in bytes; more is too-large.
const (
	MaxRelease  = 2 << 20 // evidence with an event log, certificates and a wrapped blob, in base64url
	MaxEvidence = 4 << 20 // of a request to verify
	maxDocument = 1 << 20 // a policy document
	maxSmall    = 64 << 10
)
