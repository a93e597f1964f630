package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/evidence"
)

func ccaTEE() tee {
	return tee{
		name: "cca", title: "Arm CCA token", format: cca.Format, checks: cca.Checks(),
		looksLike: looksLikeCCA, collect: collectCCA, verifier: ccaVerifier, hearsay: ccaHearsay,
	}
}

// looksLikeCCA goes by the CBOR tag, 399 or 907. Whether what follows is well
// formed is for the Verifier to say.
func looksLikeCCA(raw []byte) bool {
	return bytes.HasPrefix(raw, []byte{0xd9, 0x01, 0x8f}) || bytes.HasPrefix(raw, []byte{0xd9, 0x03, 0x8b})
}

// ccaTrust is whom the endorsements vouch for.
type ccaTrust struct {
	anchors []cca.Anchor
	keys    []*ecdsa.PublicKey // each of the instance that the token names
	bad     error              // why an anchor can't be relied on, an *evidence.Error
}

// collectCCA takes lists of anchors and keys that are alone in a file.
func collectCCA(t *trust, f endorsement) error {
	if trimmed := bytes.TrimLeft(f.data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		return t.cca.addList(f)
	}
	key, err := cca.ParseKey(f.data)
	switch {
	case err == nil:
		t.cca.keys = append(t.cca.keys, key)
	case f.named && bytes.HasPrefix(f.data, []byte("-----BEGIN PUBLIC KEY-----")):
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// addList adds the anchors of a file. An anchor with a key that is none makes every
// token a no: nobody knows whom it was to vouch for.
func (t *ccaTrust) addList(f endorsement) error {
	anchors, err := cca.ParseAnchors(f.data)
	switch {
	case err == nil:
		t.anchors = append(t.anchors, anchors...)
	case errors.As(err, new(*evidence.Error)):
		t.bad = fmt.Errorf("%s: %w", f.path, err)
	case f.named:
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// ccaVerifier returns a Verifier that trusts the anchors for their instances, keys
// without a name for the instance that raw is of, and every other certificate in
// -roots than AMD's and Intel's as the CA of a vendor.
func ccaVerifier(t trust, raw []byte) (evidence.Verifier, error) {
	token, err := cca.ParseToken(raw)
	switch {
	case err != nil:
		return refusal{err}, nil
	case t.cca.bad != nil:
		return refusal{t.cca.bad}, nil
	}
	cfg := cca.Config{Time: func() time.Time { return t.now }}
	if err := t.ccaAnchors(&cfg, token); err != nil {
		return nil, err
	}
	if len(cfg.Anchors) == 0 && len(cfg.Authorities) == 0 {
		return new(cca.Live), nil // trusts nobody
	}
	return cca.NewVerifier(cfg)
}

// ccaAnchors adds to cfg who is trusted to vouch for token.
func (t trust) ccaAnchors(cfg *cca.Config, token cca.Token) error {
	keys := slices.Clone(t.cca.keys)
	for _, a := range t.anchors {
		switch {
		case a.key:
			key, err := cca.ParseKey(a.der)
			if err != nil {
				return fmt.Errorf("-roots: %w", err)
			}
			keys = append(keys, key)
		case !ofAMD(a.name) && !ofIntel(a.name):
			cfg.Authorities = append(cfg.Authorities, cca.Authority{
				Certificate: a.der, Implementations: evidence.Anything[cca.ImplementationID](),
			})
		}
	}
	anchors := slices.Clone(t.cca.anchors)
	for _, key := range keys {
		anchors = append(anchors, cca.Anchor{Instance: token.InstanceID(), Implementation: token.ImplementationID(), Key: key})
	}
	for _, a := range anchors {
		if !slices.ContainsFunc(cfg.Anchors, func(b cca.Anchor) bool { return sameAnchor(a, b) }) {
			cfg.Anchors = append(cfg.Anchors, a)
		}
	}
	return nil
}

// sameAnchor reports whether a says nothing that b does not say, down to when it
// may be relied on: the same key for one instance can't be told apart otherwise.
func sameAnchor(a, b cca.Anchor) bool {
	key, ok := a.Key.(*ecdsa.PublicKey)
	return ok && a.Instance == b.Instance && a.Implementation == b.Implementation && key.Equal(b.Key) &&
		a.NotBefore.Equal(b.NotBefore) && a.NotAfter.Equal(b.NotAfter)
}

// refusal is a Verifier that says why there is nothing to verify with.
type refusal struct{ err error }

// Verify implements [evidence.Verifier].
func (r refusal) Verify(context.Context, evidence.Evidence, evidence.Binding) (*evidence.Verified, error) {
	return nil, r.err
}

func ccaHearsay(raw []byte) (iter.Seq2[string, evidence.Value], error) {
	t, err := cca.ParseToken(raw)
	if err != nil {
		return nil, err
	}
	instance, implementation := t.InstanceID(), t.ImplementationID()
	return func(yield func(string, evidence.Value) bool) {
		_ = yield("cca.instance_id", evidence.Bytes(instance[:])) &&
			yield("cca.implementation_id", evidence.Bytes(implementation[:]))
	}, nil
}
