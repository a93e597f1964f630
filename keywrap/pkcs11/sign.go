//go:build cgo

package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	p11 "github.com/miekg/pkcs11"
)

// signer is a [crypto.Signer] whose key is in a token.
type signer struct {
	token  *Token
	key    *object
	public *ecdsa.PublicKey
}

// Signer returns the identity key that o names, ECDSA on P-384, which signs
// SHA-384 digests: [crypto.SHA384] only. What is said of the key of
// [Token.Opener] is true of this one.
func (t *Token) Signer(ctx context.Context, o Object) (crypto.Signer, error) {
	x := &signer{token: t, key: &object{Object: o, use: Sign}}
	if err := x.key.open(ctx, t); err != nil {
		return nil, err
	}
	var err error
	if x.public, err = ecdsa.ParseUncompressedPublicKey(elliptic.P384(), x.key.public.Bytes()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	digest := make([]byte, crypto.SHA384.Size())
	rand.Read(digest)
	sig, err := x.sign(ctx, digest)
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(x.public, digest, sig) {
		return nil, fmt.Errorf("%w: it does not belong to its public key", ErrKey)
	}
	return x, nil
}

// Public implements [crypto.Signer].
func (x *signer) Public() crypto.PublicKey {
	public := *x.public
	return &public
}

// Sign implements [crypto.Signer]. The token has its own randomness.
func (x *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || opts.HashFunc() != crypto.SHA384 || len(digest) != crypto.SHA384.Size() {
		return nil, errors.New("pkcs11: not a digest of SHA-384")
	}
	return x.sign(context.Background(), digest)
}

// sign returns CKM_ECDSA of digest, in ASN.1.
func (x *signer) sign(ctx context.Context, digest []byte) ([]byte, error) {
	var raw []byte
	err := x.token.do(ctx, func(s p11.SessionHandle) error {
		key, err := x.key.handle(x.token, s)
		if err != nil {
			return err
		}
		if err := x.token.module.SignInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}, key); err != nil {
			return err
		}
		raw, err = x.token.module.Sign(s, digest)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(raw) != 2*coordinate {
		return nil, fmt.Errorf("%w: a signature of %d bytes", ErrToken, len(raw))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(raw[:coordinate]), new(big.Int).SetBytes(raw[coordinate:]),
	})
}
