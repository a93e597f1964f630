package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
)

// service is a broker over HTTP on this machine, and both who talk to it.
type service struct {
	broker   *teebroker.Broker
	platform platform
	owner    *v1.Client
	guest    *v1.Client
	host     *host // which carries the guest's messages
	secret   []byte
	url      string
}

// platform is a simulated one, and a guest on it that was launched as the owner's
// instance.
type platform struct {
	format   evidence.Format
	verifier evidence.Verifier
	roots    [][32]byte
	decoders policy.Decoders
	policy   *policy.Policy
	quote    func(evidence.Binding) evidence.Evidence
}

// realm is a platform of Arm CCA with the owner's realm.
func realm() (platform, error) {
	p := ccatest.NewPlatform()
	verifier, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{p.Anchor()}})
	if err != nil {
		return platform{}, err
	}
	key, err := x509.MarshalPKIXPublicKey(&p.Key.PublicKey)
	if err != nil {
		return platform{}, err
	}
	document, err := ccaPolicy(p.Reference())
	r := ccatest.Realm{Hash: cca.SHA384, RIM: cca.Octets(image[:])}
	launch := teebroker.LaunchID(tenant, instance)
	copy(r.RPV[:], launch[:])
	return platform{
		cca.Format, verifier,
		[][32]byte{sha256.Sum256(key)},
		policy.Decoders{cca.Format: policy.Decoder(cca.DecodeReferenceValues)},
		document,
		func(want evidence.Binding) evidence.Evidence { return p.Token(r, want) },
	}, err
}

// overHTTP does in short what examples/broker, owner and attester do: the owner
// provisions and authorizes, and one guest gets the secret, over HTTP.
func overHTTP(ctx context.Context, t *transcript) error {
	t.title("8. The same as a service: owner and guest over HTTP")
	p, err := realm()
	if err != nil {
		return err
	}
	s, stop, err := newService(ctx, p)
	if err != nil {
		return err
	}
	defer stop()
	if !t.try("the owner stores a policy, registers the realm and its secret, and authorizes one boot", accepted, func() error { return s.provision(ctx) }) {
		return errors.New("nothing is registered")
	}
	g, err := s.session()
	if err != nil {
		return err
	}
	body, err := s.request(ctx, g)
	if err != nil {
		return err
	}
	var first teebroker.Response
	t.try("the realm opens the owner's secret", accepted, func() error {
		if first, err = s.guest.Release(ctx, body); err != nil {
			return err
		}
		return opens(ctx, g, first, s.secret)
	})
	t.try("the identical request again, its answer being lost: the stored answer", accepted, func() error {
		again, err := s.guest.Release(ctx, body)
		if err == nil && !bytes.Equal(again.Receipt, first.Receipt) {
			err = errors.New("another answer")
		}
		return err
	})
	t.try("a second realm of this instance, after the use is taken", "denied", func() error {
		other, err := s.session()
		if err != nil {
			return err
		}
		body, err := s.request(ctx, other)
		if err != nil {
			return err
		}
		_, err = s.guest.Release(ctx, body)
		return err
	})
	t.try("the owner's side, without the owner's token", string(teebroker.Unauthenticated), func() error {
		nobody, err := v1.NewClient(v1.ClientConfig{URL: s.url})
		if err != nil {
			return err
		}
		_, err = nobody.Instance(ctx, instance)
		return err
	})
	t.try("the audit: every entry follows the one before, and one of them is the release", accepted, func() error { return s.audit(ctx) })
	return nil
}

// newService serves, and returns what stops it.
func newService(ctx context.Context, p platform) (*service, func(), error) {
	s := &service{platform: p, secret: make([]byte, 32), host: &host{}}
	rand.Read(s.secret)
	stop, err := s.start(ctx)
	return s, stop, err
}

