package vtpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/teebroker/teebroker/evidence"
)

// Attributes is TPMA_OBJECT: TPM 2.0 Part 2, section 8.3.
type Attributes uint32

// The Attributes that keys are judged by.
const (
	FixedTPM            Attributes = 1 << 1
	FixedParent         Attributes = 1 << 4
	SensitiveDataOrigin Attributes = 1 << 5
	UserWithAuth        Attributes = 1 << 6
	AdminWithPolicy     Attributes = 1 << 7
	Restricted          Attributes = 1 << 16
	Decrypt             Attributes = 1 << 17
	Sign                Attributes = 1 << 18
)

// Name is the Name of an object: two bytes for its algorithm and the digest of its
// public area, of which every byte counts. TPM 2.0 Part 1, section 16.
type Name string

// Public is a TPMT_PUBLIC that was parsed: the public area of an RSA or ECC key.
// It owns its memory.
type Public struct {
	Name       Name
	Attributes Attributes
	Key        crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey

	area         []byte // TPMT_PUBLIC
	nameAlg      Alg
	policy       []byte
	symmetric    Alg    // algNull for a key that is no parent
	keyBits      uint16 // of symmetric
	scheme, hash Alg    // algNull, 0 for a key that takes any
}

// maxPublic bounds a public area, in bytes; one of RSA with 4096 bits has less.
const maxPublic = 1024

// ParsePublic parses a TPM2B_PUBLIC, a size of two bytes and TPMT_PUBLIC, as
// TPM2_ReadPublic returns it and Keylime's registrar has it. It errs on anything
// but the whole public area of an RSA key with 2048 to 4096 bits or an ECC key on
// P-256, P-384 or P-521. Errors wrap an [*evidence.Error].
func ParsePublic(b []byte) (Public, error) {
	c := cursor{rest: b}
	area := c.sized()
	if !c.done() {
		return Public{}, fail(checkItems, evidence.Malformed, "TPM2B_PUBLIC", errors.New("length"))
	}
	return parseArea(area)
}

// Marshal returns p as TPM2B_PUBLIC, which is what [ParsePublic] read.
func (p Public) Marshal() []byte { return appendSized(nil, p.area) }

// parseArea parses TPMT_PUBLIC: TPM 2.0 Part 2, section 12.2.4.
func parseArea(area []byte) (Public, error) {
	if len(area) > maxPublic {
		return Public{}, fail(checkItems, evidence.Malformed, "TPMT_PUBLIC", fmt.Errorf("%d bytes", len(area)))
	}
	c := cursor{rest: area}
	kind := Alg(c.u16())
	p := Public{area: bytes.Clone(area), nameAlg: Alg(c.u16()), Attributes: Attributes(c.u32()), policy: bytes.Clone(c.sized())}
	switch {
	case !c.ok():
		return Public{}, fail(checkItems, evidence.Malformed, "TPMT_PUBLIC", errors.New("cut short"))
	case p.nameAlg.hash() == 0:
		return Public{}, fail(checkItems, evidence.Unsupported, "nameAlg", errors.New(p.nameAlg.String()))
	}
	p.symmetric = Alg(c.u16())
	if p.symmetric != algNull {
		p.keyBits = c.u16()
		if mode := Alg(c.u16()); c.ok() && mode != algCFB {
			return Public{}, fail(checkItems, evidence.Unsupported, "mode", errors.New(mode.String()))
		}
	}
	if p.scheme = Alg(c.u16()); p.scheme != algNull {
		p.hash = Alg(c.u16()) // of RSASSA and ECDSA; others are refused for what they are used for
	}
	var err error
	switch kind {
	case algRSA:
		p.Key, err = c.rsaKey()
	case algECC:
		p.Key, err = c.eccKey()
	default:
		return Public{}, fail(checkItems, evidence.Unsupported, "type", errors.New(kind.String()))
	}
	if err == nil && !c.done() {
		err = errors.New("length")
	}
	if err != nil {
		return Public{}, fail(checkItems, evidence.Malformed, "TPMT_PUBLIC", err)
	}
	p.Name = Name(binary.BigEndian.AppendUint16(nil, uint16(p.nameAlg))) + Name(p.nameAlg.sum(area))
	return p, nil
}

// rsaKey takes keyBits, exponent and modulus.
func (c *cursor) rsaKey() (*rsa.PublicKey, error) {
	size, exponent, modulus := int(c.u16()), c.u32(), c.sized()
	switch {
	case !c.ok():
		return nil, errors.New("cut short")
	case exponent != 0 && exponent != 65537: // 0 stands for 65537
		return nil, fmt.Errorf("exponent %d", exponent)
	case len(modulus)*8 != size:
		return nil, fmt.Errorf("modulus of %d bytes in a key of %d bits", len(modulus), size)
	}
	return newRSA(modulus)
}

