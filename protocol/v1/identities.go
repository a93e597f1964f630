package v1

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// IdentityConfig says what is known of the TPMs of guests, and to whom it is told.
type IdentityConfig struct {
	Identities store.Identities // required

	// AgentID returns what a Keylime agent with an EK is called if its uuid is
	// "hash_ek", of the TPMT_PUBLIC: vtpm.HashEK. Required.
	AgentID func(public []byte) (string, error)

	// Certificates returns who issues certificates of the EKs of a tenant. If nil,
	// none are issued. A CA of its own for each tenant keeps each from the TPMs of
	// others, in whose Keylime the root is trusted.
	Certificates func(ctx context.Context, tenant string) (EKIssuer, error)
}

// complete returns an error that names what is missing.
func (i *IdentityConfig) complete(cfg Config) error {
	switch {
	case i == nil:
		return nil
	case i.Identities == nil || i.AgentID == nil:
		return errors.New("v1: Config.Identities is incomplete")
	case cfg.Owner == nil || cfg.Broker == nil: // who may ask, and of what kind the platforms are
		return errors.New("v1: Config.Identities needs Owner and Broker")
	}
	return nil
}

// Identity is what an owner is told of the TPM of a guest.
type Identity struct {
	Identity store.Identity `json:"identity"`

	// Simulated says that the state of the broker is of simulated platforms: it
	// says nothing about hardware.
	Simulated bool `json:"simulated"`
}

// AgentRegistration says which Keylime agent an EK is of. Public, the TPMT_PUBLIC of the EK,
// is needed if the broker knows no more of the EK than a guest's confirm.
type AgentRegistration struct {
	Agent  string            `json:"agent"`
	Public strictjson.Base64 `json:"public,omitempty"`
}

func (s *Server) identityTable() []route {
	if s.cfg.Identities == nil {
		return nil
	}
	const ek = PathEK + "/{digest}"
	return []route{
		{http.MethodGet, ek, owners, 0, s.byEK},
		{http.MethodPut, ek + "/agent", owners, maxSmall, s.registerAgent},
		{http.MethodGet, PathAgents + "/{agent}", owners, 0, s.byAgent},
	}
}

// digest returns the EK that the path names: SHA-256 of its TPMT_PUBLIC.
func (c *call) digest() (d [32]byte, err error) {
	b, err := strictjson.ParseHex(c.vars["digest"])
	if err != nil || len(b) != len(d) {
		return d, &httpError{code: teebroker.MalformedRequest, title: "not 64 lower-case hexadecimal digits"}
	}
	return [32]byte(b), nil
}

func (s *Server) byEK(c *call) (answer, error) {
	ek, err := c.digest()
	if err != nil {
		return answer{}, err
	}
	return s.identityAnswer(s.cfg.Identities.Identities.ByEK(c.Context(), c.tenant, ek))
}

func (s *Server) byAgent(c *call) (answer, error) {
	return s.identityAnswer(s.cfg.Identities.Identities.ByAgent(c.Context(), c.tenant, c.vars["agent"]))
}

// registerAgent makes an agent that of an EK. The same again changes nothing.
func (s *Server) registerAgent(c *call) (answer, error) {
	ek, err := c.digest()
	if err != nil {
		return answer{}, err
	}
	var j AgentRegistration
	if err := c.decode(&j); err != nil {
		return answer{}, err
	}
	a := store.Agent{ID: j.Agent, Public: j.Public}
	if len(j.Public) > 0 {
		if a.AgentID, err = s.cfg.Identities.AgentID(j.Public); err != nil {
			return answer{}, &httpError{code: teebroker.MalformedRequest, title: "public is not the public area of an EK", cause: err}
		}
	}
	return s.identityAnswer(store.RegisterAgain(c.Context(), s.cfg.Identities.Identities, c.tenant, ek, a))
}

func (s *Server) identityAnswer(id store.Identity, err error) (answer, error) {
	switch {
	case errors.Is(err, teebroker.Held), errors.Is(err, teebroker.Superseded):
		return answer{}, err
	case err != nil:
		return answer{}, ownerError(err)
	}
	return encode(Identity{id, s.cfg.Broker.Simulated()})
}

// resumeEK is a resume that names an EK.
func (s *Server) resumeEK(c *call, act string, id [16]byte, j Act) (answer, error) {
	if s.cfg.Identities == nil || act != "resume" || j.Purpose != "" || j.Epoch != 0 || j.Number != 0 || j.Wrapped != nil || j.Digest != (strictjson.Digest{}) {
		return answer{}, &httpError{code: teebroker.MalformedRequest, title: "only resume takes an ek, and nothing with it"}
	}
	return s.identityAnswer(s.cfg.Identities.Identities.ResumeEK(c.Context(), c.tenant, id, j.EK))
}

// ResumeEK says that ek, SHA-256 of a TPMT_PUBLIC, is the EK of an instance: see
// store.Identities. Epochs that are held stay so until they are resumed.
func (c *Client) ResumeEK(ctx context.Context, id [16]byte, ek [32]byte) (Identity, error) {
	var got Identity
	o := teebroker.Order{Act: teebroker.OrderResumeEK, Name: hex.EncodeToString(ek[:])}
	err := c.ordered(ctx, id, o, http.MethodPost, instancePath(id)+"/resume", resumeJSON{ek}, &got)
	return got, err
}

type resumeJSON struct {
	EK strictjson.Digest `json:"ek"`
}

func ekPath(ek [32]byte) string {
	return PathEK + "/" + hex.EncodeToString(ek[:])
}

// Identity returns what is known of the TPM with an EK, by SHA-256 of its TPMT_PUBLIC.
func (c *Client) Identity(ctx context.Context, ek [32]byte) (Identity, error) {
	var got Identity
	err := c.call(ctx, http.MethodGet, ekPath(ek), nil, &got)
	return got, err
}

// Agent returns what is known of the TPM of a Keylime agent.
func (c *Client) Agent(ctx context.Context, agent string) (Identity, error) {
	var got Identity
	err := c.call(ctx, http.MethodGet, PathAgents+"/"+agent, nil, &got)
	return got, err
}

// RegisterAgent makes a that of an EK, for ever. The same again is no error.
func (c *Client) RegisterAgent(ctx context.Context, ek [32]byte, a AgentRegistration) (Identity, error) {
	var got Identity
	err := c.call(ctx, http.MethodPut, ekPath(ek)+"/agent", a, &got)
	return got, err
}
