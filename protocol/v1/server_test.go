package v1_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

func TestNewRefuses(t *testing.T) {
	b := newWorld(t, nil).broker
	for name, cfg := range map[string]v1.Config{
		"nothing":                  {},
		"a broker that takes none": {Broker: b},
		"a negative limit":         {Broker: b, Allow: v1.Suites(), Concurrent: -1},
		"a verifier of nothing":    {Verify: &v1.VerifyConfig{}},
		"an explanation of none":   {Broker: b, Allow: v1.Suites(), Explain: &v1.ExplainConfig{Verifier: verifier(), Decoders: policy.Decoders{}}},
	} {
		if _, err := v1.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What has no route is a problem, and so is what is spelled otherwise.
func TestUnknownPaths(t *testing.T) {
	w := newWorld(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/broker/v1", 404, ""},
		{"POST", "/broker/v1/release/", 404, ""},
		{"POST", "/broker/v1//release", 404, ""},
		{"POST", "/broker/v1/./release", 404, ""},
		{"POST", "/broker/v1/%72elease", 404, ""},
		{"POST", "/broker/v1/verify", 404, ""}, // not configured
		{"GET", "/broker/v1/record", 404, ""},  // no owner's side
		{"GET", "/broker/v1/release", 405, "POST"},
		{"HEAD", "/healthz", 405, "GET"},
		{"OPTIONS", "/broker/v1/nonce", 405, "POST"},
		{"GET", "/healthz", 200, ""},
		{"GET", "/readyz", 200, ""},
	} {
		resp := w.get(tt.method, tt.path, nil)
		kind := resp.Header.Get("Content-Type")
		if resp.StatusCode != tt.status || resp.Header.Get("Allow") != tt.allow ||
			(tt.status != 200) != (kind == "application/problem+json") || len(resp.Header.Get("Request-Id")) != 16 {
			t.Errorf("%s %s: %d, %v", tt.method, tt.path, resp.StatusCode, resp.Header)
		}
	}
}

func TestNotReady(t *testing.T) {
	w := newWorld(t, func(_ *world, _ *teebroker.Config, c *v1.Config) {
		c.Ready = func(context.Context) error { return errors.New("the store is gone") }
	})
	if err := w.client(nil).Ready(t.Context()); code(err) != "unavailable" || strings.Contains(err.Error(), "gone") {
		t.Error(err)
	}
	if !strings.Contains(w.last().Err.Error(), "the store is gone") {
		t.Error("the log doesn't say why")
	}
	if resp := w.get("GET", "/healthz", nil); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// A body is read up to the limit of its path, whatever length it claims.
func TestBodies(t *testing.T) {
	w := newWorld(t, nil)
	post := func(path string, body io.Reader) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", w.http.URL+path, body)
		w.check(err)
		resp, err := http.DefaultClient.Do(req)
		w.check(err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		w.check(err)
		return resp.StatusCode, string(b)
	}
	long := strings.Repeat(" ", v1.MaxRelease+1)
	for _, tt := range []struct {
		name, path string
		body       io.Reader
		status     int
		code       string
	}{
		{"too long", v1.PathRelease, strings.NewReader(long), 413, "too-large"},
		{"too long, of unknown length", v1.PathRelease, io.MultiReader(strings.NewReader(long)), 413, "too-large"},
		{"not JSON", v1.PathRelease, strings.NewReader("{"), 400, "malformed-request"},
		{"empty", v1.PathRelease, nil, 400, "malformed-request"},
		{"a nonce of a profile that has none here", v1.PathNonce, strings.NewReader(`{"profile":"kbs-coco"}`), 400, "malformed-request"},
		{"a nonce of verification, which is elsewhere", v1.PathNonce, strings.NewReader(`{"profile":"verify"}`), 400, "malformed-request"},
		{"a nonce, and more", v1.PathNonce, strings.NewReader(`{"profile":"v1","x":1}`), 400, "malformed-request"},
	} {
		status, body := post(tt.path, tt.body)
		if status != tt.status || !strings.Contains(body, `"code":"`+tt.code+`"`) || !strings.Contains(body, `"type":"urn:teebroker:`+tt.code) {
			t.Errorf("%s: %d %s", tt.name, status, body)
		}
	}
	if status, body := post(v1.PathNonce, nil); status != 200 || !strings.Contains(body, `"nonce":"`) {
		t.Error(status, body)
	}
}

// failing is a verifier that can't be reached.
type failing struct{}

func (failing) Verify(context.Context, evidence.Evidence, evidence.Binding) (*evidence.Verified, error) {
	return nil, errors.New("10.0.0.7: connection refused")
}

// A peer hears a code; what is behind it only the log hears.
func TestCauseStaysInside(t *testing.T) {
	w := newWorld(t, func(_ *world, c *teebroker.Config, _ *v1.Config) { c.Verifier = failing{} })
	c := w.client(nil)
	_, err := c.Release(t.Context(), w.request(w.session(), c))
	var p *v1.Problem
	if !errors.As(err, &p) || p.Status != 503 || p.RetryAfter != 1 || strings.Contains(err.Error(), "10.0.0.7") {
		t.Error(err)
	}
	if !errors.Is(err, teebroker.Unavailable) || !errors.Is(err, evidence.Unavailable) || errors.Is(err, teebroker.Denied) {
		t.Error("the error of the client matches something else")
	}
	e := w.last()
	if e.ID != p.Request || !strings.Contains(e.Err.Error(), "10.0.0.7") || e.Code != "unavailable" || e.Route != v1.PathRelease {
		t.Errorf("%+v", e)
	}
}

// Who asks too often is refused before anything is read, by address; others, and
// who waited, are not.
func TestRateOfSource(t *testing.T) {
	w := newWorld(t, func(_ *world, _ *teebroker.Config, c *v1.Config) {
		c.PerSource = v1.Rate{Burst: 3, Every: time.Second}
	})
	c := w.client(nil)
	for range 3 {
		if _, err := c.Challenge(t.Context(), nonce.ProfileV1); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Challenge(t.Context(), nonce.ProfileV1)
	if p := (*v1.Problem)(nil); !errors.As(err, &p) || p.Status != 429 || p.RetryAfter < 1 {
		t.Error(err)
	}
	if w.get("GET", "/healthz", nil).StatusCode != 200 {
		t.Error("health is limited")
	}
	w.pass(time.Second)
	if _, err := c.Challenge(t.Context(), nonce.ProfileV1); err != nil {
		t.Error(err)
	}
}

// waiting verifies nothing before it is told to.
type waiting struct {
	evidence.Verifier
	in, out chan struct{}
}

func (v waiting) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	v.in <- struct{}{}
	<-v.out
	return v.Verifier.Verify(ctx, ev, want)
}

// Beyond Concurrent requests others wait, and are told unavailable at last.
func TestConcurrent(t *testing.T) {
	v := waiting{verifier(), make(chan struct{}), make(chan struct{})}
	w := newWorld(t, func(_ *world, c *teebroker.Config, s *v1.Config) {
		c.Verifier = v
		s.Concurrent, s.Patience = 1, time.Millisecond
	})
	c := w.client(nil)
	body := w.request(w.session(), c)
	done := make(chan error)
	go func() {
		_, err := c.Release(t.Context(), body)
		done <- err
	}()
	<-v.in
	if _, err := c.Challenge(t.Context(), nonce.ProfileV1); code(err) != "unavailable" {
		t.Error(err)
	}
	close(v.out)
	if err := <-done; code(err) != "denied" { // nothing is registered
		t.Error(err)
	}
	if _, err := c.Challenge(t.Context(), nonce.ProfileV1); err != nil {
		t.Error(err)
	}
}

// Who sends a body slowly, or never, holds up nobody else.
func TestSlowBody(t *testing.T) {
	w := newWorld(t, func(_ *world, _ *teebroker.Config, s *v1.Config) {
		s.Concurrent, s.Patience = 1, time.Millisecond
	})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", w.http.Listener.Addr().String())
	w.check(err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST "+v1.PathRelease+" HTTP/1.1\r\nHost: broker\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
	w.check(err)
	// The server says so when it begins to read.
	awaitContinue(t, conn)
	if _, err := w.client(nil).Challenge(t.Context(), nonce.ProfileV1); err != nil {
		t.Error(err)
	}
}

func awaitContinue(t *testing.T, conn net.Conn) {
	t.Helper()
	const want = "HTTP/1.1 100 Continue"
	first := make([]byte, len(want))
	if _, err := io.ReadFull(conn, first); err != nil || string(first) != want {
		t.Fatalf("%s, %v", first, err)
	}
}

// Bodies beyond what memory there is for them are refused, and what they had is
// free again. Meanwhile a small body is read all the same.
func TestBuffered(t *testing.T) {
	const small = 32 << 10
	w := newWorld(t, func(_ *world, _ *teebroker.Config, s *v1.Config) { s.Buffered = 100 })
	c := w.client(nil)
	for range 3 {
		if _, err := c.Release(t.Context(), bytes.Repeat([]byte(" "), small+101)); code(err) != "unavailable" {
			t.Error(err)
		}
		if _, err := c.Release(t.Context(), bytes.Repeat([]byte(" "), small+100)); code(err) != "malformed-request" {
			t.Error(err)
		}
	}
	body, feed := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, v1.PathRelease, body)
		w.server.ServeHTTP(httptest.NewRecorder(), req)
	}()
	_, err := feed.Write(bytes.Repeat([]byte(" "), small+100))
	w.check(err)
	_, err = feed.Write(nil) // when it asks for more, it has counted those
	w.check(err)
	if _, err := c.Release(t.Context(), bytes.Repeat([]byte(" "), small+1)); code(err) != "unavailable" {
		t.Error(err)
	}
	if _, err := c.Release(t.Context(), bytes.Repeat([]byte(" "), small)); code(err) != "malformed-request" {
		t.Error(err)
	}
	w.check(feed.Close())
	<-done
}

// What is counted has no word of a peer in it.
func TestMetrics(t *testing.T) {
	w := newWorld(t, nil)
	w.get("GET", "/healthz", nil)
	w.get("BREW", "/no/such/path-of-mine", nil)
	_, err := w.client(nil).Release(t.Context(), []byte("{}"))
	if code(err) != "malformed-request" {
		t.Fatal(err)
	}
	resp, err := http.Get(w.http.URL + v1.PathMetrics)
	w.check(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	w.check(err)
	for _, want := range []string{
		`teebroker_requests_total{route="/healthz",method="GET",status="200",code=""} 1`,
		`teebroker_requests_total{route="",method="",status="404",code="malformed-request"} 1`,
		`teebroker_requests_total{route="/broker/v1/release",method="POST",status="400",code="malformed-request"} 1`,
		`teebroker_request_duration_seconds_bucket{route="/healthz",le="+Inf"} 1`,
		`teebroker_request_duration_seconds_count{route="/healthz"} 1`,
	} {
		if !strings.Contains(string(b), want+"\n") {
			t.Errorf("no %s in\n%s", want, b)
		}
	}
	if bytes.Contains(b, []byte("path-of-mine")) || bytes.Contains(b, []byte("BREW")) {
		t.Error("a peer's word is a label")
	}
	if n := bytes.Count(b, []byte("# TYPE")); n != 2 {
		t.Error(n)
	}
}

func TestClientRefuses(t *testing.T) {
	for name, cfg := range map[string]v1.ClientConfig{
		"no URL":                     {},
		"another scheme":             {URL: "ftp://localhost"},
		"plain HTTP to another host": {URL: "http://broker.example"},
		"plain HTTP to a name of it": {URL: "http://localhost.example"},
		"credentials":                {URL: "https://me:secret@broker.example"},
		"a query":                    {URL: "https://broker.example?x=1"},
		"a token with a line break":  {URL: "https://broker.example", Token: "a\r\nX: y"},
	} {
		if _, err := v1.NewClient(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, cfg := range []v1.ClientConfig{
		{URL: "https://broker.example:8443/"},
		{URL: "http://127.0.0.1:8080"},
		{URL: "http://[::1]:8080"},
		{URL: "http://localhost"},
		{URL: "http://broker.example", AllowPlainHTTP: true},
	} {
		if _, err := v1.NewClient(cfg); err != nil {
			t.Error(err)
		}
	}
}

// What is no problem of this protocol is not taken for an answer of the broker.
func TestClientTrustsNoProxy(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"code":"denied"}`, http.StatusForbidden)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
		},
		"a success that is none": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) },
		"a problem without code": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(403)
			_, _ = w.Write([]byte(`{"title":"no"}`))
		},
	} {
		s := newServer(t, h)
		c, err := v1.NewClient(v1.ClientConfig{URL: s})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Release(t.Context(), nil)
		if p := (*v1.Problem)(nil); err == nil || errors.As(err, &p) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := v1.NewClient(v1.ClientConfig{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); !errors.Is(err, v1.ErrUnreachable) {
		t.Error(err)
	}
}
