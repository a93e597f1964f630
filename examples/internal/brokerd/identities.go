package brokerd

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/keyfile"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/ekca"
)

// identities is what owners are told of the TPMs of their guests.
func (o Options) identities(ids store.Identities, keys *keyfile.File) (*v1.IdentityConfig, error) {
	cfg := &v1.IdentityConfig{Identities: ids, AgentID: vtpm.HashEK}
	if o.EKCertificates == 0 {
		return cfg, nil
	}
	cfg.Certificates = func(_ context.Context, tenant string) (v1.EKIssuer, error) {
		return ekCA(keys.CipherKey(), tenant, o.EKCertificates)
	}
	if _, err := cfg.Certificates(context.Background(), v1.DefaultTenant); err != nil {
		return nil, fmt.Errorf("-ek-certificates: %w", err)
	}
	return cfg, nil
}

// ekCA returns the CA of a tenant. It is made of the key file and the tenant's name, so
// that replicas are one CA and a root stays what it is. Who makes a TPM is not known.
func ekCA(key [32]byte, tenant string, life time.Duration) (*ekca.CA, error) {
	signer, err := ekca.DeriveKey(sha256.Sum256(append([]byte("teebroker/broker/ek ca/v1 "), key[:]...)), tenant)
	if err != nil {
		return nil, err
	}
	const year = 2026
	at := func(years int) time.Time { return time.Date(year+years, 1, 1, 0, 0, 0, 0, time.UTC) }
	sum := sha256.Sum256([]byte(tenant)) // names have 64 characters at most, those of tenants as many
	root, err := ekca.NewRoot(signer, fmt.Sprintf("EKs of %.40s %x", tenant, sum[:4]), at(0), at(20))
	if err != nil {
		return nil, err
	}
	return ekca.New(ekca.Config{
		Signer: signer, Root: root, Life: life,
		Model: ekca.Model{Manufacturer: "id:00000000", Name: "vTPM", Version: "id:00000000"},
	})
}
