//go:build cgo

package pkcs11_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/keywrap/pkcs11"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/owner"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
)

var _ store.Cipher = (*pkcs11.Cipher)(nil)

var instance = [16]byte{15: 1}

func now() time.Time { return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) }

// registry is a Directory with one instance that has a blob.
type registry struct {
	*memory.Store
	blob teebroker.Blob
}

func (d *registry) Instance(ctx context.Context, l teebroker.Lookup) (teebroker.Instance, error) {
	i, err := d.Store.Instance(ctx, l)
	i.Blobs = map[string]teebroker.Blob{"disk": d.blob}
	return i, err
}

// newBroker returns a broker whose identity and attestation keys are in token, the
// latter as a key file names them.
func newBroker(s *soft, token *pkcs11.Token) (*teebroker.Broker, *registry) {
	s.Helper()
	id := pkcs11.Object{Label: "identity"}
	s.check(errors.Join(token.Generate(s.Context(), pkcs11.Sign, id), token.Generate(s.Context(), pkcs11.Unwrap, key)))
	f := must(keyfile.New())
	s.check(f.AddToken("acme", "plain", keywrap.P384, "pkcs11:token=test;object=attestation", now()))
	s.check(token.Generate(s.Context(), pkcs11.Unwrap, pkcs11.Object{Label: "hybrid"}))
	s.check(f.AddToken("acme", "hybrid", keywrap.MLKEM1024P384, "pkcs11:token=test;object=hybrid", now()))
	keys, err := f.Keys(func(uri string, mlkem []byte) (keywrap.Opener, error) {
		u, err := pkcs11.ParseURI(uri)
		if err != nil {
			return nil, err
		}
		return token.Opener(s.Context(), u.Key(), mlkem)
	})
	s.check(err)
	d := &registry{Store: memory.New(now)}
	s.check(d.Register(s.Context(), teebroker.Instance{
		Tenant: "acme", ID: instance, AllowSharedLaunchIdentity: true,
		Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.MLKEM768X25519}},
		Policies: []*policy.Policy{{Document: []byte("any"), Require: map[evidence.Format]policy.Rule{
			faketee.Format: policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text("m")},
		}}},
	}))
	b, err := teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{NotAfter: now().AddDate(1, 0, 0)}, Issuer: must(nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Time: now})),
		Nonces: d, Directory: d, Secrets: d, Ledger: d, Time: now,
		Identity: must(token.Signer(s.Context(), id)), Keys: keys,
	})
	s.check(err)
	return b, d
}

// A blob that an owner wrapped is unwrapped in the token and sealed to an attested
// guest; not while the token is away, and to the same guest once it is back.
func TestRelease(t *testing.T) {
	s := newSoft(t)
	b, d := newBroker(s, s.open(nil))
	for _, suite := range keywrap.OwnerSuites() {
		s.check(d.Authorize(t.Context(), teebroker.Authorization{
			Tenant: "acme", Instance: instance, Purposes: []string{"disk"}, NotAfter: now().Add(time.Hour),
		}))
		w, err := owner.Wrap(owner.Blob{
			Keys: must(b.KeysDocument(t.Context(), "acme")), Broker: b.ID(), Time: now(), Suite: suite,
			Tenant: "acme", Instance: instance, Purpose: "disk",
		}, []byte("a disk key"))
		s.check(err)
		blob := must(json.Marshal(w))
		d.blob = teebroker.Blob{Digest: w.Digest()}
		id := b.ID()
		session := must(guest.New(guest.Config{
			Tenant: "acme", Instance: instance, Purpose: "disk", Broker: id[:],
			Key: must(keywrap.Generate(keywrap.MLKEM768X25519)), Wrapped: blob,
		}))
		ask := func() (teebroker.Response, error) {
			c := must(b.Challenge(t.Context(), nonce.ProfileV1))
			binding := must(session.Bind(c.Nonce, faketee.Format))
			return b.Answer(t.Context(), session.Request(c.Nonce, faketee.Guest{Measurement: "m"}.Evidence(binding)))
		}
		back := s.remove()
		r, err := ask()
		if !errors.Is(err, teebroker.Unavailable) || !errors.Is(err, pkcs11.ErrToken) || r.Sealed != nil {
			t.Errorf("%s: the token is away: %v", suite, err)
		}
		back()
		r, err = ask()
		s.check(err)
		if got, err := session.Open(t.Context(), r); err != nil || string(got) != "a disk key" {
			t.Errorf("%s: %q, %v", suite, got, err)
		}
		receipt := must(teebroker.VerifyReceipt(r.Receipt, b.ID()))
		if receipt.Blob != w.Digest() || len(receipt.Weakened) != 1 || receipt.Weakened[0] != teebroker.WeakSharedLaunchIdentity {
			t.Errorf("%s: receipt %+v", suite, receipt)
		}
	}
}
