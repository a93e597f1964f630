package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/fakevendor"
	"github.com/teebroker/teebroker/internal/fetch"
)

// service has a file of every name, which says what it is called.
func service() *fakevendor.Server {
	return fakevendor.New(func(_ context.Context, name string) (fakevendor.Answer, error) {
		if strings.HasPrefix(name, "/none") {
			return fakevendor.Answer{}, evidence.ErrNotFound
		}
		return fakevendor.Answer{Body: []byte("file " + name), Header: http.Header{"Chain": {"c"}}}, nil
	})
}

// config is without limits that matter.
func config(s *fakevendor.Server) fetch.Config {
	return fetch.Config{Service: "fake", Client: s.Client(), Every: time.Millisecond, Burst: 10000}
}

func client(t testing.TB, cfg fetch.Config) *fetch.Client {
	t.Helper()
	c, err := fetch.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// file asks for name, at a host of any kind.
func file(name string) fetch.Request {
	return fetch.Request{Name: name, URL: "https://vendor.example" + name, Limit: 1 << 10, Accept: func(body []byte, h http.Header) (evidence.Collateral, error) {
		if string(body) != "file "+name {
			return evidence.Collateral{}, errors.New("another file")
		}
		return evidence.Collateral{Data: body, Issuer: []byte(h.Get("Chain"))}, nil
	}}
}

func get(ctx context.Context, c *fetch.Client, name string) error {
	got, err := c.Get(ctx, file(name))
	if err == nil && (string(got.Data) != "file "+name || string(got.Issuer) != "c") {
		return fmt.Errorf("got %q, %q", got.Data, got.Issuer)
	}
	return err
}

// What can be wrong with a service, how often it is asked for one name, and what
// is said of it.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name     string
		fault    fakevendor.Fault
		file     string
		requests int
		says     string // "" if there is an answer
		want     error
	}{
		{"nothing", fakevendor.Fault{}, "/a", 1, "", nil},
		{"slow", fakevendor.Fault{Delay: 14 * time.Second}, "/a", 1, "", nil},
		{"too slow", fakevendor.Fault{Delay: 16 * time.Second}, "/a", 3, "no answer in time", evidence.Unavailable},
		{"down", fakevendor.Fault{Down: true}, "/a", 3, "EOF", evidence.Unavailable},
		{"out of order", fakevendor.Fault{Status: 500}, "/a", 3, "HTTP status 500", evidence.Unavailable},
		{"forbidden", fakevendor.Fault{Status: 403}, "/a", 1, "HTTP status 403", evidence.Unavailable},
		{"an empty answer", fakevendor.Fault{Status: 204}, "/a", 1, "HTTP status 204", evidence.Unavailable},
		{"not there", fakevendor.Fault{}, "/none", 1, "HTTP status 404", evidence.ErrNotFound},
		{"no more there", fakevendor.Fault{Status: 410}, "/a", 1, "HTTP status 410", evidence.ErrNotFound},
		{"truncated", fakevendor.Fault{Truncated: true}, "/a", 3, "unexpected EOF", evidence.Unavailable},
		{"a bomb", fakevendor.Fault{Bomb: true}, "/a", 1, "compressed", evidence.Unavailable},
		{"endless", fakevendor.Fault{Endless: true}, "/a", 1, "more than 1024 bytes", evidence.Unavailable},
		{"another file", fakevendor.Fault{Wrong: func(string, []byte) []byte { return []byte("file /b") }}, "/a", 1, "another file", evidence.Unavailable},
		{"redirected to another host", fakevendor.Fault{Elsewhere: "https://other.example/a"}, "/a", 1, "redirected", evidence.Unavailable},
		{"redirected to no TLS", fakevendor.Fault{Elsewhere: "http://vendor.example/a"}, "/a", 1, "redirected", evidence.Unavailable},
		{"redirected to itself", fakevendor.Fault{Elsewhere: "/a"}, "/a", 4, "redirected", evidence.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := service()
				s.Break(tt.fault)
				err := get(t.Context(), client(t, config(s)), tt.file)
				if (err == nil) != (tt.says == "") || !errors.Is(err, tt.want) {
					t.Fatalf("%v, want %v", err, tt.want)
				}
				if err != nil {
					if !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "vendor.example") {
						t.Errorf("says %q, want %q and no URL", err, tt.says)
					}
					if errors.Is(err, evidence.Unavailable) == errors.Is(err, evidence.ErrNotFound) || errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%v matches the wrong things", err)
					}
				}
				if n := s.Requests(); n != tt.requests {
					t.Errorf("%d requests, want %d", n, tt.requests)
				}
			})
		})
	}
}

