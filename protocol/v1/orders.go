package v1

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// HeaderOrder is in which an owner sends the order of what the request asks for: a
// compact JWS of at most teebroker.MaxOrder bytes, [teebroker.SignOrder]. Its body
// digest is of the body of the request, byte for byte, which is empty for DELETE.
const HeaderOrder = "Teebroker-Order"

// orderOf puts the order of an owner's request, if there is one, where stores look
// for it. What it is for, they judge.
func (s *Server) orderOf(c *call) error {
	values := c.Header.Values(HeaderOrder)
	if len(values) == 0 || c.route.kind != owners {
		return nil
	}
	if len(values) > 1 || values[0] == "" || len(values[0]) > teebroker.MaxOrder {
		return &httpError{code: teebroker.MalformedRequest, title: "not an order in " + HeaderOrder}
	}
	c.Request = c.WithContext(store.WithOrder(c.Context(), teebroker.SignedOrder{Token: []byte(values[0]), Body: c.body}))
	return nil
}

// orderLife is how long an order of a Client is good for: the time to send it, with
// clocks that differ.
const orderLife = 5 * time.Minute

// order returns ctx with an order of what o and body say about an instance, if the
// Client has a key and the instance takes orders. Whether it does, the broker is
// asked, and can only say no to what it then refuses.
func (c *Client) order(ctx context.Context, id [16]byte, o teebroker.Order, body []byte) (context.Context, error) {
	if c.orderKey == nil {
		return ctx, nil
	}
	if o.Act != teebroker.OrderPolicy {
		i, err := c.Instance(ctx, id)
		var p *Problem
		switch {
		case errors.As(err, &p) && p.Status == http.StatusNotFound: // then it is new
			if o.Owner == (strictjson.Digest{}) {
				return ctx, nil
			}
		case err != nil:
			return nil, err
		case i.Registration.OwnerKey == strictjson.Digest{} && o.Owner == strictjson.Digest{}:
			return ctx, nil
		}
		o.Instance, o.Generation = id, i.Generation
		if o.Act == teebroker.OrderAuthorize {
			o.State = i.State
		}
	}
	o.Tenant, o.Body, o.Expires = c.tenant, sha256.Sum256(body), c.now().Add(orderLife).Unix()
	token, err := teebroker.SignOrder(c.orderKey, o)
	if err != nil {
		return nil, fmt.Errorf("v1: %w", err)
	}
	return context.WithValue(ctx, orderHeader{}, string(token)), nil
}

type orderHeader struct{}

// setOrder sets the header of a request whose context has an order.
func setOrder(req *http.Request) {
	if token, ok := req.Context().Value(orderHeader{}).(string); ok {
		req.Header.Set(HeaderOrder, token)
	}
}

// ordered is call for what o orders about an instance.
func (c *Client) ordered(ctx context.Context, id [16]byte, o teebroker.Order, method, path string, v, out any) error {
	var body []byte
	if v != nil {
		var err error
		if body, err = json.Marshal(v); err != nil {
			return fmt.Errorf("v1: %w", err)
		}
	}
	ctx, err := c.order(ctx, id, o, body)
	if err != nil {
		return err
	}
	if v != nil {
		v = json.RawMessage(body) // what was signed
	}
	return c.call(ctx, method, path, v, out)
}
