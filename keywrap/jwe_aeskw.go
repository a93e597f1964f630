package keywrap

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// aeskwIV is the initial value of RFC 3394 section 2.2.3.1.
const aeskwIV = 0xa6a6a6a6a6a6a6a6

// wrapAES wraps key, 16 bytes or more and a multiple of 8, with AES Key Wrap
// (RFC 3394 section 2.2.1). The result is 8 bytes longer.
func wrapAES(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(key) < 16 || len(key)%8 != 0 {
		return nil, errors.New("length of key to wrap")
	}
	out := make([]byte, 8+len(key))
	copy(out[8:], key)
	n := uint64(len(key) / 8)
	a := uint64(aeskwIV)
	var b [16]byte
	defer clear(b[:])
	for j := range uint64(6) {
		for i := uint64(1); i <= n; i++ {
			half := out[8*i : 8*i+8]
			binary.BigEndian.PutUint64(b[:8], a)
			copy(b[8:], half)
			block.Encrypt(b[:], b[:])
			a = binary.BigEndian.Uint64(b[:8]) ^ (n*j + i)
			copy(half, b[8:])
		}
	}
	binary.BigEndian.PutUint64(out[:8], a)
	return out, nil
}

// unwrapAES undoes wrapAES (RFC 3394 section 2.2.2).
func unwrapAES(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(wrapped) < 24 || len(wrapped)%8 != 0 {
		return nil, errors.New("length of wrapped key")
	}
	out := make([]byte, len(wrapped)-8)
	copy(out, wrapped[8:])
	n := uint64(len(out) / 8)
	a := binary.BigEndian.Uint64(wrapped[:8])
	var b [16]byte
	defer clear(b[:])
	for j := uint64(6); j > 0; j-- {
		for i := n; i > 0; i-- {
			half := out[8*i-8 : 8*i]
			binary.BigEndian.PutUint64(b[:8], a^(n*(j-1)+i))
			copy(b[8:], half)
			block.Decrypt(b[:], b[:])
			a = binary.BigEndian.Uint64(b[:8])
			copy(half, b[8:])
		}
	}
	var got, want [8]byte
	binary.BigEndian.PutUint64(got[:], a)
	binary.BigEndian.PutUint64(want[:], aeskwIV)
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		clear(out)
		return nil, errors.New("integrity of wrapped key")
	}
	return out, nil
}
