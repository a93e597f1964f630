package nonce

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/names"
)

// EK is what a guest has the report of its vTPM asked for with, so that an
// attestation key is bound: SHA-512 over a transcript as that of [V1], with the
// label "teebroker/v1/ek" and the fields nonce (tag 1), broker (2), tenant (3),
// instance (4) and AK (8), each with its tag and length. The zero EK binds nothing.
type EK struct {
	Broker   []byte   // broker id, 32 bytes, or empty if the guest pins none
	Tenant   string   // 1 to 64 of [a-z0-9-]
	Instance [16]byte // UUID in network order, not zero
	AK       []byte   // TPM2B_PUBLIC
}

// maxAK bounds an AK, in bytes, whose shape is not looked at.
const maxAK = 2048

// Bind returns the binding for n: 64 bytes, for the nonce that an SVSM is asked with
// or the user data of Azure's paravisor.
func (r EK) Bind(n Nonce) (evidence.Binding, error) {
	switch {
	case len(r.Broker) != 0 && len(r.Broker) != 32:
		return evidence.Binding{}, fmt.Errorf("nonce: broker id of %d bytes", len(r.Broker))
	case !names.Tenant(r.Tenant):
		return evidence.Binding{}, errors.New("nonce: not a tenant")
	case r.Instance == [16]byte{}:
		return evidence.Binding{}, errors.New("nonce: no instance")
	case len(r.AK) == 0 || len(r.AK) > maxAK:
		return evidence.Binding{}, fmt.Errorf("nonce: AK of %d bytes", len(r.AK))
	}
	t := make([]byte, 128, 1024)
	copy(t, "teebroker/v1/ek")
	for _, f := range []struct {
		tag   byte
		value []byte
	}{{1, n[:]}, {2, r.Broker}, {3, []byte(r.Tenant)}, {4, r.Instance[:]}, {8, r.AK}} {
		t = appendLP(append(t, f.tag), f.value)
	}
	sum := sha512.Sum512(t)
	return evidence.NewBinding(sum[:])
}

// QuoteBinding is what a guest has its AK quote when it answers the credential that
// it got under session: SHA-256("teebroker/v1/ek-quote" ‖ LP(session)).
func QuoteBinding(session string) (evidence.Binding, error) {
	sum := sha256.Sum256(appendLP([]byte("teebroker/v1/ek-quote"), []byte(session)))
	return evidence.NewBinding(sum[:])
}
