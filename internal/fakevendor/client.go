package fakevendor

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/teebroker/teebroker/evidence"
)

func statusOf(err error) int {
	if errors.Is(err, evidence.ErrNotFound) {
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// Client returns a client whose requests, to any host, are answered by s in the
// goroutine that sends them: without network, and so also in a bubble of
// testing/synctest.
func (s *Server) Client() *http.Client { return &http.Client{Transport: transport{s}} }

type transport struct{ h http.Handler }

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := &recorder{header: http.Header{}}
	aborted := w.run(t.h, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if aborted && w.status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	var body io.Reader = &w.body
	if aborted {
		body = io.MultiReader(body, broken{})
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(body), ContentLength: -1, Request: r,
	}, nil
}

// broken is a connection that ended too early.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// run lets h answer r, and reports whether it aborted.
func (w *recorder) run(h http.Handler, r *http.Request) (aborted bool) {
	defer func() {
		if p := recover(); p != nil {
			if p != any(http.ErrAbortHandler) {
				panic(p)
			}
			aborted = true
		}
	}()
	h.ServeHTTP(w, r)
	return false
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}
