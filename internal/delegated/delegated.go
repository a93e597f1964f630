// Package delegated is what verifiers have in common that ask another service
// whether evidence is genuine: who answered, by its TLS identity, and claims that say
// that they are by its word.
package delegated

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// maxReply bounds an answer in bytes.
const maxReply = 1 << 20

// Service is who is asked.
type Service struct {
	URL string // https://, without query

	// HTTP knows the roots, or the certificate, that the service shows.
	HTTP *http.Client

	// Keys, if there are any, are SHA-256 of the SubjectPublicKeyInfos that the
	// service may have. Without them its certificate has to chain to a root of HTTP.
	Keys [][32]byte

	AllowPlainHTTPUnsafe bool
}

// Client asks a Service. It is safe for concurrent use if its HTTP client is.
type Client struct {
	base *url.URL
	http http.Client
	keys [][32]byte
}

// New returns a Client, or an error that names the field at fault.
func New(s Service) (*Client, error) {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("URL is not the URL of a service")
	case u.Scheme != "https" && !(u.Scheme == "http" && s.AllowPlainHTTPUnsafe):
		return nil, errors.New("URL is not https://: nothing would say who answers")
	case s.HTTP == nil:
		return nil, errors.New("HTTP is required")
	}
	c := &Client{u, *s.HTTP, slices.Clone(s.Keys)}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// Name names the service in claims.
func (c *Client) Name() string { return c.base.String() }

// Reply is an answer and who gave it.
type Reply struct {
	Status int
	Body   []byte

	// Root is SHA-256 of the SubjectPublicKeyInfo that the service showed, or, by
	// plain HTTP, of its URL.
	Root     [32]byte
	NotAfter time.Time // of its certificate; zero by plain HTTP
}

// Post posts JSON to the path below the URL. It follows no redirect.
func (c *Client) Post(ctx context.Context, path string, body []byte) (*Reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	r := &Reply{Status: resp.StatusCode, Root: sha256.Sum256([]byte(c.Name()))}
	if c.base.Scheme == "https" {
		leaf, err := c.leaf(resp)
		if err != nil {
			return nil, err
		}
		r.Root, r.NotAfter = sha256.Sum256(leaf.RawSubjectPublicKeyInfo), leaf.NotAfter
	}
	r.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, err
	case len(r.Body) > maxReply:
		return nil, fmt.Errorf("an answer of more than %d bytes", maxReply)
	}
	return r, nil
}

// leaf returns the certificate of who answered. A client that does not look at
// certificates serves only with Keys.
func (c *Client) leaf(resp *http.Response) (*x509.Certificate, error) {
	if resp.TLS == nil || len(resp.TLS.PeerCertificates) == 0 {
		return nil, errors.New("the service shows no certificate")
	}
	leaf := resp.TLS.PeerCertificates[0]
	if len(c.keys) == 0 && len(resp.TLS.VerifiedChains) == 0 {
		return nil, errors.New("nobody verified the certificate of the service")
	}
	if len(c.keys) > 0 && !slices.Contains(c.keys, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)) {
		return nil, errors.New("the service has another key")
	}
	return leaf, nil
}

// Claim is a claim under its stable name.
type Claim struct {
	Name  string
	Value evidence.Value
}

// Claims are claims by the word of another service. They are of no type that
// reference values of a format take: a policy has to name what it takes from others.
type Claims []Claim

// All implements [evidence.Claims].
func (cs Claims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for _, c := range cs {
			if !yield(c.Name, c.Value) {
				return
			}
		}
	}
}

// Earliest returns the earliest of ts that is not zero.
func Earliest(ts ...time.Time) (first time.Time) {
	for _, t := range ts {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
