package v1

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
)

// Challenge asks for a nonce of p, which is of v1 or verify. Whoever is between
// can exchange it; evidence for a nonce of somebody else is refused.
func (c *Client) Challenge(ctx context.Context, p nonce.Profile) (teebroker.Challenge, error) {
	var j challengeJSON
	if err := c.call(ctx, http.MethodPost, PathNonce, nonceJSON{p}, &j); err != nil {
		return teebroker.Challenge{}, err
	}
	expires, err := time.Parse(time.RFC3339, j.Expires)
	if err != nil {
		return teebroker.Challenge{}, fmt.Errorf("v1: answer: expires: %w", err)
	}
	return teebroker.Challenge{Nonce: nonce.Nonce(j.Nonce), Expires: expires}, nil
}

// Release sends what MarshalRequest returned. The same bytes may be sent again:
// they get the same answer.
func (c *Client) Release(ctx context.Context, request []byte) (teebroker.Response, error) {
	b, err := c.do(ctx, http.MethodPost, PathRelease, "application/json", request)
	if err != nil {
		return teebroker.Response{}, err
	}
	return ParseResponse(b)
}

// Keys returns the signed keys document of tenant as it is. Nothing in it is to be
// believed until teebroker.VerifyKeys returned it.
func (c *Client) Keys(ctx context.Context, tenant string) ([]byte, error) {
	return c.do(ctx, http.MethodGet, PathKeys+"?tenant="+url.QueryEscape(tenant), "", nil)
}

// Ready returns nil if the service says that it can answer.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodGet, PathReady, "", nil)
	return err
}
