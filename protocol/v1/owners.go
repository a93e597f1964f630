package v1

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
)

// maxSecret is what is read of a secret.
const maxSecret = store.MaxSecret

// Instance is what an owner is told of an instance.
type Instance struct {
	Tenant       string                       `json:"tenant"`
	ID           strictjson.UUID              `json:"instance"`
	Generation   uint64                       `json:"generation"`
	Registration store.Registration           `json:"registration"`
	Secrets      []string                     `json:"secrets"`        // purposes of stored secrets
	Blobs        map[string]strictjson.Digest `json:"blobs"`          // digest of the current blob, by purpose
	State        strictjson.Digest            `json:"state,omitzero"` // that the order of an authorization names
}

// Authorization is an authorization as owners send and see it. An owner sends
// purposes and not_after, and may send uses, not_before, profiles and chips; the
// broker says the rest.
type Authorization struct {
	ID         strictjson.UUID   `json:"id,omitzero"`
	Purposes   []string          `json:"purposes"`
	Uses       int               `json:"uses,omitempty"` // if 0, 1
	NotBefore  time.Time         `json:"not_before,omitzero"`
	NotAfter   time.Time         `json:"not_after"`
	Profiles   []nonce.Profile   `json:"profiles,omitempty"` // if none, v1
	Chips      []strictjson.Hex  `json:"chips,omitempty"`
	Outlives   bool              `json:"outlives_confirm,omitempty"` // stays open when a guest confirms, see teebroker.Authorization
	Policy     strictjson.Digest `json:"policy_digest,omitzero"`
	Generation uint64            `json:"generation,omitempty"`
	Used       int               `json:"used,omitempty"`
	State      string            `json:"state,omitempty"` // OPEN, DONE, EXPIRED or REVOKED
}

// RecordEntry is one line of the record, with all that its hash covers.
type RecordEntry struct {
	Chain      teebroker.Chain   `json:"chain"`
	Generation uint64            `json:"generation"`
	Seq        uint64            `json:"seq"`
	Time       int64             `json:"time_ms"`
	Kind       teebroker.Kind    `json:"kind"`
	Body       strictjson.Base64 `json:"body"` // as it is stored
	Previous   strictjson.Digest `json:"previous"`
	Hash       strictjson.Digest `json:"hash"`
}

// Record is a part of a chain, and where the broker says that the record of the
// tenant is.
type Record struct {
	Tenant      string        `json:"tenant"`
	Entries     []RecordEntry `json:"entries"`
	Checkpoints []string      `json:"checkpoints"` // the newest of each chain that has entries, see teebroker.VerifyCheckpoint
}

// blobJSON registers a wrapped blob: its digest, and the blob if the broker shall
// keep a copy.
type blobJSON struct {
	Digest  strictjson.Digest `json:"digest"`
	Wrapped json.RawMessage   `json:"wrapped,omitempty"`
}

// instance returns the instance that the path names.
func (c *call) instance() ([16]byte, error) { return c.uuid("uuid") }

func (c *call) uuid(name string) ([16]byte, error) {
	id, err := strictjson.ParseUUID(c.vars[name])
	if err != nil || id == (strictjson.UUID{}) {
		return [16]byte{}, &httpError{code: teebroker.MalformedRequest, title: "not a UUID in lower case"}
	}
	return id, nil
}

// purpose returns the purpose that the path names.
func (c *call) purpose() (string, error) {
	p := c.vars["purpose"]
	if !names.Registrable(p) {
		return "", &httpError{code: teebroker.MalformedRequest, title: "not a purpose: 1 to 64 of a-z, 0-9, '.', '_', '/' and '-', without empty or dot segments"}
	}
	return p, nil
}

// decode reads the body into v. An owner is told what is wrong with it.
func (c *call) decode(v any) error {
	if err := strictjson.Unmarshal(c.body, v); err != nil {
		return &httpError{code: teebroker.MalformedRequest, title: "body: " + err.Error()}
	}
	return nil
}

func (s *Server) instances(c *call) (answer, error) {
	ids, err := s.cfg.Owner.Instances(c.Context(), c.tenant)
	if err != nil {
		return answer{}, ownerError(err)
	}
	list := make([]strictjson.UUID, len(ids))
	for i, id := range ids {
		list[i] = id
	}
	return encode(map[string]any{"tenant": c.tenant, "instances": list})
}

func (s *Server) register(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	var r store.Registration
	if err := c.decode(&r); err != nil {
		return answer{}, err
	}
	if err := s.adopt(c); err != nil {
		return answer{}, err
	}
	r.Policies = WithOperator(s.cfg.Operator, r.Policies)
	st, err := s.cfg.Owner.Register(c.Context(), c.tenant, id, r)
	if err != nil {
		return answer{}, ownerError(err)
	}
	return encode(instanceOf(c.tenant, st))
}

