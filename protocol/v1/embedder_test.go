package v1_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store/memory"
)

// fleet is where this embedder knows its guests from: an inventory that it has
// anyway, and a vault.
type fleet struct {
	images map[[16]byte]string // measurement by machine
	vault  map[string]string
}

// Instance implements [teebroker.Directory].
func (f fleet) Instance(_ context.Context, l teebroker.Lookup) (teebroker.Instance, error) {
	image, ok := f.images[l.Claimed]
	if !ok || l.Tenant != "fleet" {
		return teebroker.Instance{}, teebroker.NoInstance
	}
	launch := teebroker.LaunchID(l.Tenant, l.Claimed)
	return teebroker.Instance{
		Tenant: l.Tenant, ID: l.Claimed, Generation: 1,
		Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.X25519}},
		Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: launch[:]},
		Policies: []*policy.Policy{{Name: "fleet", Version: "1", Document: []byte(image), Require: map[evidence.Format]policy.Rule{
			faketee.Format: policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text(image)},
		}}},
	}, nil
}

// Secret implements [teebroker.Secrets].
func (f fleet) Secret(_ context.Context, inst teebroker.Instance, purpose string) ([]byte, error) {
	if s, ok := f.vault[purpose]; ok {
		return []byte(s), nil
	}
	return nil, teebroker.NotAuthorized
}

// A function of a serverless framework: an event in, a status and a body out.
type function func(ctx context.Context, path string, body []byte) (status int, answer []byte)

// handler serves guests with the engine. All that a framework has to bring is bytes
// and a status: there is no net/http in it.
func handler(b *teebroker.Broker) function {
	return func(ctx context.Context, path string, body []byte) (int, []byte) {
		fail := func(err error) (int, []byte) { return teebroker.Status(err), []byte(teebroker.Code(err)) }
		switch path {
		case "nonce":
			c, err := b.Challenge(ctx, nonce.ProfileV1)
			if err != nil {
				return fail(err)
			}
			return 200, c.Nonce[:]
		case "release":
			req, err := v1.ParseRequest(body, v1.Suites())
			if err != nil {
				return fail(err)
			}
			r, err := b.Answer(ctx, req)
			if err != nil {
				return fail(err)
			}
			return 200, v1.MarshalResponse(r)
		}
		return 404, nil
	}
}

// A second embedder: another framework, its own Directory and Secrets, and the same
// engine. The guest can't tell the difference.
func Example_embedder() {
	ctx, machine := context.Background(), [16]byte{15: 7}
	own := fleet{images: map[[16]byte]string{machine: "image 7"}, vault: map[string]string{"disk": "from the vault"}}
	ledger := memory.New(start) // of another company's database, in earnest
	b, err := newEmbedded(own, ledger)
	if err != nil {
		log.Fatal(err)
	}
	inst, err := own.Instance(ctx, teebroker.Lookup{Tenant: "fleet", Claimed: machine})
	if err == nil {
		err = ledger.Register(ctx, inst) // so that it knows what it authorizes
	}
	if err == nil {
		err = ledger.Authorize(ctx, teebroker.Authorization{
			Tenant: "fleet", Instance: machine, Purposes: []string{"disk"}, NotAfter: start().Add(time.Hour),
		})
	}
	if err != nil {
		log.Fatal(err)
	}
	invoke := handler(b)
	for range 2 {
		fmt.Println(boot(ctx, invoke, b.ID(), machine))
	}
	// Output:
	// from the vault
	// 403 denied
}

func newEmbedded(own fleet, ledger *memory.Store) (*teebroker.Broker, error) {
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Time: start})
	if err != nil {
		return nil, err
	}
	return teebroker.New(teebroker.Config{
		Verifier: verifier(), Issuer: issuer, Identity: identity, Time: start,
		Directory: own, Secrets: own, Nonces: ledger, Ledger: ledger,
	})
}

// boot is a guest with a key of its own.
func boot(ctx context.Context, invoke function, broker [32]byte, machine [16]byte) string {
	key, err := keywrap.Generate(keywrap.X25519)
	if err != nil {
		log.Fatal(err)
	}
	s, err := guest.New(guest.Config{Tenant: "fleet", Instance: machine, Purpose: "disk", Broker: broker[:], Key: key})
	if err != nil {
		log.Fatal(err)
	}
	_, n := invoke(ctx, "nonce", nil)
	binding, err := s.Bind(nonce.Nonce(n), faketee.Format)
	if err != nil {
		log.Fatal(err)
	}
	launch := teebroker.LaunchID("fleet", machine)
	body, err := v1.MarshalRequest(s.Request(nonce.Nonce(n), faketee.Guest{Measurement: "image 7", HostData: launch[:]}.Evidence(binding)))
	if err != nil {
		log.Fatal(err)
	}
	status, answer := invoke(ctx, "release", body)
	if status != 200 {
		return fmt.Sprint(status, " ", string(answer))
	}
	r, err := v1.ParseResponse(answer)
	if err != nil {
		log.Fatal(err)
	}
	secret, err := s.Open(ctx, r)
	if err != nil {
		log.Fatal(err)
	}
	return string(secret)
}
