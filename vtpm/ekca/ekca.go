// Package ekca issues certificates of endorsement keys for those who know a TPM by
// nothing else: a [CA] says, for hours, that an EK is one that somebody attested. Who
// asks it has to have done so; a CA only knows what an EK looks like.
//
// There are no revocation lists. What a certificate says ends with it, so a CA gives a
// new one to who is still attested, and none to others.
//
// A CA is of one tenant: whoever trusts its root takes the word of that tenant's broker
// for every EK, and must not get those of its neighbours.
//
// Document: TCG EK Credential Profile for TPM Family 2.0, section 3.2.
package ekca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"time"

	"github.com/teebroker/teebroker/vtpm"
)

// How long a certificate may be valid.
const (
	MinLife = time.Minute
	MaxLife = 7 * 24 * time.Hour
)

// backdate is how far back certificates begin, for clocks that are behind.
const backdate = 5 * time.Minute

// ErrConfig is wrapped by what is wrong with a [Config] or a root.
var ErrConfig = errors.New("ekca: bad configuration")

// Model says what the TPMs are, in the words of the profile. Nothing attests it.
type Model struct {
	Manufacturer string // "id:" and the vendor id of the TCG, eight hexadecimal digits in upper case; of zeros, nobody's
	Name         string // 1 to 64 printable characters of ASCII
	Version      string // of the firmware, "id:" and eight hexadecimal digits in upper case
}

func (m Model) check() error {
	id, name := regexp.MustCompile(`^id:[0-9A-F]{8}$`), regexp.MustCompile(`^[ -~]{1,64}$`)
	if !id.MatchString(m.Manufacturer) || !id.MatchString(m.Version) || !name.MatchString(m.Name) {
		return fmt.Errorf("%w: Model", ErrConfig)
	}
	return nil
}

// Config configures a [CA]. All but Time is required.
type Config struct {
	Signer crypto.Signer // private key of Root: ECDSA on P-256 or P-384, or RSA of 2048 bits at least
	Root   []byte        // certificate of [NewRoot], in DER
	Life   time.Duration // of a certificate, MinLife to MaxLife, and never longer than Root
	Model  Model
	Time   func() time.Time // if nil, time.Now
}

// CA issues certificates. It is safe for concurrent use if its Signer is.
type CA struct {
	cfg  Config
	root *x509.Certificate
}

// checkKey reports whether key is one to sign with.
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 && k.N.BitLen() <= 4096 {
			return nil
		}
	}
	return fmt.Errorf("%w: the key is neither ECDSA on P-256 or P-384 nor RSA of 2048 to 4096 bits", ErrConfig)
}

// NewRoot returns a root that signer signs for itself: a CA that issues no other CA. The same
// key, name and times make the same root if signer signs the same bytes alike without
// randomness, as those of crypto/ecdsa do.
func NewRoot(signer crypto.Signer, name string, notBefore, notAfter time.Time) ([]byte, error) {
	switch {
	case signer == nil:
		return nil, fmt.Errorf("%w: no signer", ErrConfig)
	case !regexp.MustCompile(`^[ -~]{1,64}$`).MatchString(name):
		return nil, fmt.Errorf("%w: name", ErrConfig)
	case !notBefore.Before(notAfter):
		return nil, fmt.Errorf("%w: a root that is never valid", ErrConfig)
	}
	if err := checkKey(signer.Public()); err != nil {
		return nil, err
	}
	id := keyID(signer.Public())
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(append([]byte{1}, id[:16]...)), Subject: pkix.Name{CommonName: name},
		NotBefore: notBefore.UTC(), NotAfter: notAfter.UTC(), SubjectKeyId: id,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(nil, template, template, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("ekca: %w", err)
	}
	return der, nil
}

// keyID returns the first 20 bytes of SHA-256 of key: RFC 7093, section 2.
func keyID(key crypto.PublicKey) []byte {
	d := vtpm.KeyDigest(key)
	return d[:20]
}

// New returns a CA, or an error that wraps [ErrConfig].
func New(cfg Config) (*CA, error) {
	if cfg.Signer == nil {
		return nil, fmt.Errorf("%w: Signer", ErrConfig)
	}
	if err := checkKey(cfg.Signer.Public()); err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(cfg.Root)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: Root: %w", ErrConfig, err)
	case vtpm.KeyDigest(root.PublicKey) != vtpm.KeyDigest(cfg.Signer.Public()):
		return nil, fmt.Errorf("%w: Root is of another key than Signer", ErrConfig)
	case !root.IsCA || root.KeyUsage&x509.KeyUsageCertSign == 0 || root.CheckSignatureFrom(root) != nil:
		return nil, fmt.Errorf("%w: Root is not the root of a CA", ErrConfig)
	case cfg.Life < MinLife || cfg.Life > MaxLife:
		return nil, fmt.Errorf("%w: Life is not %v to %v", ErrConfig, MinLife, MaxLife)
	}
	if err := cfg.Model.check(); err != nil {
		return nil, err
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	cfg.Root = bytes.Clone(cfg.Root)
	return &CA{cfg, root}, nil
}

