package vtpmtest

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/teebroker/teebroker/vtpm"
)

// Activate implements [Device].
func (t *TPM) Activate(blob []byte) ([]byte, error) {
	ak, err := vtpm.ParsePublic(t.AK())
	if err != nil {
		return nil, err
	}
	return OpenCredential(t.ek, ak.Name, blob)
}

// OpenCredential does what TPM2_ActivateCredential does with a blob for the EK
// whose private key is ek, if the object called name is loaded: TPM 2.0 Part 1,
// section 24. It shares nothing with what makes such blobs.
func OpenCredential(ek crypto.PrivateKey, name vtpm.Name, blob []byte) ([]byte, error) {
	id, encrypted, err := vtpm.SplitCredential(blob)
	if err != nil {
		return nil, err
	}
	seed, err := openSeed(ek, encrypted)
	if err != nil {
		return nil, err
	}
	if len(id) < 2+sha256.Size || binary.BigEndian.Uint16(id) != sha256.Size {
		return nil, errors.New("vtpmtest: no HMAC in the identity object")
	}
	mac, hidden := id[2:2+sha256.Size], id[2+sha256.Size:]
	h := hmac.New(sha256.New, kdfa(seed, "INTEGRITY", nil, 256))
	h.Write(hidden)
	h.Write([]byte(name))
	if !hmac.Equal(h.Sum(nil), mac) {
		return nil, errors.New("vtpmtest: not for this object")
	}
	block, err := aes.NewCipher(kdfa(seed, "STORAGE", []byte(name), 128))
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(hidden))
	feedback(block, plain, hidden)
	if len(plain) < 2 || int(binary.BigEndian.Uint16(plain)) != len(plain)-2 {
		return nil, errors.New("vtpmtest: no secret")
	}
	return plain[2:], nil
}

// openSeed returns the seed that only ek can read.
func openSeed(ek crypto.PrivateKey, encrypted []byte) ([]byte, error) {
	switch key := ek.(type) {
	case *rsa.PrivateKey:
		return rsa.DecryptOAEP(sha256.New(), nil, key, encrypted, []byte("IDENTITY\x00"))
	case *ecdsa.PrivateKey:
		return openPoint(key, encrypted)
	}
	return nil, errors.New("vtpmtest: no such key")
}

func openPoint(key *ecdsa.PrivateKey, encrypted []byte) ([]byte, error) {
	const size = 32
	if len(encrypted) != 2*(2+size) || binary.BigEndian.Uint16(encrypted) != size || binary.BigEndian.Uint16(encrypted[2+size:]) != size {
		return nil, errors.New("vtpmtest: no point")
	}
	x, y := encrypted[2:2+size], encrypted[4+size:]
	private, err := key.ECDH()
	if err != nil {
		return nil, err
	}
	public, err := private.Curve().NewPublicKey(append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, err
	}
	z, err := private.ECDH(public)
	if err != nil {
		return nil, err
	}
	h := sha256.New() // KDFe, one round
	h.Write([]byte{0, 0, 0, 1})
	h.Write(z)
	h.Write([]byte("IDENTITY\x00"))
	h.Write(x)
	h.Write(private.PublicKey().Bytes()[1 : 1+size])
	return h.Sum(nil), nil
}

// kdfa is KDFa with SHA-256, of up to 256 bits: TPM 2.0 Part 1, section 11.4.10.2.
func kdfa(key []byte, label string, context []byte, bits uint32) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte{0, 0, 0, 1})
	h.Write(append([]byte(label), 0))
	h.Write(context)
	h.Write(binary.BigEndian.AppendUint32(nil, bits))
	return h.Sum(nil)[:bits/8]
}

// feedback decrypts in CFB mode from an IV of zeros.
func feedback(block cipher.Block, to, from []byte) {
	var previous, pad [aes.BlockSize]byte
	for at := 0; at < len(from); at += aes.BlockSize {
		block.Encrypt(pad[:], previous[:])
		n := copy(previous[:], from[at:])
		for i := range n {
			to[at+i] = from[at+i] ^ pad[i]
		}
	}
}
