package keywrap

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// Header says what a [Wrapped] is for, section 6 of the protocol. It is
// authenticated along with the secret, and whoever unwraps compares every member
// with what is registered.
type Header struct {
	Version  int               `json:"v"`                 // 1
	By       string            `json:"by"`                // ByOwner or ByBroker
	KeyID    string            `json:"kid"`               // of the key that unwraps, 1 to 64 of [a-z0-9._-]
	Suite    Suite             `json:"suite"`             // of that key
	Tenant   string            `json:"tenant"`            //
	Instance strictjson.UUID   `json:"instance,omitzero"` // exactly one of Instance
	Image    string            `json:"image,omitempty"`   // and Image is there
	Purpose  string            `json:"purpose"`           //
	Epoch    uint64            `json:"epoch"`             // 0 with Image
	Owner    strictjson.Digest `json:"owner,omitzero"`    // thumbprint of the owner key, if there is one
	Policy   strictjson.Digest `json:"policy,omitzero"`   // digest of the policies, if it is for no other
}

// Who wrapped.
const (
	ByOwner  = "owner"
	ByBroker = "broker"
)

const (
	headerVersion = 1
	maxImage      = 256     // bytes of Header.Image
	maxHeader     = 4 << 10 // bytes of its JSON
)

// OwnerSuites returns the suites that owners wrap with, the default first. Both
// may have their P-384 key in a token.
func OwnerSuites() []Suite { return []Suite{MLKEM1024P384, P384} }

// RequestSuites returns the suites of keys that guests seal requests to, the default
// first: hybrid ones only, since the host records what it forwards.
func RequestSuites() []Suite { return []Suite{MLKEM768X25519, MLKEM1024P384} }

// Header returns the header of w, strictly: all members that are not optional,
// exactly one of instance and image, and none that is empty. Nothing of it is
// authenticated before w is unwrapped. Errors wrap ErrOpen.
func (w Wrapped) Header() (Header, error) {
	b, err := strictjson.ParseBase64(string(w.Protected))
	if err != nil {
		return Header{}, fmt.Errorf("%w: header: %w", ErrOpen, err)
	}
	h, err := parseWrapHeader(b)
	if err != nil {
		return Header{}, fmt.Errorf("%w: header: %w", ErrOpen, err)
	}
	return h, nil
}

func parseWrapHeader(b []byte) (Header, error) {
	if len(b) > maxHeader {
		return Header{}, errors.New("too long")
	}
	var h Header
	if err := strictjson.Unmarshal(b, &h); err != nil {
		return Header{}, err
	}
	there, err := strictjson.Members(b)
	if err != nil {
		return Header{}, err
	}
	for _, name := range []string{"v", "by", "kid", "suite", "tenant", "purpose", "epoch"} {
		if there[name] == nil {
			return Header{}, fmt.Errorf("no %s", name)
		}
	}
	// What may be left out is not there with a value that stands for nothing.
	for name, empty := range map[string]bool{
		"instance": h.Instance == strictjson.UUID{}, "image": h.Image == "",
		"owner": h.Owner == strictjson.Digest{}, "policy": h.Policy == strictjson.Digest{},
	} {
		if there[name] != nil && empty {
			return Header{}, fmt.Errorf("empty %s", name)
		}
	}
	if err := h.check(); err != nil {
		return Header{}, err
	}
	return h, nil
}

// check returns an error if h can't be meant.
func (h Header) check() error {
	switch {
	case h.Version != headerVersion:
		return fmt.Errorf("version %d", h.Version)
	case h.By != ByOwner && h.By != ByBroker:
		return errors.New("wrapped by nobody")
	case !names.KeyID(h.KeyID):
		return errors.New("not a key id")
	case h.Suite == "":
		return errors.New("no suite")
	case !names.Tenant(h.Tenant):
		return errors.New("not a tenant")
	case !names.Purpose(h.Purpose):
		return errors.New("not a purpose")
	case (h.Instance == strictjson.UUID{}) == (h.Image == ""):
		return errors.New("not of exactly one instance or image")
	case len(h.Image) > maxImage:
		return errors.New("name of the image too long")
	case h.Image != "" && h.Epoch != 0:
		return errors.New("an image has no epochs")
	}
	return nil
}

// Wrap seals secret, at most MaxSecret bytes, to r as h says, whose Version and
// Suite it sets. Every other member is the caller's. r is of an [OwnerSuites]
// suite: what the broker itself wraps is under a key that is not public. Errors
// of h wrap ErrKey.
func Wrap(r Recipient, h Header, secret []byte) (Wrapped, error) {
	h.Version, h.Suite = headerVersion, r.suite
	err := h.check()
	if err == nil && !ownerSuite(r.suite) {
		err = errors.New("not a suite of owners")
	}
	if err != nil {
		return Wrapped{}, fmt.Errorf("%w: header: %w", ErrKey, err)
	}
	b, err := json.Marshal(h)
	if err != nil {
		return Wrapped{}, fmt.Errorf("keywrap: header: %w", err)
	}
	protected := []byte(b64(b))
	s, err := r.Seal(secret, wrapInfo(protected))
	if err != nil {
		return Wrapped{}, err
	}
	return Wrapped{protected, []byte(b64(s.key)), []byte(b64(s.ciphertext))}, nil
}

// Unwrap opens w with k, which must be of the suite that the header names. The
// caller has compared the header with what is registered, and owns the secret.
// Like those of [Opener], failures to decrypt wrap ErrOpen.
func (w Wrapped) Unwrap(ctx context.Context, k Opener) ([]byte, error) {
	h, err := w.Header()
	if err != nil {
		return nil, err
	}
	p, ok := h.Suite.hpke()
	if !ok || !ownerSuite(h.Suite) || k.Recipient().Suite() != h.Suite {
		return nil, fmt.Errorf("%w: suite", ErrOpen)
	}
	enc, err1 := base64.RawURLEncoding.DecodeString(string(w.Enc))
	ct, err2 := base64.RawURLEncoding.DecodeString(string(w.Ciphertext))
	if err1 != nil || err2 != nil || len(enc) != p.enc || len(ct) < tagSize || len(ct) > MaxSecret+tagSize {
		return nil, fmt.Errorf("%w: lengths", ErrOpen)
	}
	return k.Open(ctx, Sealed{suite: h.Suite, key: enc, ciphertext: ct}, wrapInfo(w.Protected))
}

func ownerSuite(s Suite) bool { return slices.Contains(OwnerSuites(), s) }

// wrapInfo is what is authenticated with a wrapped secret:
// "teebroker/v1/wrap" ‖ 0x00 ‖ protected, as it was received.
func wrapInfo(protected []byte) []byte {
	return append([]byte("teebroker/v1/wrap\x00"), protected...)
}
