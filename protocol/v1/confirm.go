package v1

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// confirmJSON is the body of a confirm and, with result and receipt, the answer,
// section 7 of the protocol. Pointers tell a member that is missing from one that
// is zero.
type confirmJSON struct {
	Release strictjson.UUID   `json:"release"`
	Epoch   uint64            `json:"epoch"`
	Seq     *uint64           `json:"seq"`
	State   strictjson.Digest `json:"state"`
	Settled *bool             `json:"settled"`
	EK      strictjson.Digest `json:"ek,omitzero"`
	MAC     strictjson.Digest `json:"mac"`
}

type confirmedJSON struct {
	confirmJSON
	Result  string `json:"result"`
	Receipt string `json:"receipt"`
}

func confirmOf(c teebroker.Confirm, mac []byte) (confirmJSON, error) {
	if len(mac) != 32 {
		return confirmJSON{}, errors.New("v1: a mac is 32 bytes")
	}
	return confirmJSON{c.Release, c.Epoch, &c.Seq, c.State, &c.Settled, c.EK, [32]byte(mac)}, nil
}

// confirm returns what j says, or an error if a member is missing.
func (j confirmJSON) confirm() (teebroker.Confirm, error) {
	if j.Release == (strictjson.UUID{}) || j.Epoch == 0 || j.Seq == nil || j.Settled == nil || j.State == (strictjson.Digest{}) || j.MAC == (strictjson.Digest{}) {
		return teebroker.Confirm{}, errors.New("release, epoch, seq, state, settled or mac is missing")
	}
	return teebroker.Confirm{Release: j.Release, Epoch: j.Epoch, Seq: *j.Seq, Settled: *j.Settled, State: j.State, EK: j.EK}, nil
}

// ParseConfirm returns the confirm that body is, strictly, and its MAC. Errors
// wrap teebroker.MalformedRequest.
func ParseConfirm(body []byte) (teebroker.Confirm, []byte, error) {
	var j confirmJSON
	err := strictjson.Unmarshal(body, &j)
	var c teebroker.Confirm
	if err == nil {
		c, err = j.confirm()
	}
	if err != nil {
		return teebroker.Confirm{}, nil, malformed(err)
	}
	return c, j.MAC[:], nil
}

// confirm answers POST /broker/v1/confirm.
func (s *Server) confirm(c *call) (answer, error) {
	said, mac, err := ParseConfirm(c.body)
	if err != nil {
		return answer{}, err
	}
	a, err := s.cfg.Broker.Confirm(c.Context(), said, mac)
	if err != nil {
		return answer{}, err
	}
	j, err := confirmOf(a.Confirm, a.MAC)
	if err != nil {
		return answer{}, unavailable("encoding", err)
	}
	return encode(confirmedJSON{j, a.Result, string(a.Receipt)})
}

// Confirm sends what a guest says of its state and returns the answer, of which
// nothing is to be believed before its MAC was compared; guest/state does that.
func (c *Client) Confirm(ctx context.Context, said teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
	j, err := confirmOf(said, mac)
	if err != nil {
		return teebroker.Acknowledged{}, err
	}
	var got confirmedJSON
	if err := c.call(ctx, http.MethodPost, PathConfirm, j, &got); err != nil {
		return teebroker.Acknowledged{}, err
	}
	back, err := got.confirm()
	if err != nil {
		return teebroker.Acknowledged{}, fmt.Errorf("v1: answer: %w", err)
	}
	return teebroker.Acknowledged{Confirm: back, Result: got.Result, MAC: got.MAC[:], Receipt: []byte(got.Receipt)}, nil
}
