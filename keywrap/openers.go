package keywrap

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// An Opener opens what was sealed to its Recipient: a key of a guest, or the
// broker's attestation key in software, an HSM or a TPM. Those of this package
// are safe for concurrent use if their key is.
type Opener interface {
	Recipient() Recipient

	// Open may block on a token. Every failure to decrypt is ErrOpen, also a
	// Sealed of another suite, without saying more. The caller owns the secret.
	Open(ctx context.Context, sealed Sealed, info []byte) ([]byte, error)
}

// InToken reports whether the private key of o is where nobody can copy it: whether
// o has a method InToken() bool that says so. Keys of this package have none.
func InToken(o Opener) bool {
	t, ok := o.(interface{ InToken() bool })
	return ok && t.InToken()
}

// generatedRSABits is the size of RSA keys made here: the least that the suite
// has outside of older profiles.
const generatedRSABits = 3072

// Generate returns a fresh key in memory. Guests use MLKEM768X25519; an RSA key
// has 3072 bits. Errors wrap ErrKey.
func Generate(suite Suite) (Opener, error) {
	if p, ok := suite.hpke(); ok {
		k, err := p.kem.GenerateKey()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return FromHPKE(k)
	}
	if c, ok := suite.jweCurve(); ok {
		k, err := c.curve.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return FromECDH(suite, k)
	}
	if suite == JWERSA {
		k, err := rsa.GenerateKey(rand.Reader, generatedRSABits)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return FromRSA(k)
	}
	return nil, fmt.Errorf("%w: unknown suite", ErrKey)
}

// FromHPKE returns the Opener of k. KDF and AEAD follow from its KEM, of which
// there must be a Suite. A hybrid key may have a half in a token. Errors wrap
// ErrKey.
func FromHPKE(k hpke.PrivateKey) (Opener, error) {
	if k == nil {
		return nil, fmt.Errorf("%w: none", ErrKey)
	}
	for _, suite := range []Suite{MLKEM768X25519, P384, P256, X25519, MLKEM1024P384} {
		if p, _ := suite.hpke(); p.kem.ID() == k.KEM().ID() {
			return newOpener(suite, k.PublicKey().Bytes(), openHPKE(p, k))
		}
	}
	return nil, fmt.Errorf("%w: KEM of no suite", ErrKey)
}

// FromECDH returns the Opener of k for suite, HPKE or JWE, on the curve of k.
// Points are validated before k, which may be in a token, sees them. Errors wrap
// ErrKey.
func FromECDH(suite Suite, k ecdh.KeyExchanger) (Opener, error) {
	if k == nil || k.PublicKey() == nil {
		return nil, fmt.Errorf("%w: none, or without its public key", ErrKey)
	}
	if _, ok := suite.jweCurve(); ok {
		return newOpener(suite, k.PublicKey().Bytes(), openJWE(func(s Sealed) ([]byte, error) {
			return unwrapECDH(k, s.epk, s.key)
		}))
	}
	private, err := hpke.NewDHKEMPrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if p, ok := suite.hpke(); !ok || p.kem.ID() != private.KEM().ID() {
		return nil, fmt.Errorf("%w: not on the curve of the suite", ErrKey)
	}
	return FromHPKE(private)
}

// FromRSA returns the JWERSA Opener of k, which may be in a token and has 2048
// to 4096 bits: what senders accept is for them to say. Errors wrap ErrKey.
func FromRSA(k crypto.Decrypter) (Opener, error) {
	if k == nil {
		return nil, fmt.Errorf("%w: none", ErrKey)
	}
	pub, ok := k.Public().(*rsa.PublicKey)
	if !ok || pub == nil {
		return nil, fmt.Errorf("%w: not RSA", ErrKey)
	}
	return newOpener(JWERSA, x509.MarshalPKCS1PublicKey(pub), openJWE(func(s Sealed) ([]byte, error) {
		return unwrapRSA(pub, k, s.key)
	}))
}

// opener is the Opener of any key.
type opener struct {
	recipient Recipient
	open      func(sealed Sealed, info []byte) ([]byte, error)
}

func newOpener(suite Suite, public []byte, open func(Sealed, []byte) ([]byte, error)) (Opener, error) {
	r, err := decode(suite, public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return &opener{r, open}, nil
}

func (o *opener) Recipient() Recipient { return o.recipient }

func (o *opener) Open(ctx context.Context, sealed Sealed, info []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	if sealed.suite != o.recipient.suite {
		return nil, ErrOpen
	}
	secret, err := o.open(sealed, info)
	if err != nil {
		// Which step failed is nothing that a sender may learn.
		return nil, ErrOpen
	}
	return secret, nil
}
