package v1

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
)

// maxGuarded is how much of a body what is guarded can read. Its own limit is
// smaller.
const maxGuarded = 16 << 20

// Guard returns h, of another protocol, behind what bounds the Server: its limits
// by source address, its gate, its metrics and its Observe, which all count h under
// route. refuse answers, as clients of that protocol read it, what is refused
// before h is asked; id is what the request is called in logs, and the header
// Request-Id of the answer already when h is asked. What h refuses itself is observed
// by its status only. The body came when h is asked, at most 16 MiB and a byte of it.
func (s *Server) Guard(route string, h http.Handler, refuse func(w http.ResponseWriter, id string, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := s.cfg.Time()
		e := Event{ID: newID(), Method: r.Method, Route: route, Source: r.RemoteAddr}
		w.Header().Set("Request-Id", e.ID)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		rec := &recorder{ResponseWriter: w}
		if e.Err = s.guarded(rec, r, h); e.Err != nil {
			e.Code = teebroker.Code(e.Err)
			refuse(rec, e.ID, e.Err)
		}
		e.Status, e.Duration = rec.status, s.cfg.Time().Sub(began)
		s.metrics.count(counted(e))
		if s.cfg.Observe != nil {
			s.cfg.Observe(e)
		}
	})
}

// counted returns e without a method that a peer made up.
func counted(e Event) Event {
	switch e.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		e.Method = "other"
	}
	return e
}

// guarded has h answer, or returns why it is not asked.
func (s *Server) guarded(w http.ResponseWriter, r *http.Request, h http.Handler) error {
	from := source(r.RemoteAddr)
	if !s.sources.take(from) {
		return teebroker.RateLimited
	}
	held := &held{of: s.buffers, body: io.LimitReader(r.Body, maxGuarded+1)}
	defer held.release()
	body, err := io.ReadAll(held)
	switch {
	case errors.Is(err, errBuffers):
		return unavailable("bodies", err)
	case err != nil:
		return malformed(errors.New("the body ended early"))
	}
	leave, err := s.gate.enter(r.Context(), s.cfg.Patience)
	if err != nil {
		return err
	}
	defer leave()
	r = r.WithContext(evidence.FromPeer(r.Context(), from.String()))
	r.Body = io.NopCloser(bytes.NewReader(body))
	h.ServeHTTP(w, r)
	return nil
}

// recorder knows the status that was sent.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}