// start serves, and returns what stops it.
func (s *service) start(ctx context.Context) (stop func(), err error) {
	memory := memory.New(nil)
	state := memory.Owner(s.platform.decoders)
	if s.broker, err = newBroker(memory, evidence.Verifiers{s.platform.format: s.platform.verifier}, s.platform.roots); err != nil {
		return nil, err
	}
	const token = "the-owners-token"
	if err := state.AddTenant(ctx, tenant, v1.TokenDigest(token)); err != nil {
		return nil, err
	}
	server, err := v1.New(v1.Config{Broker: s.broker, Allow: v1.Suites(), Keys: s.broker.KeysDocument, Owner: state, Tenants: state})
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &http.Server{Handler: server, ReadHeaderTimeout: time.Second}
	go func() { _ = h.Serve(l) }() // until it is closed
	s.url = "http://" + l.Addr().String()
	s.owner, err = v1.NewClient(v1.ClientConfig{URL: s.url, Token: token, Tenant: tenant})
	if err == nil {
		s.guest, err = v1.NewClient(v1.ClientConfig{URL: s.url, SealTo: s.broker.ID(), HTTP: &http.Client{Transport: s.host}})
	}
	return func() { _ = h.Close() }, err
}

// provision is the owner's part.
func (s *service) provision(ctx context.Context) error {
	if err := s.owner.PutPolicy(ctx, "production", s.platform.policy.Document); err != nil {
		return err
	}
	if _, err := s.owner.Register(ctx, instance, store.Registration{
		Policies: []string{"production"}, Launch: store.Launch{Own: true}, Suites: []keywrap.Suite{keywrap.MLKEM768X25519},
	}); err != nil {
		return err
	}
	if err := s.owner.PutSecret(ctx, instance, purpose, s.secret); err != nil {
		return err
	}
	_, err := s.owner.Authorize(ctx, instance, v1.Authorization{Purposes: []string{purpose}, NotAfter: time.Now().Add(time.Hour)})
	return err
}

// session is a guest with a key of its own.
func (s *service) session() (*guest.Session, error) {
	key, err := keywrap.Generate(keywrap.MLKEM768X25519)
	if err != nil {
		return nil, err
	}
	id := s.broker.ID()
	return guest.New(guest.Config{Tenant: tenant, Instance: instance, Purpose: purpose, Broker: id[:], Key: key})
}

// request is what a guest sends that was launched as the owner's instance.
func (s *service) request(ctx context.Context, g *guest.Session) ([]byte, error) {
	c, err := s.guest.Challenge(ctx, nonce.ProfileV1)
	if err != nil {
		return nil, err
	}
	want, err := g.Bind(c.Nonce, s.platform.format)
	if err != nil {
		return nil, err
	}
	return v1.MarshalRequest(g.Request(c.Nonce, s.platform.quote(want)))
}

// audit follows the record as the owner gets it.
func (s *service) audit(ctx context.Context) error {
	r, err := s.owner.Record(ctx, teebroker.Decisions, 0)
	if err != nil {
		return err
	}
	releases, last := 0, [32]byte{}
	for i, e := range r.Entries {
		full := store.RecordEntry{
			Entry:      teebroker.Entry{Chain: e.Chain, Tenant: tenant, Kind: e.Kind, Body: e.Body},
			Generation: e.Generation, Seq: e.Seq, Time: time.UnixMilli(e.Time), Previous: e.Previous,
		}
		if e.Seq != uint64(i)+1 || e.Previous != last || store.EntryHash(full) != e.Hash {
			return errors.New("an entry is missing or was changed")
		}
		if last = e.Hash; e.Kind == teebroker.KindRelease {
			releases++
		}
	}
	if releases != 1 {
		return errors.New("not one release")
	}
	return nil
}

// host carries messages to the broker, and keeps what it sees of them.
type host struct{ sent [][]byte }

// RoundTrip implements [http.RoundTripper].
func (h *host) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.URL.Path != v1.PathKeys {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		h.sent = append(h.sent, b)
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(b))
	}
	return http.DefaultTransport.RoundTrip(r)
}

// learned returns an error if messages differ in size or have a word of who asks
// for what.
func (h *host) learned() error {
	for _, b := range h.sent {
		if len(b) != len(h.sent[0]) || bytes.Contains(b, []byte(tenant)) || bytes.Contains(b, []byte("snp-report")) || bytes.Contains(b, []byte("confirm")) {
			return fmt.Errorf("a message of %d bytes, the first of %d", len(b), len(h.sent[0]))
		}
	}
	if len(h.sent) == 0 {
		return errors.New("nothing was sent")
	}
	return nil
}
