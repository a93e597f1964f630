package v1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/store"
)

// Epochs gives a purpose epochs: the first wrapped key, whose header names
// Number, and what the host may choose from.
type Epochs struct {
	Mode    string            `json:"mode"`    // boot or write
	Number  uint64            `json:"number"`  // of Digest, usually 1
	Digest  strictjson.Digest `json:"digest"`  // of the wrapped key
	Wrapped json.RawMessage   `json:"wrapped"` // the wrapped key, which the broker keeps
	Initial bool              `json:"initial"` // the guest makes its first state
}

// Act is the body of hold, resume, recover and retire. Recover has either Epoch,
// the number of a dead epoch whose state the owner's disk has, and maybe its
// wrapped key; or Number with a Digest and Wrapped key of the owner's own.
type Act struct {
	Purpose string            `json:"purpose"`
	Epoch   uint64            `json:"epoch,omitempty"`
	Number  uint64            `json:"number,omitempty"`
	Digest  strictjson.Digest `json:"digest,omitzero"`
	Wrapped json.RawMessage   `json:"wrapped,omitempty"`

	// EK, without a Purpose, is the EK that resume says is the one of the instance:
	// SHA-256 of its TPMT_PUBLIC.
	EK strictjson.Digest `json:"ek,omitzero"`
}

func (s *Server) begin(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	purpose, err := c.purpose()
	if err != nil {
		return answer{}, err
	}
	var j Epochs
	if err := c.decode(&j); err != nil {
		return answer{}, err
	}
	status, err := s.cfg.Owner.Begin(c.Context(), c.tenant, id, purpose, store.EpochStart{
		Mode: j.Mode, Blob: teebroker.Blob{Digest: j.Digest, Epoch: j.Number, Wrapped: j.Wrapped}, Initial: j.Initial,
	})
	return epochAnswer(status, err)
}

func (s *Server) epochs(c *call) (answer, error) {
	id, err := c.instance()
	if err != nil {
		return answer{}, err
	}
	purpose, err := c.purpose()
	if err != nil {
		return answer{}, err
	}
	return epochAnswer(s.cfg.Owner.Epoch(c.Context(), c.tenant, id, purpose))
}

func epochAnswer(status store.EpochStatus, err error) (answer, error) {
	if err != nil {
		return answer{}, ownerError(err)
	}
	return encode(status)
}

// act is one of hold, resume, recover and retire.
func (s *Server) act(name string) func(*call) (answer, error) {
	return func(c *call) (answer, error) {
		id, err := c.instance()
		if err != nil {
			return answer{}, err
		}
		var j Act
		if err := c.decode(&j); err != nil {
			return answer{}, err
		}
		if j.EK != (strictjson.Digest{}) {
			return s.resumeEK(c, name, id, j)
		}
		if !names.Registrable(j.Purpose) {
			return answer{}, &httpError{code: teebroker.MalformedRequest, title: "purpose is missing"}
		}
		owner, ctx := s.cfg.Owner, c.Context()
		if name == "recover" {
			return s.recover(c, id, j)
		}
		if j.Epoch != 0 || j.Number != 0 || j.Wrapped != nil || j.Digest != (strictjson.Digest{}) {
			return answer{}, &httpError{code: teebroker.MalformedRequest, title: "only recover takes a key"}
		}
		switch name {
		case "hold":
			return epochAnswer(owner.Hold(ctx, c.tenant, id, j.Purpose))
		case "resume":
			return epochAnswer(owner.Resume(ctx, c.tenant, id, j.Purpose))
		}
		return epochAnswer(owner.Retire(ctx, c.tenant, id, j.Purpose))
	}
}

func (s *Server) recover(c *call, id [16]byte, j Act) (answer, error) {
	owner, ctx := s.cfg.Owner, c.Context()
	if _, err := owner.Epoch(ctx, c.tenant, id, j.Purpose); err != nil {
		return answer{}, ownerError(err)
	}
	b := teebroker.Blob{Digest: j.Digest, Epoch: j.Number, Wrapped: slices.Clone([]byte(j.Wrapped))}
	if j.Epoch != 0 {
		if j.Number != 0 || j.Digest != (strictjson.Digest{}) || s.cfg.Broker == nil {
			return answer{}, &httpError{code: teebroker.MalformedRequest, title: "either epoch, or a number and a key of your own"}
		}
		var err error
		if b, err = s.cfg.Broker.Renew(ctx, c.tenant, id, j.Purpose, j.Epoch, b.Wrapped); err != nil {
			return answer{}, unabridged(err)
		}
	}
	return epochAnswer(owner.Recover(ctx, c.tenant, id, j.Purpose, b, j.Epoch))
}

// Begin gives a purpose of an instance epochs. w is the wrapped key of e.Number.
func (c *Client) Begin(ctx context.Context, id [16]byte, purpose string, e Epochs, w keywrap.Wrapped) (store.EpochStatus, error) {
	text, err := w.MarshalJSON()
	if err != nil {
		return store.EpochStatus{}, fmt.Errorf("v1: %w", err)
	}
	e.Digest, e.Wrapped = w.Digest(), text
	var got store.EpochStatus
	o := teebroker.Order{Act: teebroker.OrderEpoch, Name: purpose, Blob: e.Digest}
	err = c.ordered(ctx, id, o, http.MethodPut, instancePath(id)+"/epochs/"+purpose, e, &got)
	return got, err
}

// Epoch returns where the epochs of a purpose are.
func (c *Client) Epoch(ctx context.Context, id [16]byte, purpose string) (store.EpochStatus, error) {
	var got store.EpochStatus
	err := c.call(ctx, http.MethodGet, instancePath(id)+"/epochs/"+purpose, nil, &got)
	return got, err
}

// Live returns the release of a purpose that was confirmed last, if none came after
// and it is not held; else zero. It is of the tenant whose token c has, which
// tenant has to be: what package proof asks.
func (c *Client) Live(ctx context.Context, tenant string, instance [16]byte, purpose string) ([16]byte, error) {
	got, err := c.Instance(ctx, instance)
	if err != nil {
		return [16]byte{}, err
	}
	if got.Tenant != tenant {
		return [16]byte{}, errors.New("v1: the token is of another tenant")
	}
	status, err := c.Epoch(ctx, instance, purpose)
	if err != nil || status.State != "CURRENT" {
		return [16]byte{}, err
	}
	return status.Live, nil
}

// Act asks for hold, resume, recover or retire, and returns what follows. To resume
// an EK is asked with ResumeEK.
func (c *Client) Act(ctx context.Context, id [16]byte, act string, a Act) (store.EpochStatus, error) {
	var got store.EpochStatus
	if !slices.Contains([]string{"hold", "resume", "recover", "retire"}, act) {
		return got, errors.New("v1: no such act")
	}
	path := instancePath(id) + "/" + act
	if act == "hold" {
		err := c.call(ctx, http.MethodPost, path, a, &got)
		return got, err
	}
	o := teebroker.Order{Act: teebroker.OrderAct(act), Name: a.Purpose, Blob: a.Digest}
	err := c.ordered(ctx, id, o, http.MethodPost, path, a, &got)
	return got, err
}