// Root returns the root in PEM, which a Keylime tenant has in a file of its
// tpm_cert_store whose name ends in .pem.
func (c *CA) Root() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cfg.Root})
}

// Issue returns the certificate, in DER, of the EK with this TPMT_PUBLIC, which has to
// be of template L-1 or L-2. It is valid from five minutes ago, and no longer than the
// root.
func (c *CA) Issue(public []byte) ([]byte, error) {
	ek, err := parseEK(public)
	if err != nil {
		return nil, err
	}
	now := c.cfg.Time().UTC()
	template := &x509.Certificate{
		NotBefore: now.Add(-backdate), NotAfter: now.Add(c.cfg.Life), SubjectKeyId: keyID(ek),
		BasicConstraintsValid: true, KeyUsage: keyUsage(ek), UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}}, // tcg-kp-EKCertificate
	}
	if template.NotBefore.Before(c.root.NotBefore) {
		template.NotBefore = c.root.NotBefore
	}
	if template.NotAfter.After(c.root.NotAfter) {
		template.NotAfter = c.root.NotAfter
	}
	if !now.Before(c.root.NotAfter) || now.Before(c.root.NotBefore) {
		return nil, errors.New("ekca: the root is not valid now")
	}
	if template.SerialNumber, err = serial(); err != nil {
		return nil, err
	}
	name, err := c.cfg.Model.extension()
	if err != nil {
		return nil, err
	}
	template.ExtraExtensions = []pkix.Extension{name}
	der, err := x509.CreateCertificate(rand.Reader, template, c.root, ek, c.cfg.Signer)
	if err != nil {
		return nil, fmt.Errorf("ekca: %w", err)
	}
	return der, nil
}

// parseEK returns the key of a TPMT_PUBLIC.
func parseEK(public []byte) (crypto.PublicKey, error) {
	if _, err := vtpm.HashEK(public); err != nil { // also that it is of a template
		return nil, fmt.Errorf("ekca: %w", err)
	}
	ek, err := vtpm.ParsePublic(append([]byte{byte(len(public) >> 8), byte(len(public))}, public...))
	if err != nil {
		return nil, fmt.Errorf("ekca: %w", err)
	}
	return ek.Key, nil
}

// keyUsage is what TPMs do with an EK: section 3.2.11 of the profile.
func keyUsage(ek crypto.PublicKey) x509.KeyUsage {
	if _, ok := ek.(*rsa.PublicKey); ok {
		return x509.KeyUsageKeyEncipherment
	}
	return x509.KeyUsageKeyAgreement
}

// serial returns 159 random bits.
func serial() (*big.Int, error) {
	var b [20]byte
	rand.Read(b[:])
	b[0] &= 0x7F
	n := new(big.Int).SetBytes(b[:])
	if n.Sign() == 0 {
		return nil, errors.New("ekca: no randomness")
	}
	return n, nil
}

// extension returns the subject alternative name, critical since there is no subject:
// section 3.2.9 of the profile.
func (m Model) extension() (pkix.Extension, error) {
	name := pkix.RDNSequence{}
	for i, value := range []string{m.Manufacturer, m.Name, m.Version} {
		name = append(name, pkix.RelativeDistinguishedNameSET{{
			Type:  asn1.ObjectIdentifier{2, 23, 133, 2, 1 + i}, // tcg-at-tpmManufacturer, -Model, -Version
			Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(value)},
		}})
	}
	der, err := asn1.Marshal(name)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("ekca: %w", err)
	}
	der, err = asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: der}}) // directoryName
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("ekca: %w", err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: der}, nil
}

// DeriveKey returns a key on P-256 for the CA of a tenant, made of a secret of 32 bytes
// and nothing else, for brokers that keep one secret and have many tenants.
func DeriveKey(secret [32]byte, tenant string) (*ecdsa.PrivateKey, error) {
	if secret == [32]byte{} || tenant == "" {
		return nil, fmt.Errorf("%w: no secret, or no tenant", ErrConfig)
	}
	for n := range byte(8) { // one of 2^32 or so is no scalar
		h := sha256.New()
		h.Write([]byte("teebroker/ekca/key/v1 "))
		h.Write(secret[:])
		h.Write([]byte{n})
		h.Write([]byte(tenant))
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), h.Sum(nil)); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%w: no key", ErrConfig)
}