// A redirect within the host is followed.
func TestRedirectWithinHost(t *testing.T) {
	s := service()
	s.Break(fakevendor.Fault{Elsewhere: "https://vendor.example/a?moved"}, "/a")
	r := file("/a")
	r.Accept = func(body []byte, _ http.Header) (evidence.Collateral, error) {
		return evidence.Collateral{Data: body}, nil
	}
	if got, err := client(t, config(s)).Get(t.Context(), r); err != nil || string(got.Data) != "file /a?moved" {
		t.Errorf("%q, %v", got.Data, err)
	}
}

// The same over a network: net/http would decompress by itself, and leaves it.
func TestOverTCP(t *testing.T) {
	s := service()
	server := httptest.NewServer(s)
	defer server.Close()
	cfg := config(s)
	cfg.Client, cfg.Attempts = nil, 1
	c := client(t, cfg)
	for name, says := range map[string]string{"/good": "", "/bomb": "compressed", "/down": "EOF", "/truncated": "unexpected EOF", "/endless": "more than"} {
		s.Break(fakevendor.Fault{Bomb: name == "/bomb", Down: name == "/down", Truncated: name == "/truncated", Endless: name == "/endless"}, name)
		r := file(name)
		r.URL = server.URL + name
		_, err := c.Get(t.Context(), r)
		if (err == nil) != (says == "") || err != nil && (!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "127.0.0.1")) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
	server.Close()
	r := file("/closed")
	r.URL = server.URL + "/closed"
	if _, err := c.Get(t.Context(), r); !errors.Is(err, evidence.Unavailable) || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("no server: %v", err)
	}
}

// Attempts come later and later, never at once, and not at the same time from all.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		s := fakevendor.New(func(context.Context, string) (fakevendor.Answer, error) {
			at = append(at, time.Now())
			return fakevendor.Answer{}, errors.New("out of order")
		})
		cfg := config(s)
		cfg.Attempts = 8
		if err := get(t.Context(), client(t, cfg), "/a"); !errors.Is(err, evidence.Unavailable) {
			t.Fatal(err)
		}
		if len(at) != 8 {
			t.Fatalf("%d attempts", len(at))
		}
		for i, most := range []time.Duration{500, 1000, 2000, 4000, 8000, 10000, 10000} {
			most *= time.Millisecond
			if gap := at[i+1].Sub(at[i]); gap < most/2 || gap > most {
				t.Errorf("attempt %d after %v, want %v to %v", i+2, gap, most/2, most)
			}
		}
	})
}

// The service says when to come back, and is not asked for anything before.
func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault fakevendor.Fault
		least time.Duration
	}{
		{"seconds", fakevendor.Fault{Every: 20 * time.Second}, 20 * time.Second},
		{"a time", fakevendor.Fault{Every: 20 * time.Second, AsDate: true}, 20 * time.Second},
		{"nothing", fakevendor.Fault{Every: 5 * time.Millisecond, Wordless: true}, 5 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := service()
				s.Break(tt.fault)
				c := client(t, config(s))
				start := time.Now()
				for _, name := range []string{"/a", "/b"} {
					if err := get(t.Context(), c, name); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(start); took < tt.least || took > tt.least+3*time.Second {
					t.Errorf("took %v, want about %v", took, tt.least)
				}
				if n := s.Requests(); n != 3 {
					t.Errorf("%d requests, want 3: two answers and one refusal", n)
				}
			})
		})
	}
}

// A pause longer than anybody's patience is an error at once, for all names, with
// the time to come back; and it ends, however long the service asked for.
func TestLongPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service()
		s.Break(fakevendor.Fault{Every: 100 * 24 * time.Hour})
		c := client(t, config(s))
		if err := get(t.Context(), c, "/a"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"/b", "/b", "/c"} {
			start := time.Now()
			err := get(t.Context(), c, name)
			var e *fetch.Error
			if !errors.Is(err, evidence.Unavailable) || !errors.As(err, &e) || e.RetryAfter < 59*time.Minute || e.RetryAfter > time.Hour {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("%s: after %v", name, took)
			}
		}
		if n := s.Requests(); n != 2 {
			t.Errorf("%d requests while it pauses, want 2", n)
		}
		s.Mend()
		time.Sleep(time.Hour)
		if err := get(t.Context(), c, "/c"); err != nil {
			t.Error(err)
		}
	})
}

