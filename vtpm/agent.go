package vtpm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// AgentID returns the id that a Keylime agent with this EK takes if its uuid is
// "hash_ek": SHA-256, in lower-case hexadecimal, of the SubjectPublicKeyInfo in
// PEM, with lines of 64 characters that end in LF, the last one too.
func AgentID(ek crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(ek)
	if err != nil {
		return "", fmt.Errorf("vtpm: agent id: %w", err)
	}
	sum := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return hex.EncodeToString(sum[:]), nil
}

// HashEK returns the [AgentID] for the TPMT_PUBLIC of an EK, which has to be of template
// L-1 or L-2.
func HashEK(area []byte) (string, error) {
	ek, err := parseArea(area)
	if err != nil {
		return "", err
	}
	if err := ek.checkEK(); err != nil {
		return "", err
	}
	return AgentID(ek.Key)
}

// Area returns the TPMT_PUBLIC of p, of which the bytes count: its SHA-256 names an EK
// in the records of a broker.
func (p Public) Area() []byte { return bytes.Clone(p.area) }

// Numbers in front of a credential blob, as tpm2-tools and Keylime have them.
const (
	blobMagic   = 0xBADCC0DE
	blobVersion = 1
)

// maxSecret is how many bytes a credential can protect: a digest of the EK's
// name algorithm, TPM 2.0 Part 1, section 24.
const maxSecret = 32

// MakeCredential encrypts secret, 1 to 32 bytes, so that only the TPM which has ek
// can read it, and only while the object with the Name ak is loaded in it. The EK
// is of template L-1 or L-2. The result is the blob that Keylime's registrar gives
// to agents, before base64: BADCC0DE and 1, four bytes each, TPM2B_ID_OBJECT and
// TPM2B_ENCRYPTED_SECRET. Whoever shows secret has shown that ek and ak are in one
// TPM, which is what an [AKs] is to remember; everything that Name covers, the
// attributes too, is then true of ak.
func MakeCredential(ek Public, ak Name, secret []byte) ([]byte, error) {
	if err := ek.checkEK(); err != nil {
		return nil, err
	}
	if len(secret) == 0 || len(secret) > maxSecret {
		return nil, fmt.Errorf("vtpm: credential: a secret of %d bytes", len(secret))
	}
	if !ak.wellFormed() {
		return nil, errors.New("vtpm: credential: not a Name of an object")
	}
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](ek.area)
	if err != nil {
		return nil, fmt.Errorf("vtpm: credential: %w", err)
	}
	to, err := tpm2.ImportEncapsulationKey(area)
	if err != nil {
		return nil, fmt.Errorf("vtpm: credential: %w", err)
	}
	id, encrypted, err := tpm2.CreateCredential(rand.Reader, to, []byte(ak), secret)
	if err != nil {
		return nil, fmt.Errorf("vtpm: credential: %w", err)
	}
	blob := binary.BigEndian.AppendUint32(nil, blobMagic)
	blob = binary.BigEndian.AppendUint32(blob, blobVersion)
	return appendSized(appendSized(blob, id), encrypted), nil
}

// SplitCredential returns the two parameters of TPM2_ActivateCredential that a
// blob of [MakeCredential] has: TPMS_ID_OBJECT and the encrypted seed, without
// their sizes. It shares memory with blob.
func SplitCredential(blob []byte) (id, encrypted []byte, err error) {
	c := cursor{rest: blob}
	magic, version := c.u32(), c.u32()
	id, encrypted = c.sized(), c.sized()
	if !c.done() || magic != blobMagic || version != blobVersion || len(id) == 0 || len(encrypted) == 0 {
		return nil, nil, errors.New("vtpm: credential: not a credential blob")
	}
	return id, encrypted, nil
}

func appendSized(b, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

// wellFormed reports whether n is as long as its algorithm says.
func (n Name) wellFormed() bool {
	c := cursor{rest: []byte(n)}
	size := Alg(c.u16()).size()
	return size > 0 && len(n) == 2+size
}
