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

// ErrOwnerKey is wrapped where a Client that orders is told that the instance has
// another owner key, or none. Nothing is sent then: a secret for such an instance
// would be anybody's who can write to the broker's database.
var ErrOwnerKey = errors.New("the broker says that the instance has another owner key, or none")

// order returns ctx with an order of what o and body say about an instance, if the
// Client has a key.
func (c *Client) order(ctx context.Context, id [16]byte, o teebroker.Order, body []byte) (context.Context, error) {
	if c.orderKey == nil {
		return ctx, nil
	}
	if o.Act != teebroker.OrderPolicy {
		i, err := c.mine(ctx, id, o)
		if err != nil {
			return nil, err
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

// mine returns the instance if it has the Client's key, or if o gives it that.
func (c *Client) mine(ctx context.Context, id [16]byte, o teebroker.Order) (Instance, error) {
	key, err := teebroker.OrderKey(c.orderKey)
	if err != nil {
		return Instance{}, fmt.Errorf("v1: %w", err)
	}
	i, err := c.Instance(ctx, id)
	var p *Problem
	first := o.Act == teebroker.OrderRegister && o.Owner == key
	switch {
	case errors.As(err, &p) && p.Status == http.StatusNotFound && first:
		return Instance{}, nil
	case err != nil:
		return Instance{}, err
	case i.Registration.OwnerKey == strictjson.Digest{} && first, i.Registration.OwnerKey == key:
		return i, nil
	}
	return Instance{}, fmt.Errorf("v1: %w", ErrOwnerKey)
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
