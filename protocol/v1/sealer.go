package v1

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// A Sealer seals what a guest asks to the request key of the broker that it pins. It
// is for guests whose messages somebody else carries; a [Client] with
// ClientConfig.SealTo has its own. It is immutable and safe for concurrent use.
type Sealer struct {
	keys teebroker.KeysDocument
	now  func() time.Time
}

// NewSealer returns a Sealer by the keys document of no tenant, which it verifies:
// nothing is sealed to a key that the broker with this id did not sign for the
// present. If now is nil it is time.Now. Errors wrap teebroker.ErrKeys.
func NewSealer(keys []byte, broker [32]byte, now func() time.Time) (*Sealer, error) {
	if now == nil {
		now = time.Now
	}
	d, err := teebroker.VerifyKeys(keys, broker, "", now())
	if err != nil {
		return nil, fmt.Errorf("v1: %w", err)
	}
	if _, err := d.RequestKey(now()); err != nil {
		return nil, fmt.Errorf("v1: %w", err)
	}
	return &Sealer{d, now}, nil
}

// fresh reports whether the document of s is good still.
func (s *Sealer) fresh() bool {
	now := s.now()
	_, err := s.keys.RequestKey(now)
	return err == nil && now.Unix() < s.keys.Expires
}

var errNotSealable = errors.New("v1: not what is asked in a sealed request")

// Seal returns the body of a POST to [PathSealed] that asks what body asks under
// path: PathNonce, PathRelease, PathConfirm, or one for TPMs. Path and body together
// have 1 MiB at most, less 41 bytes. The same body may be sent again, and may be
// sealed again: both are answered as the body itself would be. Without a key that is
// good still, the error wraps teebroker.ErrKeys.
func (s *Sealer) Seal(path string, body []byte) (sealed []byte, answer *SealedAnswer, err error) {
	if !sealable(path) {
		return nil, nil, errNotSealable
	}
	if !s.fresh() {
		return nil, nil, fmt.Errorf("v1: %w: expired", teebroker.ErrKeys)
	}
	a := asked{path: path, body: body}
	rand.Read(a.reply[:])
	plain := a.encode()
	defer clear(plain)
	if len(plain) > keywrap.MaxSecret {
		return nil, nil, fmt.Errorf("v1: sealed request: %w", teebroker.TooLarge)
	}
	box, err := s.keys.SealRequest(plain, s.now())
	if err != nil {
		return nil, nil, fmt.Errorf("v1: %w", err)
	}
	b, err := json.Marshal(sealedJSON{version, box})
	return b, &SealedAnswer{a.reply}, err
}

// SealedAnswer opens the answers to one sealed request, and no others.
type SealedAnswer struct{ reply [replySize]byte }

// ErrNotSealed is wrapped when an answer to a sealed request is not the broker's: it
// does not open, or is a refusal in the clear that only who read the request could
// make. Whoever is between made it, or the request did not arrive as it was sent.
var ErrNotSealed = errors.New("v1: not the broker's answer to this sealed request")

// Open returns the answer that was sealed, or the [*Problem] that it is. Errors of
// what is not the broker's answer wrap ErrNotSealed.
func (a *SealedAnswer) Open(body []byte) ([]byte, error) {
	var j sealedAnswerJSON
	if err := strictjson.Unmarshal(body, &j); err != nil || j.V != version || len(j.Salt) != saltSize {
		return nil, ErrNotSealed
	}
	aead, iv, err := replyAEAD(a.reply, j.Salt)
	if err != nil {
		return nil, fmt.Errorf("v1: %w", err)
	}
	plain, err := aead.Open(nil, iv, j.CT, nil)
	if err != nil {
		return nil, ErrNotSealed
	}
	s, err := parseSaid(plain)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNotSealed, err)
	case s.status/100 != 2:
		return nil, problemIn(s.status, s.kind, s.retryAfter, s.body)
	}
	return s.body, nil
}

// ErrNoRequestKey is wrapped by the error of a Client with SealTo that got no request
// key of the broker: nothing was asked.
var ErrNoRequestKey = errors.New("v1: no request key of the broker, and nothing is asked in the clear")

// sealing is what a Client needs to ask in sealed requests only.
type sealing struct {
	broker [32]byte
	now    func() time.Time
	allow  bool // ClientConfig.AllowUnsealed

	mu     sync.Mutex
	sealer *Sealer // or nil
}

// get returns a Sealer, by a new keys document if again is true.
func (s *sealing) get(ctx context.Context, c *Client, again bool) (*Sealer, error) {
	s.mu.Lock()
	known := s.sealer
	s.mu.Unlock()
	if known != nil && !again && known.fresh() {
		return known, nil
	}
	doc, err := c.Keys(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRequestKey, err)
	}
	found, err := NewSealer(doc, s.broker, s.now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRequestKey, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealer = found
	return found, nil
}

// seal asks what body asks under path in a sealed request. A key that the broker does
// not have any more is looked up once more.
func (c *Client) seal(ctx context.Context, path, kind string, body []byte) ([]byte, error) {
	if !sealable(path) {
		return nil, errNotSealable
	}
	for again := range 2 {
		sealer, err := c.sealing.get(ctx, c, again > 0)
		if err != nil {
			if c.sealing.allow && ctx.Err() == nil && !errors.Is(err, ErrUnreachable) {
				return c.send(ctx, http.MethodPost, path, kind, body)
			}
			return nil, err
		}
		sealed, answer, err := sealer.Seal(path, body)
		if err != nil {
			return nil, err
		}
		b, err := c.send(ctx, http.MethodPost, PathSealed, "application/json", sealed)
		if err == nil {
			return answer.Open(b)
		}
		if !errors.Is(err, teebroker.MalformedRequest) || again > 0 {
			return nil, inTheClear(err)
		}
	}
	return nil, ErrNotSealed // not reached
}

// inTheClear returns what an error means that was not sealed: nothing but what a
// broker may say before it opened a request is taken for its word.
func inTheClear(err error) error {
	var p *Problem
	if !errors.As(err, &p) {
		return err
	}
	switch teebroker.Refusal(p.Code) {
	case teebroker.MalformedRequest, teebroker.TooLarge, teebroker.RateLimited, teebroker.Unavailable:
		return err
	}
	return fmt.Errorf("%w: %s in the clear", ErrNotSealed, p.Code)
}
