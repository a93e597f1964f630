package v1

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// ClientConfig says which service a Client asks.
type ClientConfig struct {
	URL string // of the service, such as https://broker.example:8443; a path in it comes before those of v1

	// HTTP makes the requests, and says by its TLS configuration which peer is
	// the right one. If nil, one with the system's roots, 30 seconds for each
	// request and no redirects. It is used as it is otherwise.
	HTTP *http.Client

	Token  string // of an owner, or ""
	Tenant string // that Token has to be of, or "" for whatever it is of

	// OrderKey is an owner key, ECDSA on P-384, which may be in a token. With it all
	// that is asked about instances, but to hold and to revoke, and of policies, is
	// ordered: for what the broker says that the instance is at the time. One that
	// has another owner key, or none, is ErrOwnerKey. It needs Tenant.
	OrderKey crypto.Signer

	// AllowPlainHTTP takes http:// for a host that is not this one. Whoever is
	// between can then read the token, answer in the place of the service, and
	// see what is asked. Guests may do it: they compare all that they are told.
	AllowPlainHTTP bool

	// SealTo is the id of the broker that a guest pins. If it is not zero, Challenge,
	// Release, Confirm and TPMs ask in sealed requests: whoever is between sees sizes and
	// times only. The keys document of no tenant says to which key; it is fetched and
	// verified when it is needed. Nothing is asked in the clear but that. Not for owners.
	SealTo [32]byte

	// AllowUnsealed asks in the clear where no request key of the broker can be had.
	// Whoever is between can see to that.
	AllowUnsealed bool

	Time func() time.Time // by which keys documents and orders expire; if nil, time.Now
}

// Client asks a service that a [Server] serves. Errors of the service are
// [*Problem]; anything else means that the outcome is not known. It is safe for
// concurrent use.
type Client struct {
	base   *url.URL
	http   *http.Client
	token  string
	tenant string

	orderKey crypto.Signer // or nil
	now      func() time.Time

	sealing *sealing // or nil
}

// NewClient returns a Client, or an error that says what is wrong with cfg.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("v1: not a URL")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("v1: want a URL such as https://broker.example:8443")
	case u.User != nil:
		return nil, errors.New("v1: no credentials in the URL: use a token")
	case u.Scheme == "http" && !cfg.AllowPlainHTTP && !loopback(u.Hostname()):
		return nil, errors.New("v1: http:// to another host is refused: the token and the answers would be anybody's")
	case cfg.Token != "" && !isToken(cfg.Token):
		return nil, errors.New("v1: not a token")
	case cfg.SealTo != [32]byte{} && (cfg.Token != "" || cfg.Tenant != ""):
		return nil, errors.New("v1: owners don't ask in sealed requests")
	case cfg.OrderKey != nil && cfg.Tenant == "":
		return nil, errors.New("v1: OrderKey needs Tenant, which orders name")
	case cfg.SealTo == [32]byte{} && cfg.AllowUnsealed:
		return nil, errors.New("v1: AllowUnsealed is for SealTo")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if cfg.OrderKey != nil {
		if _, err := teebroker.OrderKey(cfg.OrderKey); err != nil {
			return nil, fmt.Errorf("v1: OrderKey: %w", err)
		}
	}
	c := &Client{base: u, http: cfg.HTTP, token: cfg.Token, tenant: cfg.Tenant, orderKey: cfg.OrderKey, now: cfg.Time}
	if c.now == nil {
		c.now = time.Now
	}
	if c.http == nil {
		c.http = &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
	}
	if cfg.SealTo != [32]byte{} {
		c.sealing = &sealing{broker: cfg.SealTo, now: cfg.Time, allow: cfg.AllowUnsealed}
	}
	return c, nil
}

// loopback reports whether host is this one, whoever answers for names.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// maxAnswer bounds what is read of an answer: a page of the record, or claims.
const maxAnswer = 64 << 20

// do asks what body asks and returns the body of the answer.
func (c *Client) do(ctx context.Context, method, path, kind string, body []byte) ([]byte, error) {
	if c.sealing == nil || strings.HasPrefix(path, PathKeys+"?") || path == PathReady {
		return c.send(ctx, method, path, kind, body)
	}
	return c.seal(ctx, path, kind, body)
}

// send sends body and returns the body of the answer.
func (c *Client) send(ctx context.Context, method, path, kind string, body []byte) ([]byte, error) {
	path, query, _ := strings.Cut(path, "?")
	u := *c.base
	u.Path += path
	u.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("v1: %w", err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.tenant != "" {
		req.Header.Set(HeaderTenant, c.tenant)
	}
	setOrder(req)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("v1: %w", reach(err))
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("v1: the answer ended early: %w", err)
	case len(b) > maxAnswer:
		return nil, errors.New("v1: the answer is too long")
	case resp.StatusCode/100 != 2:
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return nil, problemIn(resp.StatusCode, resp.Header.Get("Content-Type"), after, b)
	}
	return b, nil
}

// ErrUnreachable is wrapped by the error of a Client that reached no service: the
// request was not sent.
var ErrUnreachable = errors.New("the service can't be reached")

// reach marks an error of dialling.
func reach(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// problemIn returns the error in an answer. What is between may answer with
// anything: only a Problem of this protocol is taken for one.
func problemIn(status int, kind string, retryAfter int, body []byte) error {
	var p Problem
	if strings.HasPrefix(kind, problemKind) {
		if err := strictjson.Unmarshal(body, &p); err == nil && p.Code != "" && len(body) <= maxSmall {
			p.Status, p.RetryAfter = status, retryAfter
			return &p
		}
	}
	return fmt.Errorf("v1: status %d without a word of the protocol", status)
}

// call sends v as JSON, nothing if it is nil, and decodes the answer into out.
func (c *Client) call(ctx context.Context, method, path string, v, out any) error {
	var body []byte
	var kind string
	if v != nil {
		var err error
		if body, err = json.Marshal(v); err != nil {
			return fmt.Errorf("v1: %w", err)
		}
		kind = "application/json"
	}
	answer, err := c.do(ctx, method, path, kind, body)
	if err != nil || out == nil {
		return err
	}
	if err := strictjson.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("v1: answer: %w", err)
	}
	return nil
}
