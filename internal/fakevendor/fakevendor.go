// Package fakevendor is what the fakes of vendors' HTTP services have in common:
// faults, counts, and a client that needs no network.
package fakevendor

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// Fault is what is wrong with a service. The zero Fault is nothing.
type Fault struct {
	Delay     time.Duration // before it answers
	Down      bool          // connections end without an answer
	Status    int           // of HTTP, instead of an answer
	Elsewhere string        // URL to which it redirects

	// Every lets through one request in this time. Others get 429, with a
	// Retry-After in seconds, as a time, or without.
	Every    time.Duration
	AsDate   bool
	Wordless bool

	// Truncated answers end half way. Bombs are 64 MiB of zeros compressed to
	// 64 KiB, as it is on the wire and by their header. Endless answers have 8 MiB.
	Truncated, Bomb, Endless bool

	// Wrong returns the body to answer with in place of right.
	Wrong func(name string, right []byte) []byte
}

// huge is what large answers consist of.
const huge = 1 << 20

// Answer is a file, and what comes with it.
type Answer struct {
	Body   []byte
	Header http.Header // or nil
}

// Server answers requests. It is a [http.Handler], safe for concurrent use. Make
// one with [New].
type Server struct {
	answer func(ctx context.Context, name string) (Answer, error)

	mu       sync.Mutex
	all      Fault
	faults   map[string]Fault // by name
	requests map[string]int   // by name
	let      time.Time        // when the last one got past Every
}

// New returns a Server of the files that answer knows by name: path and query of
// the request. Its errors are 404 if evidence.ErrNotFound, else 500.
func New(answer func(ctx context.Context, name string) (Answer, error)) *Server {
	return &Server{answer: answer, faults: map[string]Fault{}, requests: map[string]int{}}
}

// Break lets f be what is wrong, from now on, with names or, if there are none,
// with all others.
func (s *Server) Break(f Fault, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(names) == 0 {
		s.all = f
	}
	for _, n := range names {
		s.faults[n] = f
	}
}

// Mend ends all faults.
func (s *Server) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all, s.faults = Fault{}, map[string]Fault{}
}

// Requests returns how often the service was asked for names or, if there are
// none, at all.
func (s *Server) Requests(names ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if len(names) == 0 {
		for _, k := range s.requests {
			n += k
		}
	}
	for _, name := range names {
		n += s.requests[name]
	}
	return n
}

// Most returns the most often that it was asked for any one name.
func (s *Server) Most() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, k := range s.requests {
		n = max(n, k)
	}
	return n
}

// arrive counts a request. It returns what is wrong with name, and how long it has
// to wait.
func (s *Server) arrive(name string) (Fault, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[name]++
	f, ok := s.faults[name]
	if !ok {
		f = s.all
	}
	now := time.Now()
	if wait := s.let.Add(f.Every).Sub(now); f.Every > 0 && wait > 0 {
		return f, wait
	}
	s.let = now
	return f, 0
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.RequestURI()
	f, throttled := s.arrive(name)
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	switch {
	case f.Down:
		panic(http.ErrAbortHandler)
	case throttled > 0:
		f.throttle(w, throttled)
	case f.Status != 0:
		w.WriteHeader(f.Status)
	case f.Elsewhere != "":
		http.Redirect(w, r, f.Elsewhere, http.StatusFound)
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		s.serve(w, r, name, f)
	}
}

func (f Fault) throttle(w http.ResponseWriter, wait time.Duration) {
	switch {
	case f.Wordless:
	case f.AsDate:
		w.Header().Set("Retry-After", time.Now().Add(wait+time.Second).UTC().Format(http.TimeFormat))
	default:
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
	w.WriteHeader(http.StatusTooManyRequests)
}

// serve answers with the file called name, or what f makes of it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, name string, f Fault) {
	a, err := s.answer(r.Context(), name)
	if err != nil {
		w.WriteHeader(statusOf(err))
		return
	}
	for k, v := range a.Header {
		w.Header()[k] = v
	}
	body := a.Body
	if f.Wrong != nil {
		body = f.Wrong(name, body)
	}
	switch {
	case f.Bomb:
		w.Header().Set("Content-Encoding", "gzip")
		body = bomb()
	case f.Endless:
		for range 8 {
			if _, err := w.Write(make([]byte, huge)); err != nil {
				return
			}
		}
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if f.Truncated {
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush() // what can't be flushed is there already
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

// bomb returns 64 MiB of zeros, compressed.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for range 64 {
		_, _ = z.Write(make([]byte, huge))
	}
	_ = z.Close()
	return b.Bytes()
})

// First returns the file that c is the first of.
func First(c []evidence.Collateral, err error) (evidence.Collateral, error) {
	switch {
	case err != nil:
		return evidence.Collateral{}, err
	case len(c) == 0:
		return evidence.Collateral{}, evidence.ErrNotFound
	}
	return c[0], nil
}
