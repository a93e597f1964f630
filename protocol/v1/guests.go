package v1

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
)

// nonce answers POST /broker/v1/nonce: a body of {"profile": "verify"} asks for
// one that only [PathVerify] takes, an empty one for one to release with.
func (s *Server) nonce(c *call) (answer, error) {
	p, err := parseNonceRequest(c.body)
	if err != nil {
		return answer{}, err
	}
	var challenge teebroker.Challenge
	switch {
	case p == nonce.ProfileVerify && s.cfg.Verify != nil:
		if challenge.Nonce, challenge.Expires, err = s.cfg.Verify.Issuer.New(p); err != nil {
			return answer{}, unavailable("nonce", err)
		}
	case p == nonce.ProfileV1 && s.cfg.Broker != nil:
		if challenge, err = s.cfg.Broker.Challenge(c.Context(), p); err != nil {
			return answer{}, err
		}
	default:
		return answer{}, &httpError{code: teebroker.MalformedRequest, title: "no nonces of this profile here"}
	}
	return encode(challengeJSON{
		strictjson.Digest(challenge.Nonce), challenge.Expires.UTC().Format(time.RFC3339),
	})
}

// release answers POST /broker/v1/release.
func (s *Server) release(c *call) (answer, error) {
	req, err := ParseRequest(c.body, s.cfg.Allow)
	if err != nil {
		return answer{}, err
	}
	c.body = nil // req has copies, and the verifier may take its time
	r, err := s.cfg.Broker.Answer(c.Context(), req)
	if err != nil {
		return answer{}, err
	}
	if s.cfg.Explain != nil {
		s.cfg.Explain.kept.add(req)
	}
	return jsonAnswer(MarshalResponse(r)), nil
}

// keys answers GET and POST of the keys document of ?tenant=NAME, without it of
// [DefaultTenant].
func (s *Server) keys(c *call) (answer, error) {
	q := c.URL.Query()
	tenant := DefaultTenant
	if q.Has("tenant") {
		tenant = q.Get("tenant")
	}
	if len(q) > 1 || len(q["tenant"]) > 1 || len(q) == 1 && !q.Has("tenant") {
		return answer{}, &httpError{code: teebroker.MalformedRequest, title: "query: want tenant or nothing"}
	}
	doc, err := s.cfg.Keys(c.Context(), tenant)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, "application/jose", doc}, nil
}

// health answers that the process is there.
func (s *Server) health(*call) (answer, error) {
	return answer{http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n")}, nil
}

// ready answers whether requests can be answered. What is missing, the log says.
func (s *Server) ready(c *call) (answer, error) {
	if err := s.stopped(); err != nil {
		return answer{}, &httpError{code: teebroker.Unavailable, title: "nothing is released: the record is not the one that was seen", cause: err}
	}
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(c.Context()); err != nil {
			return answer{}, unavailable("not ready", err)
		}
	}
	return answer{http.StatusOK, "text/plain; charset=utf-8", []byte("ready\n")}, nil
}

// stopped returns why nothing is released, or nil.
func (s *Server) stopped() error {
	if s.cfg.Checkpoints == nil {
		return nil
	}
	return s.cfg.Checkpoints.Stopped()
}

// encode answers with v as JSON.
func encode(v any) (answer, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return answer{}, unavailable("encoding", err)
	}
	return jsonAnswer(b), nil
}