// No more than the budget, whoever asks for how much; what would take too long
// fails at once, and is asked for when there is room again.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service()
		cfg := config(s)
		cfg.Every, cfg.Burst = 10*time.Second, 3
		c := client(t, cfg)
		start := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		answered := map[time.Duration]int{}
		refused := 0
		for i := range 100 {
			wg.Go(func() {
				err := get(t.Context(), c, fmt.Sprint("/", i))
				mu.Lock()
				defer mu.Unlock()
				switch at := time.Since(start); {
				case err == nil:
					answered[at]++
				case at != 0 || !errors.Is(err, evidence.Unavailable):
					t.Errorf("%v after %v", err, at)
				default:
					refused++
				}
			})
		}
		wg.Wait()
		if answered[0] != 3 || answered[10*time.Second] != 1 || answered[20*time.Second] != 1 || answered[30*time.Second] != 1 || refused != 94 {
			t.Errorf("answered %v, refused %d", answered, refused)
		}
		time.Sleep(10 * time.Second)
		for i := range 100 { // nobody is refused for what the budget refused before
			err := get(t.Context(), c, fmt.Sprint("/", i))
			if err != nil {
				t.Fatal(i, err)
			}
			time.Sleep(10 * time.Second)
		}
		if n, took := s.Requests(), time.Since(start); n > 3+int(took/(10*time.Second)) {
			t.Errorf("%d requests in %v", n, took)
		}
	})
}

// Whoever can't wait for the budget hears so at once, and takes nothing from it.
func TestBudgetBeyondDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service()
		cfg := config(s)
		cfg.Every, cfg.Burst = 10*time.Second, 1
		c := client(t, cfg)
		if err := get(t.Context(), c, "/first"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for i := range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if err := get(ctx, c, fmt.Sprint("/", i%2)); !errors.Is(err, evidence.Unavailable) || time.Since(start) != 0 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			cancel()
			ctx, cancel = context.WithCancel(t.Context())
			cancel()
			if err := get(ctx, c, "/x"); !errors.Is(err, context.Canceled) || !errors.Is(err, evidence.Unavailable) {
				t.Error(err)
			}
		}
		if err := get(t.Context(), c, "/0"); err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A peer has so much, and no more by waiting with others for one name; who has no
// name has no such limit.
func TestPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service()
		s.Break(fakevendor.Fault{Delay: time.Second})
		cfg := config(s)
		cfg.Peer = fetch.Rate{Every: time.Minute, Burst: 2}
		c := client(t, cfg)
		a, b := evidence.FromPeer(t.Context(), "a"), evidence.FromPeer(t.Context(), "b")
		for i := range 10 {
			err := get(a, c, fmt.Sprint("/", i))
			var e *fetch.Error
			if i < 2 && err != nil || i >= 2 && (!errors.As(err, &e) || !errors.Is(err, evidence.Unavailable) || e.RetryAfter <= 0) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if err := get(b, c, "/2"); err != nil {
			t.Errorf("another peer: %v", err)
		}
		for i := range 10 {
			if err := get(t.Context(), c, fmt.Sprint("/", i)); err != nil {
				t.Errorf("nobody's: %v", err)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = get(b, c, "/x") })
		synctest.Wait()
		wg.Go(func() {
			if err := get(a, c, "/x"); err != nil {
				t.Errorf("with another: %v", err)
			}
		})
		wg.Wait()
		time.Sleep(time.Minute)
		if err := get(a, c, "/y"); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

// Many who want one file at a time cost one request.
func TestCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service()
		s.Break(fakevendor.Fault{Delay: time.Second})
		c := client(t, config(s))
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				if err := get(t.Context(), c, fmt.Sprint("/", i%10)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := s.Requests(); n != 10 {
			t.Errorf("%d requests, want 10", n)
		}
	})
}

