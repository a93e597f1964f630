package teebroker

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// orderType is the "typ" of an order, which is checked.
const orderType = "teebroker-order+jws"

// MaxOrder is the most bytes of an order, and MaxOrderLife how far ahead the end
// of one may be, so that none lies around for years.
const (
	MaxOrder     = 4 << 10
	MaxOrderLife = 24 * time.Hour
)

// ErrOrder is wrapped by the errors of [VerifyOrder] and [SignOrder].
var ErrOrder = errors.New("teebroker: not an order")

// An OrderAct is what an owner orders.
type OrderAct string

// The OrderActs. To hold and to revoke needs no order: they only stop things.
const (
	OrderRegister  OrderAct = "register"  // an instance, or a change of it; also of its owner key
	OrderPolicy    OrderAct = "policy"    // a document, of no instance: Name is what it is called
	OrderDelete    OrderAct = "delete"    //
	OrderAuthorize OrderAct = "authorize" // the authorization has the ID of the order
	OrderSecret    OrderAct = "secret"    // Name is the purpose, here and below
	OrderBlob      OrderAct = "blob"
	OrderEpoch     OrderAct = "epoch"
	OrderResume    OrderAct = "resume"
	OrderRecover   OrderAct = "recover"
	OrderRetire    OrderAct = "retire"
	OrderResumeEK  OrderAct = "resume-ek" // Name is the EK that is the instance's, SHA-256 of its TPMT_PUBLIC in hexadecimal
)

// Order is what an owner signs to have one thing done, section 6 of the protocol.
// It is for one act on one instance as it is now, once. [SignOrder] sets Version,
// Issuer and, if it is zero, ID.
type Order struct {
	Version  int               `json:"v"`
	Issuer   strictjson.Digest `json:"iss"` // RFC 7638 thumbprint of the key that signs
	ID       strictjson.UUID   `json:"id"`  // random, for one use
	Act      OrderAct          `json:"act"`
	Tenant   string            `json:"tenant"`
	Instance strictjson.UUID   `json:"instance,omitzero"` // zero for a policy
	Name     string            `json:"name,omitempty"`    // purpose, policy or EK
	Body     strictjson.Digest `json:"body"`              // SHA-256 of the body of the request, byte for byte

	// Generation is that of the instance before the act; 0 for a new one and for
	// a policy.
	Generation uint64 `json:"generation"`

	// Owner is the key that the instance has after a register, Blob the digest of
	// the wrapped key that is current after a blob, epoch or recover (zero where
	// the broker makes it), State the [Orders.State] that an authorize rests on.
	Owner strictjson.Digest `json:"owner,omitzero"`
	Blob  strictjson.Digest `json:"blob,omitzero"`
	State strictjson.Digest `json:"state,omitzero"`

	Expires int64 `json:"exp"` // seconds since 1970; it is not taken from then on
}

const orderVersion = 1

// check returns an error if o can't be meant.
func (o Order) check() error {
	named, instance, blob := true, true, false
	switch o.Act {
	case OrderRegister, OrderDelete, OrderAuthorize:
		named = false
	case OrderPolicy:
		instance = false
	case OrderBlob, OrderEpoch:
		blob = true
	case OrderRecover:
		blob = o.Blob != strictjson.Digest{}
	case OrderSecret, OrderResume, OrderRetire, OrderResumeEK:
	default:
		return errors.New("not an act")
	}
	switch {
	case o.Version != orderVersion:
		return errors.New("not of this version")
	case o.ID == strictjson.UUID{} || o.Body == strictjson.Digest{} || o.Expires <= 0:
		return errors.New("without id, body or exp")
	case !names.Tenant(o.Tenant):
		return errors.New("not of a tenant")
	case instance != (o.Instance != strictjson.UUID{}), named != names.Purpose(o.Name), !named && o.Name != "":
		return errors.New("instance or name is not that of its act")
	case blob != (o.Blob != strictjson.Digest{}),
		(o.Act == OrderRegister) != (o.Owner != strictjson.Digest{}),
		(o.Act == OrderAuthorize) != (o.State != strictjson.Digest{}):
		return errors.New("owner, blob or state is not that of its act")
	case o.Act == OrderPolicy && o.Generation != 0, o.Act != OrderPolicy && o.Act != OrderRegister && o.Generation == 0:
		return errors.New("generation is not that of its act")
	}
	return nil
}

// OrderKey returns how instances name the key of signer, which is ECDSA on P-384:
// its RFC 7638 thumbprint, with SHA-256. The key may be in a token.
func OrderKey(signer crypto.Signer) ([32]byte, error) {
	pub, err := jws.Public(signer)
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrOrder, err)
	}
	return jws.Thumbprint(pub)
}

// SignOrder returns o as a compact JWS, ES384, signed by an owner key, which has no
// other use. An order that can't be meant wraps [ErrOrder].
func SignOrder(signer crypto.Signer, o Order) ([]byte, error) {
	key, err := OrderKey(signer)
	if err != nil {
		return nil, err
	}
	o.Version, o.Issuer = orderVersion, key
	if o.ID == (strictjson.UUID{}) {
		rand.Read(o.ID[:])
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOrder, err)
	}
	payload, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOrder, err)
	}
	token, err := jws.Sign(signer, orderType, payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOrder, err)
	}
	return token, nil
}

// VerifyOrder returns the order that token is, which its Issuer signed. Whether
// that is the key of the owner, and whether the order is for what is to be done,
// now and for the first time, the caller judges. Errors wrap [ErrOrder].
func VerifyOrder(token []byte) (Order, error) {
	o, err := verifyOrder(token)
	if err != nil {
		return Order{}, fmt.Errorf("%w: %w", ErrOrder, err)
	}
	return o, nil
}

func verifyOrder(token []byte) (Order, error) {
	if len(token) > MaxOrder {
		return Order{}, errors.New("too long")
	}
	parts := bytes.SplitN(token, []byte("."), 4)
	if len(parts) != 3 {
		return Order{}, errors.New("not a compact JWS")
	}
	payload, err := strictjson.ParseBase64(string(parts[1]))
	if err != nil {
		return Order{}, err
	}
	o, err := parseOrder(payload)
	if err != nil {
		return Order{}, err
	}
	// The signature is by the key that the order itself names.
	if _, err := jws.Verify(token, orderType, o.Issuer); err != nil {
		return Order{}, err
	}
	return o, nil
}

// parseOrder is strict: what says the same has the same bytes, so that no member
// is left out or there for nothing.
func parseOrder(payload []byte) (Order, error) {
	var o Order
	if err := strictjson.Unmarshal(payload, &o); err != nil {
		return Order{}, err
	}
	again, err := json.Marshal(o)
	if err != nil || !bytes.Equal(again, payload) {
		return Order{}, errors.New("not in the form of an order")
	}
	return o, o.check()
}
