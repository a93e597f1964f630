// Package guest is the guest's side of the v1 release protocol: what has to be
// signed by the hardware, and what has to be compared before a key is used.
//
// Getting the evidence and carrying the messages is the caller's: the host may
// do either, since all that it could change is compared here. A guest must come
// by what is in its [Config] in a way that the host can't change, usually by its
// measured image or verified launch data. The example of package teebroker runs
// the whole protocol. What the host shall not read on the way, protocol/v1.Sealer
// seals.
package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/sealed"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// An Error is a constant error of this package. All of them mean: don't use the
// key that was offered.
type Error string

// The Errors.
const (
	// NotOpened: nothing that was sealed to this key for a binding it made. So
	// is what the host broke on the way; asking again may help.
	NotOpened Error = "guest: not sealed to this key for a request of this session"

	// NotAsked: it opened, and names another tenant, instance, purpose or
	// request than the one that was made.
	NotAsked Error = "guest: not what was asked for"

	// NoReceipt: no receipt of the pinned broker for this answer. Only the host
	// or a stranger can have sealed it.
	NoReceipt Error = "guest: no receipt of the pinned broker for this answer"

	// Attack: a second receipt for a request, with other content.
	Attack Error = "guest: two receipts for one request"

	// HasEpochs: the purpose has epochs, and was opened as one that has none; or
	// NoEpochs, the other way round.
	HasEpochs Error = "guest: the purpose has epochs, and its key opens nothing before a confirm"
	NoEpochs  Error = "guest: the purpose has no epochs"
)

// Error implements error.
func (e Error) Error() string { return string(e) }

// Config says who the guest is and what it wants.
type Config struct {
	Tenant   string
	Instance [16]byte
	Purpose  string

	// Broker is the id of the broker that the guest trusts, 32 bytes. If empty,
	// the guest can't tell who sent it a key and must treat it as unproven, and
	// the instance must have AllowUnpinnedBroker.
	Broker []byte

	// Key is made for this boot (keywrap.Generate), kept until the secret works,
	// and then erased. The same key is used for every retry.
	Key keywrap.Opener

	Wrapped []byte // wrapped blob to present, or nil
}

// maxBindings bounds the requests of a Session, each of which is tried to open
// an answer.
const maxBindings = 64

// Session asks for one secret with one key, as often as it takes. It remembers
// every binding made with the key, because an answer may be sealed for an
// earlier request than the one it answers. It is not safe for concurrent use.
type Session struct {
	cfg      Config
	blob     []byte // digest of Wrapped, or empty
	bindings []evidence.Binding
	receipts map[string][32]byte // digest of the content, by binding
}

// New returns a Session, or an error if cfg can make no request.
func New(cfg Config) (*Session, error) {
	if cfg.Key == nil {
		return nil, errors.New("guest: Config.Key is required")
	}
	cfg.Broker, cfg.Wrapped = bytes.Clone(cfg.Broker), bytes.Clone(cfg.Wrapped)
	s := &Session{cfg: cfg, receipts: map[string][32]byte{}}
	if cfg.Wrapped != nil {
		w, err := keywrap.ParseWrapped(cfg.Wrapped)
		if err != nil {
			return nil, fmt.Errorf("guest: Config.Wrapped: %w", err)
		}
		d := w.Digest()
		s.blob = d[:]
	}
	// Any nonce and format show whether the names can be bound.
	if _, err := s.recipe("snp-report").Bind(nonce.Nonce{}, cfg.Key.Recipient()); err != nil {
		return nil, fmt.Errorf("guest: Config: %w", err)
	}
	return s, nil
}

func (s *Session) recipe(f evidence.Format) nonce.V1 {
	return nonce.V1{
		Broker: s.cfg.Broker, Tenant: s.cfg.Tenant, Instance: s.cfg.Instance, Purpose: s.cfg.Purpose,
		Format: f, Blob: s.blob,
	}
}

// Bind returns what evidence of format f has to have signed for n.
func (s *Session) Bind(n nonce.Nonce, f evidence.Format) (evidence.Binding, error) {
	b, err := s.recipe(f).Bind(n, s.cfg.Key.Recipient())
	if err != nil {
		return evidence.Binding{}, fmt.Errorf("guest: %w", err)
	}
	if s.made(b.Bytes()) {
		return b, nil
	}
	if len(s.bindings) == maxBindings {
		return evidence.Binding{}, errors.New("guest: too many requests with one key")
	}
	s.bindings = append(s.bindings, b)
	return b, nil
}

// Request returns what to send with evs, each of which has signed what Bind
// returned for n and its format. It shares memory with evs.
func (s *Session) Request(n nonce.Nonce, evs ...evidence.Evidence) teebroker.Request {
	return teebroker.Request{
		Profile: nonce.ProfileV1, Nonce: n, Tenant: s.cfg.Tenant, Broker: bytes.Clone(s.cfg.Broker),
		Instance: s.cfg.Instance, Purpose: s.cfg.Purpose, Recipient: s.cfg.Key.Recipient(),
		Evidence: evs, Wrapped: bytes.Clone(s.cfg.Wrapped),
	}
}

