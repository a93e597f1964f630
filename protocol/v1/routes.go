package v1

import (
	"net/http"
	"slices"
	"strings"

	"github.com/teebroker/teebroker"
)

// Kinds of routes, by who may ask.
type kind int

const (
	owners     kind = iota // a tenant, for what is its own; the zero kind
	everybody              // guests: they show evidence, if anything
	operations             // whoever reaches the listener
)

// Route is a path that a Server serves, and for whom.
type Route struct {
	Method string
	Path   string // {x} is one segment, {x...} the rest
	Owner  bool   // needs a tenant's credentials
}

type route struct {
	Method, Path string
	kind         kind
	limit        int64 // bytes of a body
	handle       func(*call) (answer, error)
}

// table is every route there is. What is not here is not served.
func (s *Server) table() []route {
	t := []route{
		{http.MethodGet, PathHealth, operations, 0, s.health},
		{http.MethodGet, PathReady, operations, 0, s.ready},
		{http.MethodGet, PathMetrics, operations, 0, s.writeMetrics},
	}
	if s.cfg.Broker != nil || s.cfg.Verify != nil {
		t = append(t, route{http.MethodPost, PathNonce, everybody, maxSmall, s.nonce})
	}
	if s.cfg.Broker != nil {
		t = append(
			t,
			route{http.MethodPost, PathRelease, everybody, MaxRelease, s.release},
			route{http.MethodPost, PathConfirm, everybody, maxSmall, s.confirm},
			route{http.MethodPost, PathSealed, everybody, MaxRelease, s.sealed},
		)
	}
	if s.cfg.Keys != nil {
		t = append(
			t,
			route{http.MethodGet, PathKeys, everybody, 0, s.keys},
			route{http.MethodPost, PathKeys, everybody, maxSmall, s.keys},
		)
	}
	if s.cfg.Verify != nil {
		t = append(t, route{http.MethodPost, PathVerify, everybody, MaxEvidence, s.verify})
	}
	t = append(t, s.tpmTable()...)
	if s.cfg.Owner != nil {
		t = append(t, s.ownerTable()...)
		t = append(t, s.identityTable()...)
		t = append(t, s.certificateTable()...)
	}
	return t
}

func (s *Server) ownerTable() []route {
	const instance, name = PathInstances + "/{uuid}", PathPolicies + "/{name}"
	const get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
	t := []route{
		{get, PathInstances, owners, 0, s.instances},
		{put, instance, owners, maxSmall, s.register},
		{get, instance, owners, 0, s.status},
		{del, instance, owners, 0, s.remove},
		{post, instance + "/authorizations", owners, maxSmall, s.authorize},
		{get, instance + "/authorizations", owners, 0, s.authorizations},
		{del, instance + "/authorizations/{id}", owners, 0, s.revoke},
		{put, instance + "/secrets/{purpose...}", owners, maxSecret, s.putSecret},
		{put, instance + "/blobs/{purpose...}", owners, MaxRelease, s.putBlob},
		{put, instance + "/epochs/{purpose...}", owners, MaxRelease, s.begin},
		{get, instance + "/epochs/{purpose...}", owners, 0, s.epochs},
		{get, PathPolicies, owners, 0, s.policies},
		{put, name, owners, maxDocument, s.putPolicy},
		{get, name, owners, 0, s.policy},
		{get, PathRecord, owners, 0, s.record},
	}
	if s.cfg.Broker != nil {
		t = append(t, route{post, instance + "/rewrap/{purpose...}", owners, MaxRelease, s.rewrap})
	}
	for _, act := range []string{"hold", "resume", "recover", "retire"} {
		t = append(t, route{post, instance + "/" + act, owners, MaxRelease, s.act(act)})
	}
	if s.cfg.Explain != nil {
		t = append(t, route{post, name + "/explain", owners, maxDocument, s.explain})
	}
	return t
}

// Routes returns every path that s serves.
func (s *Server) Routes() []Route {
	rs := make([]Route, len(s.routes))
	for i, r := range s.routes {
		rs[i] = Route{r.Method, r.Path, r.kind == owners}
	}
	return rs
}

// find sets the route of c. Paths are taken as they are: what would be cleaned or
// unescaped first has none.
func (s *Server) find(c *call) error {
	var allowed []string
	if c.URL.EscapedPath() == c.URL.Path {
		for _, r := range s.routes {
			vars, ok := match(r.Path, c.URL.Path)
			if !ok {
				continue
			}
			if r.Method == c.Method {
				c.route, c.vars = r, vars
				return nil
			}
			allowed = append(allowed, r.Method)
		}
	}
	if len(allowed) == 0 {
		return &httpError{http.StatusNotFound, teebroker.MalformedRequest, "nothing is served under this path", nil}
	}
	slices.Sort(allowed)
	c.allow = strings.Join(slices.Compact(allowed), ", ")
	return &httpError{http.StatusMethodNotAllowed, teebroker.MalformedRequest, "this path takes " + c.allow, nil}
}

// match compares path with a pattern, segment by segment, and returns what stands
// for its names. Nothing stands for the empty segment.
func match(pattern, path string) (map[string]string, bool) {
	var vars map[string]string
	for {
		want, wantRest, moreWant := strings.Cut(pattern, "/")
		got, gotRest, moreGot := strings.Cut(path, "/")
		if name, ok := strings.CutSuffix(strings.TrimPrefix(want, "{"), "...}"); ok {
			vars[name] = path
			return vars, path != ""
		}
		if strings.HasPrefix(want, "{") && got != "" {
			if vars == nil {
				vars = map[string]string{}
			}
			vars[strings.Trim(want, "{}")] = got
		} else if want != got {
			return nil, false
		}
		if moreWant != moreGot {
			return nil, false
		}
		if !moreWant {
			return vars, true
		}
		pattern, path = wantRest, gotRest
	}
}
