package v1

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// metrics counts for Prometheus. Its labels are routes, statuses and codes, of
// which there is a bounded number, and never anything that a peer chose.
type metrics struct {
	mu       sync.Mutex
	requests map[series]uint64
	duration map[string]*histogram // by route
}

type series struct {
	route, method string
	status        int
	code          string
}

// bounds are those of the histogram, in seconds.
func bounds() []float64 { return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10} }

type histogram struct {
	at    []uint64 // by bound, not cumulative
	sum   float64
	count uint64
}

func newMetrics() *metrics {
	return &metrics{requests: map[series]uint64{}, duration: map[string]*histogram{}}
}

// count counts e. A method is a label only where there is a route for it.
func (m *metrics) count(e Event) {
	k := series{e.Route, e.Method, e.Status, e.Code}
	if e.Route == "" {
		k.method = ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[k]++
	h := m.duration[e.Route]
	if h == nil {
		h = &histogram{at: make([]uint64, len(bounds()))}
		m.duration[e.Route] = h
	}
	h.add(e.Duration)
}

func (h *histogram) add(d time.Duration) {
	s := d.Seconds()
	if i, ok := slices.BinarySearch(bounds(), s); ok || i < len(h.at) {
		h.at[i]++
	}
	h.sum += s
	h.count++
}

// text is the exposition format of Prometheus, version 0.0.4.
func (m *metrics) text() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	b.WriteString("# HELP teebroker_requests_total Requests by route, status and code; no code is success.\n")
	b.WriteString("# TYPE teebroker_requests_total counter\n")
	for _, k := range slices.SortedFunc(maps.Keys(m.requests), series.compare) {
		fmt.Fprintf(&b, "teebroker_requests_total{route=%q,method=%q,status=\"%d\",code=%q} %d\n", k.route, k.method, k.status, k.code, m.requests[k])
	}
	b.WriteString("# HELP teebroker_request_duration_seconds From the header to the answer.\n")
	b.WriteString("# TYPE teebroker_request_duration_seconds histogram\n")
	for _, route := range slices.Sorted(maps.Keys(m.duration)) {
		m.duration[route].write(&b, route)
	}
	return []byte(b.String())
}

func (h *histogram) write(b *strings.Builder, route string) {
	const name = "teebroker_request_duration_seconds"
	var sum uint64
	for i, le := range bounds() {
		sum += h.at[i]
		fmt.Fprintf(b, "%s_bucket{route=%q,le=\"%g\"} %d\n", name, route, le, sum)
	}
	fmt.Fprintf(b, "%s_bucket{route=%q,le=\"+Inf\"} %d\n", name, route, h.count)
	fmt.Fprintf(b, "%s_sum{route=%q} %g\n%s_count{route=%q} %d\n", name, route, h.sum, name, route, h.count)
}

func (k series) compare(l series) int {
	return cmp.Or(cmp.Compare(k.route, l.route), cmp.Compare(k.method, l.method),
		cmp.Compare(k.status, l.status), cmp.Compare(k.code, l.code))
}

func (s *Server) writeMetrics(*call) (answer, error) {
	text := s.metrics.text()
	if s.cfg.Checkpoints != nil {
		stopped := 0
		if s.stopped() != nil {
			stopped = 1
		}
		text = fmt.Appendf(text, "# HELP teebroker_stopped 1 if nothing is released, because the record is not the one that was seen or can't be kept.\n"+
			"# TYPE teebroker_stopped gauge\nteebroker_stopped %d\n", stopped)
	}
	return answer{http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", text}, nil
}