// newRSA returns the key with modulus, of which the first bit has to be set and
// the last one too, and the exponent 65537.
func newRSA(modulus []byte) (*rsa.PublicKey, error) {
	n := new(big.Int).SetBytes(modulus)
	if n.BitLen() != 8*len(modulus) || n.BitLen() < minRSABits || len(modulus) > maxRSAKey || n.Bit(0) == 0 {
		return nil, fmt.Errorf("a modulus of %d bits", n.BitLen())
	}
	return &rsa.PublicKey{N: n, E: 65537}, nil
}

// eccKey takes curve, key derivation scheme and point. Coordinates may lack zero
// bytes in front.
func (c *cursor) eccKey() (*ecdsa.PublicKey, error) {
	id, kdf, x, y := c.u16(), Alg(c.u16()), c.sized(), c.sized()
	curve := curveOf(id)
	switch {
	case !c.ok():
		return nil, errors.New("cut short")
	case curve == nil || kdf != algNull:
		return nil, fmt.Errorf("curve %#x with key derivation %#x", id, uint16(kdf))
	}
	size := (curve.Params().BitSize + 7) / 8
	if len(x) > size || len(y) > size {
		return nil, errors.New("coordinates")
	}
	point := append([]byte{4}, new(big.Int).SetBytes(x).FillBytes(make([]byte, size))...)
	point = append(point, new(big.Int).SetBytes(y).FillBytes(make([]byte, size))...)
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

// curveOf returns the curve of a TPM_ECC_CURVE, or nil.
func curveOf(id uint16) elliptic.Curve {
	switch id {
	case 3:
		return elliptic.P256()
	case 4:
		return elliptic.P384()
	case 5:
		return elliptic.P521()
	}
	return nil
}

// The attributes of an AK that have to be set and those that must not be: a key
// that was made in the TPM, never leaves it, and signs nothing that claims to be
// made by a TPM and is not.
const (
	akSet   = FixedTPM | FixedParent | SensitiveDataOrigin | Restricted | Sign
	akClear = Decrypt
)

// checkAK reports whether p is an attestation key.
func (p Public) checkAK() error {
	switch {
	case p.Attributes&akSet != akSet || p.Attributes&akClear != 0:
		return fail(checkAK, evidence.Untrusted, "objectAttributes", fmt.Errorf("%#x is not a restricted signing key that was made in this TPM and stays in it", uint32(p.Attributes)))
	case p.symmetric != algNull, p.scheme != algRSASSA && p.scheme != algECDSA:
		return fail(checkAK, evidence.Unsupported, "parameters", errors.New("neither RSASSA nor ECDSA"))
	}
	return nil
}

// signs reports whether p is for signatures of q's scheme and hash. A restricted
// key makes no other.
func (p Public) signs(q Quote) bool {
	return p.scheme == q.signature.scheme && p.hash == q.signature.hash
}

// The EK templates L-1 and L-2 of TCG EK Credential Profile, section B.3: their
// attributes, and PolicyA, which is TPM2_PolicySecret of the endorsement hierarchy.
const ekAttributes = FixedTPM | FixedParent | SensitiveDataOrigin | AdminWithPolicy | Restricted | Decrypt

func policyA() []byte {
	return []byte{
		0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24,
		0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
	}
}

// checkEK reports whether p is an endorsement key of template L-1 or L-2.
func (p Public) checkEK() error {
	bad := func(field string, err error) error { return fail(checkEK, evidence.Untrusted, field, err) }
	switch key := p.Key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() != 2048 {
			return bad("keyBits", errors.New("not of 2048 bits"))
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return bad("curveID", errors.New("not P-256"))
		}
	}
	switch {
	case p.Attributes != ekAttributes:
		return bad("objectAttributes", fmt.Errorf("%#x is not of an EK template", uint32(p.Attributes)))
	case p.nameAlg != SHA256 || !bytes.Equal(p.policy, policyA()):
		return bad("authPolicy", errors.New("not PolicyA"))
	case p.symmetric != algAES || p.keyBits != 128 || p.scheme != algNull:
		return bad("parameters", errors.New("not AES-128-CFB without a scheme"))
	}
	return nil
}

// KeyDigest returns SHA-256 of the SubjectPublicKeyInfo of key in DER, by which
// claims and reference values name EKs and AKs. It is zero for what is no key.
func KeyDigest(key crypto.PublicKey) [32]byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return [32]byte{}
	}
	return sha256.Sum256(der)
}
