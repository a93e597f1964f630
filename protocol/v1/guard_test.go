package v1_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// What is guarded has the limits of the Server, its gate and its metrics, and is
// refused in its own words.
func TestGuard(t *testing.T) {
	var events []v1.Event
	w := newWorld(t, func(_ *world, _ *teebroker.Config, c *v1.Config) {
		c.PerSource = v1.Rate{Burst: 3, Every: time.Hour}
		c.Observe = func(e v1.Event) { events = append(events, e) }
	})
	asked := 0
	inner := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked++
		if peer, ok := evidence.Peer(r.Context()); !ok || peer == "" {
			t.Error("nobody is told who the peer is")
		}
		if rw.Header().Get("Request-Id") == "" {
			t.Error("no request id")
		}
		rw.WriteHeader(http.StatusTeapot)
	})
	var refused []error
	h := w.server.Guard("/other", inner, func(rw http.ResponseWriter, id string, err error) {
		refused = append(refused, err)
		http.Error(rw, id, http.StatusTooManyRequests)
	})
	var last *httptest.ResponseRecorder
	for _, method := range []string{"GET", "POST", "MADEUP", "GET"} {
		last = httptest.NewRecorder()
		h.ServeHTTP(last, httptest.NewRequestWithContext(t.Context(), method, "/other/x", nil))
	}
	if asked != 3 || len(refused) != 1 || !errors.Is(refused[0], teebroker.RateLimited) || last.Code != http.StatusTooManyRequests {
		t.Errorf("asked %d times, refused %v, at last %d", asked, refused, last.Code)
	}
	if len(events) != 4 || events[0].Status != http.StatusTeapot || events[3].Code != "rate-limited" || events[3].Route != "/other" {
		t.Errorf("observed %+v", events)
	}
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", v1.PathMetrics, nil))
	if text := rec.Body.String(); !strings.Contains(text, `route="/other",method="other",status="418"`) || strings.Contains(text, "MADEUP") {
		t.Errorf("metrics:\n%s", text)
	}
}

// Who sends slowly to what is guarded holds up nobody else, and what came is read
// from its beginning.
func TestGuardSlowBody(t *testing.T) {
	w := newWorld(t, func(_ *world, _ *teebroker.Config, c *v1.Config) {
		c.Concurrent, c.Patience, c.Buffered = 1, time.Millisecond, 100
	})
	inner := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != "body" {
			t.Errorf("%.20q, %v", b, err)
		}
	})
	codes := func(rw http.ResponseWriter, _ string, err error) {
		http.Error(rw, teebroker.Code(err), teebroker.Status(err))
	}
	h := w.server.Guard("/other", inner, codes)
	ask := func(body io.Reader) int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/other/x", body))
		return rec.Code
	}
	body, feed := io.Pipe()
	done := make(chan int)
	go func() { done <- ask(body) }()
	_, err := io.WriteString(feed, "bo")
	w.check(err)
	if got := ask(strings.NewReader("body")); got != http.StatusOK {
		t.Errorf("beside a slow one: %d", got)
	}
	_, err = io.WriteString(feed, "dy")
	w.check(err)
	w.check(feed.Close())
	if got := <-done; got != http.StatusOK {
		t.Errorf("the slow one: %d", got)
	}
	if got := ask(strings.NewReader(strings.Repeat(" ", 48<<10))); got != http.StatusServiceUnavailable {
		t.Errorf("more than there is memory for: %d", got)
	}
	if got := ask(io.MultiReader(strings.NewReader("bo"), iotest.ErrReader(io.ErrUnexpectedEOF))); got != http.StatusBadRequest {
		t.Errorf("one that ended early: %d", got)
	}
}
