package v1_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

// issuer says for which tenant and public area it was asked to issue.
type issuer struct {
	tenant string
	err    error
}

func (i issuer) Issue(public []byte) ([]byte, error) {
	return append([]byte(i.tenant+" "), public...), i.err
}
func (i issuer) Root() []byte { return []byte("root of " + i.tenant) }

func issuers(_ context.Context, tenant string) (v1.EKIssuer, error) {
	return issuer{tenant: tenant}, nil
}

// A certificate is issued for an EK of the tenant while it is live, by the tenant's CA.
func TestCertificates(t *testing.T) {
	o := newOwned(t, nil)
	o.provision()
	ek := o.bound().EK
	if der, err := o.acme.CertifyEK(t.Context(), ek); err != nil || !bytes.Equal(der, append([]byte("acme "), public1...)) {
		t.Errorf("%q, %v", der, err)
	}
	for token, want := range map[string]string{acmeToken: "root of acme", otherToken: "root of other"} {
		if root, err := o.owner(token).EKRoot(t.Context()); err != nil || string(root) != want {
			t.Errorf("%q, %v", root, err)
		}
	}
	if der, err := o.owner(otherToken).CertifyEK(t.Context(), ek); code(err) != "no-instance" {
		t.Errorf("by another tenant: %q, %v", der, err)
	}
	if _, err := o.sql.See(t.Context(), "acme", ek, store.Sighting{Chip: []byte{2}, ResetCount: 1}); err == nil {
		t.Fatal("one EK in two places is fine")
	}
	if der, err := o.acme.CertifyEK(t.Context(), ek); code(err) != "held" {
		t.Errorf("held: %q, %v", der, err)
	}
}

// Who can't issue says so, and what is not live has no certificate.
func TestNoCertificates(t *testing.T) {
	id := store.Identity{State: store.IdentityLive, Public: public1}
	superseded, unknown := id, id
	superseded.State, unknown.Public = store.IdentitySuperseded, nil
	broken := errors.New("token")
	for name, tt := range map[string]struct {
		id     store.Identity
		issue  error // of Issue
		of     error // of Certificates
		code   string
		status int
	}{
		"superseded":        {superseded, nil, nil, "superseded", 0},
		"known by a digest": {unknown, nil, nil, "malformed-request", 409},
		"a broken CA":       {id, broken, nil, "unavailable", 503},
		"no CA":             {id, nil, broken, "unavailable", 503},
	} {
		o := newOwned(t, func(c *v1.Config) {
			c.Identities.Identities = one{c.Identities.Identities, tt.id}
			c.Identities.Certificates = func(context.Context, string) (v1.EKIssuer, error) { return issuer{"acme", tt.issue}, tt.of }
		})
		der, err := o.acme.CertifyEK(t.Context(), [32]byte{1})
		var p *v1.Problem
		if !errors.As(err, &p) || p.Code != tt.code || tt.status != 0 && p.Status != tt.status || der != nil {
			t.Errorf("%s: %q, %v", name, der, err)
		}
	}
}

// one is Identities in which every EK is that of id.
type one struct {
	store.Identities
	id store.Identity
}

func (o one) ByEK(context.Context, string, [32]byte) (store.Identity, error) { return o.id, nil }
