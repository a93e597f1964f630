package v1

import (
	"crypto/rand"
	"encoding/json"
)

// SealUnsafe seals what no guest seals.
func SealUnsafe(s *Sealer, path string, body []byte) ([]byte, *SealedAnswer, error) {
	a := asked{path: path, body: body}
	rand.Read(a.reply[:])
	return SealPlainUnsafe(s, a.encode(), a.reply)
}

// SealPlainUnsafe seals plain as it is.
func SealPlainUnsafe(s *Sealer, plain []byte, reply [32]byte) ([]byte, *SealedAnswer, error) {
	box, err := s.keys.SealRequest(plain, s.now())
	if err != nil {
		return nil, nil, err
	}
	b, err := json.Marshal(sealedJSON{version, box})
	return b, &SealedAnswer{reply}, err
}
