package spiffe_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/protocol/spiffe"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A broker has an Authority as its Credentials; a guest presents its key, and opens what
// the broker sealed to it. What is between them is as of any other secret.
func Example() {
	signer := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	now := time.Now()
	authority, err := spiffe.New(spiffe.Config{TrustDomain: "example.org", Keys: []spiffe.Keys{{
		X509: signer, Certificate: must(spiffe.NewCertificate("example.org", signer, now, now.AddDate(1, 0, 0))),
		JWT: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
	}}})
	if err != nil {
		panic(err)
	}

	// The guest: presented is for guest.Config.Wrapped.
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	me := spiffe.Request{Tenant: "acme", Instance: [16]byte{15: 1}, Purpose: spiffe.PurposeX509}
	presented := must(spiffe.NewRequest(key, me))

	// The broker, for an accepted guest.
	secret, err := authority.Credential(context.Background(), teebroker.CredentialRequest{
		Tenant: me.Tenant, Instance: me.Instance, Purpose: me.Purpose, Presented: must(keywrap.ParseWrapped(presented)), NotAfter: now.Add(time.Hour),
	})
	if err != nil {
		panic(err)
	}

	// The guest again, and whoever has the bundle.
	bundle := must(spiffebundle.Parse(spiffeid.RequireTrustDomainFromString("example.org"), must(authority.Bundle())))
	svid, err := spiffe.ParseX509(secret, key, me, bundle)
	if err != nil {
		panic(err)
	}
	fmt.Println(svid.ID)
	// Output: spiffe://example.org/acme/00000000-0000-0000-0000-000000000001
}