// adopt sees to it that the tenant has the operator's policies. What is there
// already is not touched.
func (s *Server) adopt(c *call) error {
	ctx := store.WithOrder(c.Context(), teebroker.SignedOrder{}) // the owner's is for something else
	for _, p := range s.cfg.Operator {
		if err := s.cfg.Owner.PutPolicy(ctx, c.tenant, p.Name, p.Document); err != nil {
			return ownerError(err)
		}
	}
	return nil
}

// WithOperator returns policies with those of the operator before the others.
func WithOperator(operator []OperatorPolicy, policies []string) []string {
	var all []string
	for _, p := range operator {
		all = append(all, p.Name)
	}
	for _, p := range policies {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

func (s *Server) status(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	st, err := s.cfg.Owner.Status(c.Context(), c.tenant, id)
	if err != nil {
		return answer{}, ownerError(err)
	}
	return encode(instanceOf(c.tenant, st))
}

func instanceOf(tenant string, st store.Status) Instance {
	i := Instance{tenant, st.ID, st.Generation, st.Registration, append([]string{}, st.Secrets...), map[string]strictjson.Digest{}, st.State}
	for purpose, digest := range st.Blobs {
		if len(digest) == 32 {
			i.Blobs[purpose] = strictjson.Digest(digest)
		}
	}
	return i
}

func (s *Server) remove(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	return done(s.cfg.Owner.Delete(c.Context(), c.tenant, id))
}

// done answers that there is nothing more to say.
func done(err error) (answer, error) {
	if err != nil {
		return answer{}, ownerError(err)
	}
	return answer{status: http.StatusNoContent}, nil
}

func (s *Server) authorize(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	a, err := store.ParseAuthorization(c.tenant, id, c.body)
	if err != nil {
		return answer{}, ownerError(err)
	}
	a, err = s.cfg.Owner.Authorize(c.Context(), a)
	if err != nil {
		return answer{}, ownerError(err)
	}
	return encode(authorizationOf(store.AuthorizationStatus{Authorization: a, State: "OPEN"}))
}

func authorizationOf(a store.AuthorizationStatus) Authorization {
	j := Authorization{
		a.ID, a.Purposes, max(a.Uses, 1), a.NotBefore, a.NotAfter, a.Profiles, nil, a.OutlivesConfirm, a.Policy, a.Generation, a.Used, a.State,
	}
	for _, chip := range a.Chips {
		j.Chips = append(j.Chips, chip)
	}
	return j
}

func (s *Server) authorizations(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	as, err := s.cfg.Owner.Authorizations(c.Context(), c.tenant, id)
	if err != nil {
		return answer{}, ownerError(err)
	}
	list := make([]Authorization, len(as))
	for i, a := range as {
		list[i] = authorizationOf(a)
	}
	return encode(map[string]any{"authorizations": list})
}

func (s *Server) revoke(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	a, err := c.uuid("id")
	if err != nil {
		return answer{}, err
	}
	return done(s.cfg.Owner.Revoke(c.Context(), c.tenant, id, a))
}

// putSecret takes the secret as it is, not in JSON.
func (s *Server) putSecret(c *call) (answer, error) {
	defer clear(c.body)
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	purpose, err := c.purpose()
	if err != nil {
		return answer{}, err
	}
	return done(s.cfg.Owner.PutSecret(c.Context(), c.tenant, id, purpose, c.body))
}

func (s *Server) putBlob(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	purpose, err := c.purpose()
	if err != nil {
		return answer{}, err
	}
	var j blobJSON
	if err := c.decode(&j); err != nil {
		return answer{}, err
	}
	if j.Digest == (strictjson.Digest{}) {
		return answer{}, &httpError{code: teebroker.MalformedRequest, title: "digest is missing"}
	}
	if j.Wrapped != nil {
		w, err := keywrap.ParseWrapped(j.Wrapped)
		if err != nil || w.Digest() != j.Digest {
			return answer{}, &httpError{code: teebroker.MalformedRequest, title: "wrapped is not the blob of this digest", cause: err}
		}
	}
	return done(s.cfg.Owner.PutBlob(c.Context(), c.tenant, id, purpose, j.Digest, bytes.Clone(j.Wrapped)))
}

// rewrap wraps the registered blob to the key that owners wrap to now, registers
// the result, which ends the open authorizations of the instance, and answers with
// it. That of an instance with an owner key the owner registers, by an order for it. The body is the blob, or empty for the copy that the owner left.
func (s *Server) rewrap(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	purpose, err := c.purpose()
	if err != nil {
		return answer{}, err
	}
	st, err := s.cfg.Owner.Status(c.Context(), c.tenant, id)
	if err != nil {
		return answer{}, ownerError(err)
	}
	var old []byte
	if len(c.body) > 0 {
		old = c.body
	}
	w, err := s.cfg.Broker.Rewrap(c.Context(), c.tenant, id, purpose, old)
	if err != nil {
		return answer{}, unabridged(err)
	}
	text, err := w.MarshalJSON()
	if err != nil {
		return answer{}, unavailable("encoding", err)
	}
	if st.Registration.OwnerKey != (strictjson.Digest{}) {
		return jsonAnswer(text), nil // to be registered by an order, which names it
	}
	// What the owner registered meanwhile is not replaced by what was before.
	var before [32]byte
	copy(before[:], st.Blobs[purpose])
	if err := s.cfg.Owner.ReplaceBlob(c.Context(), c.tenant, id, purpose, before, w.Digest(), text); err != nil {
		return answer{}, ownerError(err)
	}
	return jsonAnswer(text), nil
}

// unabridged is err for an owner, who is told the word that a guest is not.
func unabridged(err error) error {
	var r teebroker.Refusal
	if errors.As(err, &r) && teebroker.Code(err) == string(teebroker.Denied) {
		return &httpError{http.StatusForbidden, r, err.Error(), err}
	}
	return err
}

func (s *Server) policies(c *call) (answer, error) {
	list, err := s.cfg.Owner.Policies(c.Context(), c.tenant)
	if err != nil {
		return answer{}, ownerError(err)
	}
	return encode(map[string]any{"policies": append([]string{}, list...)})
}

// putPolicy takes the document as it is: its bytes are what its digest is of.
func (s *Server) putPolicy(c *call) (answer, error) {
	mine := func(p OperatorPolicy) bool { return p.Name == c.vars["name"] }
	if slices.ContainsFunc(s.cfg.Operator, mine) {
		return answer{}, &httpError{code: teebroker.Forbidden, title: "this policy is the operator's"}
	}
	return done(s.cfg.Owner.PutPolicy(c.Context(), c.tenant, c.vars["name"], c.body))
}

func (s *Server) policy(c *call) (answer, error) {
	doc, err := s.cfg.Owner.Policy(c.Context(), c.tenant, c.vars["name"])
	if err != nil {
		return answer{}, ownerError(err)
	}
	return jsonAnswer(doc), nil
}

// recordPage is how many entries a request for the record returns, at most.
const recordPage = 1000

// record answers with entries of a chain: ?chain=decisions&after=0&limit=1000.
func (s *Server) record(c *call) (answer, error) {
	chain, after, limit, err := recordQuery(c)
	if err != nil {
		return answer{}, &httpError{code: teebroker.MalformedRequest, title: "query: " + err.Error()}
	}
	es, err := s.cfg.Owner.Record(c.Context(), c.tenant, chain, after, limit)
	if err != nil {
		return answer{}, ownerError(err)
	}
	r := Record{Tenant: c.tenant, Entries: make([]RecordEntry, len(es)), Checkpoints: []string{}}
	for i, e := range es {
		r.Entries[i] = RecordEntry{e.Chain, e.Generation, e.Seq, e.Time.UnixMilli(), e.Kind, e.Body, e.Previous, e.Hash}
	}
	if s.cfg.Checkpoints != nil {
		tokens, err := s.cfg.Checkpoints.Newest(c.Context(), c.tenant)
		if err != nil {
			return answer{}, unavailable("checkpoints", err)
		}
		for _, token := range tokens {
			r.Checkpoints = append(r.Checkpoints, string(token))
		}
	}
	return encode(r)
}

func recordQuery(c *call) (chain teebroker.Chain, after uint64, limit int, err error) {
	chain, limit = teebroker.Decisions, recordPage
	for name, values := range c.URL.Query() {
		if len(values) != 1 {
			return "", 0, 0, errors.New("a parameter is there twice")
		}
		switch name {
		case "chain":
			chain = teebroker.Chain(values[0])
		case "after":
			after, err = strconv.ParseUint(values[0], 10, 63)
		case "limit":
			limit, err = strconv.Atoi(values[0])
		default:
			return "", 0, 0, errors.New("a parameter that is not known")
		}
		if err != nil {
			return "", 0, 0, errors.New("not a number")
		}
	}
	if chain != teebroker.Decisions && chain != teebroker.Refusals {
		return "", 0, 0, errors.New("chain is neither decisions nor refusals")
	}
	if limit < 1 || limit > recordPage {
		return "", 0, 0, errors.New("limit is not 1 to 1000")
	}
	return chain, after, limit, nil
}

func unavailable(what string, err error) error {
	return &httpError{0, teebroker.Unavailable, title(string(teebroker.Unavailable)), errors.Join(errors.New(what), err)}
}
