package v1

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// What is sealed to a request key, section 4 of the protocol:
//
//	version(1) ‖ reply key(32) ‖ LP(path) ‖ LP(body) ‖ zeros
//
// and what is sealed under the reply key:
//
//	version(1) ‖ u16 status ‖ u32 Retry-After ‖ LP(Content-Type) ‖ LP(body) ‖ zeros
//
// Zeros fill up to 16 KiB, or as often twice that as it takes: a nonce, a confirm, a
// refusal and most releases are of one size.
const (
	leastSealed = 16 << 10
	replySize   = 32
	saltSize    = 32

	maxRetryAfter = 24 * 60 * 60 // seconds
)

// sealedJSON is the body of a sealed request.
type sealedJSON struct {
	V int `json:"v"`
	teebroker.SealedRequest
}

// sealedAnswerJSON answers it.
type sealedAnswerJSON struct {
	V    int               `json:"v"`
	Salt strictjson.Base64 `json:"salt"` // 32 bytes, of which, with the reply key, AES key and IV are made
	CT   strictjson.Base64 `json:"ct"`   // with the tag
}

// sealable reports whether a guest may ask under path in a sealed request: what
// guests ask without credentials on their way to a secret. The keys document is
// what they need before.
func sealable(path string) bool {
	switch path {
	case PathNonce, PathRelease, PathConfirm, PathTPMNonce, PathTPMBind, PathTPMActivate:
		return true
	}
	return false
}

// padded returns the size to which n bytes are filled up.
func padded(n int) int {
	size := leastSealed
	for size < n {
		size *= 2
	}
	return size
}

func pad(b []byte) []byte { return append(b, make([]byte, padded(len(b))-len(b))...) }

var errFraming = errors.New("what was sealed is not of the form that the protocol has")

// parts returns the two that follow, of something sealed, the first head bytes, and
// nothing else but zeros.
func parts(plain []byte, head int) (first, second []byte, err error) {
	if len(plain) < leastSealed || plain[0] != version {
		return nil, nil, errFraming
	}
	rest := plain[head:]
	for _, part := range []*[]byte{&first, &second} {
		if len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-4) {
			return nil, nil, errFraming
		}
		end := 4 + binary.BigEndian.Uint32(rest)
		*part, rest = rest[4:end], rest[end:]
	}
	used := len(plain) - len(rest)
	if padded(used) != len(plain) || bytes.Count(rest, []byte{0}) != len(rest) {
		return nil, nil, errFraming
	}
	return first, second, nil
}

func lp(b, x []byte) []byte { return append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...) }

// asked is what a guest sealed.
type asked struct {
	path  string
	reply [replySize]byte
	body  []byte
}

func (a asked) encode() []byte {
	b := append([]byte{version}, a.reply[:]...)
	return pad(lp(lp(b, []byte(a.path)), a.body))
}

// parseAsked returns what plain says. The body shares its memory.
func parseAsked(plain []byte) (asked, error) {
	path, body, err := parts(plain, 1+replySize)
	if err != nil {
		return asked{}, err
	}
	return asked{string(path), [replySize]byte(plain[1:]), body}, nil
}

// said is what a server answers under a reply key.
type said struct {
	status, retryAfter int
	kind               string
	body               []byte
}

func (s said) encode() []byte {
	b := binary.BigEndian.AppendUint16([]byte{version}, uint16(s.status))
	b = binary.BigEndian.AppendUint32(b, uint32(s.retryAfter))
	return pad(lp(lp(b, []byte(s.kind)), s.body))
}

func parseSaid(plain []byte) (said, error) {
	kind, body, err := parts(plain, 1+2+4)
	if err != nil {
		return said{}, err
	}
	status, retry := binary.BigEndian.Uint16(plain[1:]), binary.BigEndian.Uint32(plain[3:])
	if status < 200 || status > 599 || retry > maxRetryAfter {
		return said{}, errFraming
	}
	return said{int(status), int(retry), string(kind), body}, nil
}

// replyAEAD returns AES-256-GCM and the IV for one answer:
// HKDF-SHA-256(reply key, salt, "teebroker/v1/sealed-answer"), 32 and 12 bytes.
func replyAEAD(reply [replySize]byte, salt []byte) (cipher.AEAD, []byte, error) {
	okm, err := hkdf.Key(sha256.New, reply[:], salt, "teebroker/v1/sealed-answer", 32+12)
	if err != nil {
		return nil, nil, err
	}
	defer clear(okm[:32])
	block, err := aes.NewCipher(okm[:32])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, okm[32:], err
}

// sealed answers POST /broker/v1/sealed: a request that only the broker reads, with
// an answer that only its guest reads, refusals included. What can't be opened is
// refused in the clear.
func (s *Server) sealed(c *call) (answer, error) {
	a, err := s.opened(c)
	if err != nil {
		return answer{}, err
	}
	defer clear(a.reply[:])
	c.body = nil
	c.inner = s.inside(c, a)
	var salt [saltSize]byte
	rand.Read(salt[:])
	aead, iv, err := replyAEAD(a.reply, salt[:])
	if err != nil {
		return answer{}, unavailable("sealing", err)
	}
	return encode(sealedAnswerJSON{version, salt[:], aead.Seal(nil, iv, c.inner.said.encode(), nil)})
}

// inner is what became of what was sealed.
type inner struct {
	route, code string
	err         error
	said        said
}

// inside answers a as if it had come in the clear from somebody without credentials.
func (s *Server) inside(c *call, a asked) *inner {
	in := &call{Request: c.Request, id: c.id, body: a.body}
	got, err := s.ask(in, a.path)
	if err != nil {
		p := problemOf(err, c.id)
		return &inner{in.route.Path, p.Code, err, said{p.Status, p.RetryAfter, problemKind, p.encode()}}
	}
	return &inner{in.route.Path, "", nil, said{status: got.status, kind: got.kind, body: got.body}}
}

// opened returns what the guest of c sealed.
func (s *Server) opened(c *call) (asked, error) {
	var j sealedJSON
	if err := strictjson.Unmarshal(c.body, &j); err != nil {
		return asked{}, malformed(err)
	}
	if j.V != version {
		return asked{}, malformed(fmt.Errorf("v is %d, not %d", j.V, version))
	}
	plain, err := s.cfg.Broker.OpenRequest(c.Context(), j.SealedRequest)
	if err != nil {
		return asked{}, err
	}
	a, err := parseAsked(plain)
	if err != nil {
		clear(plain)
		return asked{}, malformed(err)
	}
	clear(plain[1 : 1+replySize]) // a has a copy
	return a, nil
}

// ask answers c, which was sealed and is for path.
func (s *Server) ask(c *call, path string) (answer, error) {
	if !sealable(path) {
		return answer{}, &httpError{http.StatusNotFound, teebroker.MalformedRequest, "not what is asked in a sealed request", nil}
	}
	for _, r := range s.routes {
		if r.Path != path || r.Method != http.MethodPost || r.kind != everybody {
			continue
		}
		c.route = r
		if int64(len(c.body)) > r.limit {
			return answer{}, &httpError{code: teebroker.TooLarge, title: fmt.Sprintf("more than %d bytes", r.limit)}
		}
		return r.handle(c)
	}
	return answer{}, &httpError{http.StatusNotFound, teebroker.MalformedRequest, "nothing is served under this path", nil}
}
