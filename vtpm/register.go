package vtpm

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
)

// register is a PCR that is replayed: zeros at first. It makes no garbage, as lists
// have a hundred thousand lines.
type register struct {
	bank Alg
	size int
	buf  [2 * sha512.Size]byte // value, and what it is extended with
}

func newRegister(bank Alg) *register { return &register{bank: bank, size: bank.size()} }

// extend extends r with the digest of data.
func (r *register) extend(data []byte) {
	r.sum(r.buf[r.size:], data)
	r.sum(r.buf[:], r.buf[:2*r.size])
}

// extendOnes extends r with all bits set, which stands for a violation.
func (r *register) extendOnes() {
	for i := r.size; i < 2*r.size; i++ {
		r.buf[i] = 0xFF
	}
	r.sum(r.buf[:], r.buf[:2*r.size])
}

func (r *register) sum(to, data []byte) {
	switch r.bank {
	case SHA256:
		d := sha256.Sum256(data)
		copy(to, d[:])
	case SHA384:
		d := sha512.Sum384(data)
		copy(to, d[:])
	case SHA512:
		d := sha512.Sum512(data)
		copy(to, d[:])
	}
}

func (r *register) is(want Octets) bool { return bytes.Equal(r.buf[:r.size], []byte(want)) }
