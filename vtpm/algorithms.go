package vtpm

import (
	"crypto"
	_ "crypto/sha256" // the hashes of banks and schemes
	_ "crypto/sha512"
	"fmt"
)

// Alg is a TPM_ALG_ID: TCG Algorithm Registry, section 6. Those of hashes name
// the banks of PCRs.
type Alg uint16

// The hashes handled. SHA-1 is not one of them: whoever writes a log can make two
// that lead to one value.
const (
	SHA256 Alg = 0x000B
	SHA384 Alg = 0x000C
	SHA512 Alg = 0x000D
)

// Other algorithms that structures name.
const (
	algRSA    Alg = 0x0001
	algSHA1   Alg = 0x0004
	algAES    Alg = 0x0006
	algNull   Alg = 0x0010
	algRSASSA Alg = 0x0014
	algECDSA  Alg = 0x0018
	algECC    Alg = 0x0023
	algCFB    Alg = 0x0043
)

// hashes are the banks, in the order of their strength.
func hashes() []Alg { return []Alg{SHA256, SHA384, SHA512} }

// String returns the name of a hash as claims and documents have it, such as "sha256".
func (a Alg) String() string {
	switch a {
	case SHA256:
		return "sha256"
	case SHA384:
		return "sha384"
	case SHA512:
		return "sha512"
	}
	return fmt.Sprintf("algorithm %#x", uint16(a))
}

// hash returns the hash that a names, or 0.
func (a Alg) hash() crypto.Hash {
	switch a {
	case SHA256:
		return crypto.SHA256
	case SHA384:
		return crypto.SHA384
	case SHA512:
		return crypto.SHA512
	}
	return 0
}

// size is how many bytes a digest has: 0 for what is no hash handled here.
func (a Alg) size() int {
	if h := a.hash(); h != 0 {
		return h.Size()
	}
	return 0
}

// sum returns the digest of the bytes of parts, one after the other.
func (a Alg) sum(parts ...[]byte) []byte {
	h := a.hash().New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
