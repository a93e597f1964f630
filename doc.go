// Package teebroker releases keys to confidential guests that prove what they
// are. It is the protocol without a wire format: an adapter turns requests into
// calls of a [Broker] and errors into answers.
//
//	v1, one request:           Challenge … Answer
//	older clients, two:        Challenge … Attest, Keep … Resume, Fetch
//
// A service that only verifies and releases nothing needs no Broker: it has an
// evidence.Verifier and package policy.
//
// # What a release proves
//
// That hardware which chains to a configured root signed, after a fresh
// challenge, a description of a guest that every policy of the instance
// accepts; that it signed the guest's key, and for v1 also tenant, instance,
// purpose and the broker that the guest pins, so that none of them can be
// exchanged afterwards; that the owner authorized it, and that no other key
// took the same use. The secret is encrypted to the attested key and is
// returned only after the Ledger committed the release and its record.
//
// # What it does not prove
//
// That the guest has no bug, that nobody holds the leaked key of a chip, or
// that the guest goes on to run what was measured. The host can always deny
// service, and sees when and to whom a key is released. Profiles other than v1
// bind less: what they lose is said at [Broker.Fetch] and in
// docs/threat-model.md. The rollback of what a released key opens is
// prevented for purposes with epochs only, see docs/rollback.md.
//
// Everything that is not set is refused: an Instance without a policy or launch
// claim admits nobody, an Authorization without a purpose authorizes nothing.
// Packages here do not log, read the environment or start goroutines; what they
// know they return.
package teebroker