// One who gives up takes nobody along, and waits for nobody; a slow name keeps no
// other waiting.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service()
		s.Break(fakevendor.Fault{Delay: 10 * time.Second}, "/a")
		c := client(t, config(s))
		start := time.Now()
		var wg sync.WaitGroup
		leader, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wg.Go(func() {
			if err := get(leader, c, "/a"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("leader: %v after %v", err, time.Since(start))
			}
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				if err := get(t.Context(), c, "/a"); err != nil {
					t.Errorf("follower: %v", err)
				}
			})
		}
		impatient, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		wg.Go(func() {
			synctest.Wait()
			if err := get(impatient, c, "/a"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
				t.Errorf("impatient: %v after %v", err, time.Since(start))
			}
		})
		if err := get(t.Context(), c, "/b"); err != nil || time.Since(start) != 0 {
			t.Errorf("another name: %v after %v", err, time.Since(start))
		}
		wg.Wait()
		if n := s.Requests("/a"); n > 3 {
			t.Errorf("%d requests", n)
		}
		// Nothing is remembered of those who gave up.
		if err := get(t.Context(), c, "/a"); err != nil {
			t.Error(err)
		}
	})
}

// What failed is left alone for a while: longer each time, and then tried again.
func TestFailuresAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service()
		cfg := config(s)
		cfg.Attempts = 1
		c := client(t, cfg)
		s.Break(fakevendor.Fault{Status: 500})
		for range 3600 { // an hour, each second
			for range 10 {
				if err := get(t.Context(), c, "/a"); !errors.Is(err, evidence.Unavailable) {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
		}
		if n := s.Requests(); n < 60 || n > 130 {
			t.Errorf("%d requests in an hour, want one or two a minute", n)
		}
		s.Mend()
		time.Sleep(time.Minute)
		if err := get(t.Context(), c, "/a"); err != nil {
			t.Error(err)
		}
		s.Break(fakevendor.Fault{Status: 500})
		_ = get(t.Context(), c, "/a")
		s.Mend()
		time.Sleep(time.Second) // the row of failures ended with the success
		if err := get(t.Context(), c, "/a"); err != nil {
			t.Error(err)
		}
	})
}

func TestMissingIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service()
		c := client(t, config(s))
		for range 299 {
			if err := get(t.Context(), c, "/none"); !errors.Is(err, evidence.ErrNotFound) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := s.Requests(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		time.Sleep(2 * time.Second)
		if _ = get(t.Context(), c, "/none"); s.Requests() != 2 {
			t.Error("remembered for ever")
		}
	})
}

// Accept is somebody else's code: if it panics, those who wait go on.
func TestPanicInAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service()
		s.Break(fakevendor.Fault{Delay: time.Second})
		c := client(t, config(s))
		go func() {
			defer func() { _ = recover() }()
			r := file("/a")
			r.Accept = func([]byte, http.Header) (evidence.Collateral, error) { panic("a bug") }
			_, _ = c.Get(t.Context(), r)
		}()
		synctest.Wait()
		if err := get(t.Context(), c, "/a"); err != nil {
			t.Error(err)
		}
	})
}

func TestConfig(t *testing.T) {
	good := fetch.Config{Every: time.Second, Burst: 1}
	for name, edit := range map[string]func(*fetch.Config){
		"Every":    func(c *fetch.Config) { c.Every = 0 },
		"Burst":    func(c *fetch.Config) { c.Burst = 0 },
		"Patience": func(c *fetch.Config) { c.Patience = -1 },
		"Timeout":  func(c *fetch.Config) { c.Timeout = -1 },
		"Attempts": func(c *fetch.Config) { c.Attempts = -1 },
		"Peer":     func(c *fetch.Config) { c.Peer.Burst = 1 },
	} {
		cfg := good
		edit(&cfg)
		if _, err := fetch.New(cfg); err == nil || !strings.HasPrefix(err.Error(), name+":") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBase(t *testing.T) {
	for base, want := range map[string]string{
		"https://a.example":      "https://a.example",
		"https://a.example/":     "https://a.example",
		"http://a.example:8080/": "http://a.example:8080",
		"https://a.example/pccs": "https://a.example/pccs",
		"":                       "", "a.example": "", "ftp://a.example": "", "https://": "", "https:///x": "", "https://u:p@a.example": "",
		"https://a.example?": "", "https://a.example/?x=y": "", "https://a.example#": "", "https://a.example#x": "", "https://a\x00": "",
	} {
		got, err := fetch.Base(base)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", base, got, err)
		}
	}
}
