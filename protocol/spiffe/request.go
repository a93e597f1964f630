package spiffe

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// Request says what identity a guest asks for.
type Request struct {
	Tenant   string
	Instance [16]byte
	Purpose  string // PurposeX509 or PurposeJWT

	// Audience is who a JWT-SVID is for: 1 to 8 names of 1 to 256 bytes, of PurposeJWT only.
	Audience []string
}

// A request has the shape of a wrapped blob, so that it is presented and bound as one:
// protected is the header, enc the SubjectPublicKeyInfo of the guest's key, and ciphertext its
// signature, ECDSA in ASN.1 with SHA-256, over "teebroker/v1/credential" ‖ 0x00 ‖ LP(protected) ‖ LP(enc), the
// texts as they are sent.
type requestHeader struct {
	Version  int             `json:"v"`  // 1
	By       string          `json:"by"` // guest
	Tenant   string          `json:"tenant"`
	Instance strictjson.UUID `json:"instance"`
	Purpose  string          `json:"purpose"`
	Audience []string        `json:"aud,omitempty"`
}

const (
	requestVersion = 1
	byGuest        = "guest"
	requestLabel   = "teebroker/v1/credential\x00"
	maxAudiences   = 8
	maxAudience    = 256     // bytes of one
	maxPart        = 8 << 10 // bytes of a text of a request
)

func (r Request) check() error {
	switch {
	case !names.Tenant(r.Tenant) || r.Instance == [16]byte{}:
		return errors.New("not a tenant and instance")
	case r.Purpose != PurposeX509 && r.Purpose != PurposeJWT:
		return errors.New("not a purpose of SPIFFE")
	case r.Purpose == PurposeX509 && len(r.Audience) != 0:
		return errors.New("a certificate has no audience")
	case r.Purpose == PurposeJWT && (len(r.Audience) == 0 || len(r.Audience) > maxAudiences):
		return fmt.Errorf("%d audiences, want 1 to %d", len(r.Audience), maxAudiences)
	}
	for _, a := range r.Audience {
		if a == "" || len(a) > maxAudience {
			return fmt.Errorf("an audience of %d bytes", len(a))
		}
	}
	return nil
}

// NewRequest returns what a guest with key presents, as JSON, for guest.Config.Wrapped. The key is ECDSA on
// P-256 or P-384, made for this identity and for nothing else. Errors wrap [ErrRequest].
func NewRequest(key crypto.Signer, r Request) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	pub, err := publicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	header, err := json.Marshal(requestHeader{requestVersion, byGuest, r.Tenant, r.Instance, r.Purpose, r.Audience})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	w := keywrap.Wrapped{Protected: text(header), Enc: text(pub)}
	sum := requestDigest(w)
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("spiffe: %w", err)
	}
	w.Ciphertext = text(sig)
	return w.MarshalJSON()
}

func text(b []byte) []byte { return base64.RawURLEncoding.AppendEncode(nil, b) }

func requestDigest(w keywrap.Wrapped) [32]byte {
	b := []byte(requestLabel)
	for _, x := range [][]byte{w.Protected, w.Enc} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
	}
	return sha256.Sum256(b)
}

// publicKey returns the SubjectPublicKeyInfo of a key that an identity may have.
func publicKey(key crypto.PublicKey) ([]byte, error) {
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() {
		return nil, errors.New("not an ECDSA key on P-256 or P-384")
	}
	return x509.MarshalPKIXPublicKey(pub)
}

// parseRequest returns what w asks for, and the key that it is for, whose private key
// signed it.
func parseRequest(w keywrap.Wrapped) (Request, *ecdsa.PublicKey, error) {
	var parts [3][]byte
	for i, t := range [][]byte{w.Protected, w.Enc, w.Ciphertext} {
		b, err := strictjson.ParseBase64(string(t))
		if err != nil || len(b) == 0 || len(t) > maxPart {
			return Request{}, nil, errors.New("a member is missing, too long, or not base64url")
		}
		parts[i] = b
	}
	var h requestHeader
	if err := strictjson.Unmarshal(parts[0], &h); err != nil {
		return Request{}, nil, fmt.Errorf("header: %w", err)
	}
	r := Request{h.Tenant, h.Instance, h.Purpose, h.Audience}
	if h.Version != requestVersion || h.By != byGuest {
		return Request{}, nil, errors.New("header: not of a guest, in this version")
	}
	if err := r.check(); err != nil {
		return Request{}, nil, fmt.Errorf("header: %w", err)
	}
	key, err := x509.ParsePKIXPublicKey(parts[1])
	if err != nil {
		return Request{}, nil, fmt.Errorf("key: %w", err)
	}
	// Encoded again, since what was parsed may have had another form.
	if again, err := publicKey(key); err != nil || string(again) != string(parts[1]) {
		return Request{}, nil, errors.New("key: not one of ECDSA on P-256 or P-384, in its form")
	}
	pub := key.(*ecdsa.PublicKey)
	if sum := requestDigest(w); !ecdsa.VerifyASN1(pub, sum[:], parts[2]) {
		return Request{}, nil, errors.New("the private key did not sign it")
	}
	return r, pub, nil
}
