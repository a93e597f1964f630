//go:build cgo

package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/teebroker/teebroker/keywrap"
)

// opener is a [keywrap.Opener] whose key on P-384 is in a token.
type opener struct {
	token     *Token
	key       *object
	pq        crypto.Decapsulator // the half of ML-KEM, of a hybrid key
	recipient keywrap.Recipient
}

// Opener returns the attestation key that o names. Its suite is HPKE-P384, or
// HPKE-MLKEM1024-P384 if mlkem has the 64-byte seed of an ML-KEM-1024 key (FIPS
// 203), which is in memory then: nothing is opened without the token, and what
// was recorded opens to nobody who breaks elliptic curves but has not the seed.
//
// Besides the errors of [keywrap.Opener] there are ErrToken and ErrPIN, with
// which nothing is decided. A key that can be exported, or has another use as
// well, or does not belong to the public key beside it, is ErrKey.
func (t *Token) Opener(ctx context.Context, o Object, mlkemSeed []byte) (keywrap.Opener, error) {
	x := &opener{token: t, key: &object{Object: o, use: Unwrap}}
	if mlkemSeed != nil {
		pq, err := mlkem.NewDecapsulationKey1024(mlkemSeed)
		if err != nil {
			return nil, fmt.Errorf("%w: seed of ML-KEM", ErrKey)
		}
		x.pq = pq
	}
	if err := x.key.open(ctx, t); err != nil {
		return nil, err
	}
	if err := x.prove(ctx); err != nil {
		return nil, err
	}
	plain, err := x.with(&exchange{ctx: ctx, opener: x})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	x.recipient = plain.Recipient()
	return x, nil
}

// prove has the token use the key once, so that no public key is published that
// somebody else put beside it.
func (x *opener) prove(ctx context.Context) error {
	e, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	got, err := x.derive(ctx, e.PublicKey())
	if err != nil {
		return err
	}
	defer clear(got)
	want, err := e.ECDH(x.key.public)
	defer clear(want)
	if err != nil || subtle.ConstantTimeCompare(got, want) != 1 {
		return fmt.Errorf("%w: it does not belong to its public key", ErrKey)
	}
	return nil
}

// Recipient implements [keywrap.Opener].
func (x *opener) Recipient() keywrap.Recipient { return x.recipient }

// InToken reports that the key can't be copied, see [keywrap.InToken].
func (x *opener) InToken() bool { return true }

// Open implements [keywrap.Opener].
func (x *opener) Open(ctx context.Context, sealed keywrap.Sealed, info []byte) ([]byte, error) {
	e := &exchange{ctx: ctx, opener: x}
	plain, err := x.with(e)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	secret, err := plain.Open(ctx, sealed, info)
	switch {
	case e.err != nil: // which keywrap takes for a failure to decrypt
		clear(secret)
		return nil, e.err
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ErrToken, ctx.Err())
	}
	return secret, err
}

// with returns the Opener that asks the token through e.
func (x *opener) with(e *exchange) (keywrap.Opener, error) {
	if x.pq == nil {
		return keywrap.FromECDH(keywrap.P384, e)
	}
	k, err := hpke.NewHybridPrivateKey(x.pq, e)
	if err != nil {
		return nil, err
	}
	return keywrap.FromHPKE(k)
}

// exchange is the key for one call: package crypto/ecdh has no context and no
// word for a token that fails.
type exchange struct {
	ctx context.Context
	*opener
	err error
}

var _ ecdh.KeyExchanger = (*exchange)(nil)

func (e *exchange) PublicKey() *ecdh.PublicKey { return e.key.public }

func (e *exchange) Curve() ecdh.Curve { return ecdh.P384() }

// ECDH returns the x coordinate of the shared point, 48 bytes. A peer that is a
// PublicKey is a point on its curve.
func (e *exchange) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	if peer.Curve() != ecdh.P384() {
		return nil, errors.New("pkcs11: a point of another curve")
	}
	var z []byte
	z, e.err = e.derive(e.ctx, peer)
	return z, e.err
}

const coordinate = 48 // bytes of a coordinate on P-384, and of a signature's r and s

// derive returns CKM_ECDH1_DERIVE without a key derivation function (PKCS #11
// mechanisms, 2.40, section 2.3.9), the caller's to clear.
func (x *opener) derive(ctx context.Context, peer *ecdh.PublicKey) (z []byte, err error) {
	point := peer.Bytes()
	err = x.token.do(ctx, func(s p11.SessionHandle) error {
		key, err := x.key.handle(x.token, s)
		if err != nil {
			return err
		}
		m := x.token.module
		h, err := m.DeriveKey(s, []*p11.Mechanism{
			p11.NewMechanism(p11.CKM_ECDH1_DERIVE, p11.NewECDH1DeriveParams(p11.CKD_NULL, nil, point)),
		}, key, []*p11.Attribute{
			p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
			p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_SENSITIVE, false),
			p11.NewAttribute(p11.CKA_EXTRACTABLE, true), p11.NewAttribute(p11.CKA_VALUE_LEN, coordinate),
		})
		if err != nil {
			return err
		}
		got, err := m.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)})
		if err2 := m.DestroyObject(s, h); err == nil {
			err = err2
		}
		if err != nil {
			return err
		}
		if len(got) != 1 || len(got[0].Value) != coordinate {
			return fmt.Errorf("%w: a shared secret of another length", ErrToken)
		}
		z = got[0].Value
		return nil
	})
	return z, err
}