// Open returns the secret in r, the caller's to clear, or an [Error]; or what the
// token failed with that holds the key. Only Sealed and Receipt of r are looked
// at; the rest is a hint that the host may change. A purpose with epochs is
// HasEpochs: its key is not to be used before a confirm, see [Session.OpenEpoch].
//
// The secret is returned if it was sealed to the key for a binding of this
// Session and names the tenant, instance and purpose that were asked for; and,
// if a broker is pinned, if its receipt is signed, is about this very answer and
// is the only one for its request.
func (s *Session) Open(ctx context.Context, r teebroker.Response) ([]byte, error) {
	secret, err := s.open(ctx, r)
	if err != nil {
		return nil, err
	}
	if secret.Epoch != 0 {
		secret.Clear()
		return nil, HasEpochs
	}
	clear(secret.ConfirmKey) // nothing is confirmed
	return secret.Key, nil
}

func (s *Session) open(ctx context.Context, r teebroker.Response) (sealed.Secret, error) {
	var receipt *teebroker.Receipt
	if len(s.cfg.Broker) != 0 {
		var err error
		if receipt, err = s.receipt(r); err != nil {
			return sealed.Secret{}, err
		}
	}
	secret, err := s.unseal(ctx, r.Sealed)
	if err != nil {
		return sealed.Secret{}, err
	}
	if !s.asked(secret) || receipt != nil && !matches(secret, *receipt) {
		secret.Clear()
		return sealed.Secret{}, NotAsked
	}
	return secret, nil
}

// receipt verifies the receipt of r and compares it with r and the Session.
func (s *Session) receipt(r teebroker.Response) (*teebroker.Receipt, error) {
	got, err := teebroker.VerifyReceipt(r.Receipt, [32]byte(s.cfg.Broker))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", NoReceipt, err)
	}
	if got.Profile != nonce.ProfileV1 || got.Tenant != s.cfg.Tenant || got.Instance != s.cfg.Instance ||
		got.Purpose != s.cfg.Purpose || got.Key != s.cfg.Key.Recipient().Thumbprint() ||
		got.Sealed != sha256.Sum256(r.Sealed) || !s.made(got.Binding) ||
		len(s.blob) != 0 && !bytes.Equal(s.blob, got.Blob[:]) || got.Kind == teebroker.KindConfirm {
		return nil, NoReceipt
	}
	// What was signed, without the signature: the host can turn one valid ECDSA
	// signature into another.
	content := sha256.Sum256(r.Receipt[:bytes.LastIndexByte(r.Receipt, '.')])
	if first, ok := s.receipts[string(got.Binding)]; ok && first != content {
		return nil, Attack
	}
	s.receipts[string(got.Binding)] = content
	return &got, nil
}

// unseal opens b for one of the bindings of s, latest first.
func (s *Session) unseal(ctx context.Context, b []byte) (sealed.Secret, error) {
	var box keywrap.Sealed
	if err := json.Unmarshal(b, &box); err != nil {
		return sealed.Secret{}, fmt.Errorf("%w: %w", NotOpened, err)
	}
	for _, binding := range slices.Backward(s.bindings) {
		plain, err := s.cfg.Key.Open(ctx, box, sealed.Info(s.cfg.Key.Recipient().Suite(), binding))
		if errors.Is(err, keywrap.ErrOpen) {
			continue
		}
		if err != nil {
			return sealed.Secret{}, fmt.Errorf("guest: %w", err)
		}
		secret, err := sealed.Parse(plain)
		clear(plain)
		if err != nil {
			return sealed.Secret{}, fmt.Errorf("%w: %w", NotAsked, err)
		}
		return secret, nil
	}
	return sealed.Secret{}, NotOpened
}

// asked reports whether secret is what s asked for.
func (s *Session) asked(secret sealed.Secret) bool {
	return s.made(secret.Binding) && secret.Tenant == s.cfg.Tenant &&
		secret.Instance == s.cfg.Instance && secret.Purpose == s.cfg.Purpose
}

// matches reports whether receipt is about secret. The binding of a redelivery is
// that of the new request, and inside is the first one.
func matches(secret sealed.Secret, receipt teebroker.Receipt) bool {
	return receipt.Release == secret.Release && receipt.Epoch == secret.Epoch &&
		(receipt.Kind == teebroker.KindRedelivery || bytes.Equal(receipt.Binding, secret.Binding))
}

// made reports whether s made binding.
func (s *Session) made(binding []byte) bool {
	return slices.ContainsFunc(s.bindings, func(b evidence.Binding) bool {
		return subtle.ConstantTimeCompare(b.Bytes(), binding) == 1
	})
}
