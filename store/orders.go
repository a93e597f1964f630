package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

type orderKey struct{}

// WithOrder returns a context by which what an [Owner] is asked to do is ordered:
// with the token, and the body of the request that the token is for, to the byte.
// Both are shared. Any act may need an order, so that it comes beside what is
// asked and not as one more argument everywhere.
func WithOrder(ctx context.Context, o teebroker.SignedOrder) context.Context {
	return context.WithValue(ctx, orderKey{}, o)
}

// A Deed is what is to be done, as a store finds things in the transaction.
type Deed struct {
	Act        teebroker.OrderAct
	Tenant     string
	Instance   [16]byte
	Name       string   // as [teebroker.Order.Name]
	Generation uint64   // of the instance, before it
	Key        [32]byte // owner key of the instance, or that it is to have; zero if there is none
	Owner      [32]byte // that it has after a register
	Blob       [32]byte // that is current after it and that the owner made
	State      [32]byte // of the instance
}

// Taken is the order that a Deed was ordered with; zero if none was needed.
type Taken struct {
	teebroker.Order
	Signed teebroker.SignedOrder
}

// Digest is what the record names the order by: SHA-256 of its token, or zero.
func (t Taken) Digest() [32]byte {
	if t.Signed.Token == nil {
		return [32]byte{}
	}
	return sha256.Sum256(t.Signed.Token)
}

// Take returns the order in ctx if it is for d at the time now. Anything else is
// [Unordered]. Where no owner key is, there must be no order: who sent one believes
// otherwise. That its id is new, the store finds.
func (d Deed) Take(ctx context.Context, now time.Time) (Taken, error) {
	signed, _ := ctx.Value(orderKey{}).(teebroker.SignedOrder)
	switch {
	case d.Key == [32]byte{} && signed.Token == nil:
		return Taken{}, nil
	case d.Key == [32]byte{}:
		return Taken{}, unordered(errors.New("there is an order, and no owner key is registered"))
	case signed.Token == nil:
		return Taken{}, unordered(errors.New("there is none"))
	}
	o, err := teebroker.VerifyOrder(signed.Token)
	if err == nil {
		err = d.judge(o, signed.Body, now)
	}
	if err != nil {
		return Taken{}, unordered(err)
	}
	return Taken{o, signed}, nil
}

func unordered(err error) error { return fmt.Errorf("%w: %w", Unordered, err) }

// judge returns an error unless o is for d.
func (d Deed) judge(o teebroker.Order, body []byte, now time.Time) error {
	switch {
	case o.Issuer != d.Key:
		return errors.New("signed by another key")
	case o.Act != d.Act:
		return fmt.Errorf("an order to %s, not to %s", o.Act, d.Act)
	case o.Tenant != d.Tenant || o.Instance != d.Instance:
		return errors.New("for another tenant or instance")
	case o.Name != d.Name:
		return errors.New("for another purpose or name")
	case o.Body != sha256.Sum256(body):
		return errors.New("for another body")
	case o.Generation != d.Generation:
		return fmt.Errorf("for generation %d, and the instance is in %d: look at it again", o.Generation, d.Generation)
	case o.Owner != d.Owner:
		return errors.New("for another owner key")
	case o.Blob != d.Blob:
		return errors.New("for another wrapped key")
	case o.State != d.State:
		return errors.New("for another state of the instance: look at it again")
	case !now.Before(time.Unix(o.Expires, 0)):
		return errors.New("expired")
	case time.Unix(o.Expires, 0).After(now.Add(teebroker.MaxOrderLife)):
		return fmt.Errorf("good for more than %v", teebroker.MaxOrderLife)
	}
	return nil
}

// TakePolicy is [Deed.Take] for document as the policy called name. needed are the
// owner keys that have to order it: of instances that ask for it by an order of
// theirs, if it is another document now.
func TakePolicy(ctx context.Context, tenant, name string, document []byte, needed [][32]byte, now time.Time) (Taken, error) {
	signed, _ := ctx.Value(orderKey{}).(teebroker.SignedOrder)
	d := Deed{Act: teebroker.OrderPolicy, Tenant: tenant, Name: name}
	if len(needed) > 0 {
		d.Key = needed[0]
	} else if o, err := teebroker.VerifyOrder(signed.Token); err == nil {
		d.Key = o.Issuer // whoever it is: no instance asks for it yet
	}
	t, err := d.Take(ctx, now)
	switch {
	case err != nil:
		return Taken{}, err
	case t.Signed.Token != nil && t.Body != sha256.Sum256(document):
		return Taken{}, unordered(errors.New("for another document"))
	}
	for _, k := range needed {
		if k != d.Key {
			return Taken{}, unordered(errors.New("instances of two owner keys ask for it: use another name"))
		}
	}
	return t, nil
}

// OrderOnce returns [Unordered] for an order whose id is known.
func OrderOnce(known bool) error {
	if known {
		return unordered(errors.New("used before"))
	}
	return nil
}

// Registers returns the names of the policies that reg asks for by its order, and
// an error that wraps [Invalid] unless reg is what the order says, but for policies
// that the broker's operator adds.
func (t Taken) Registers(reg Registration) ([]string, error) {
	ordered, err := ParseRegistration(t.Signed.Body)
	if err != nil {
		return nil, err
	}
	for _, name := range ordered.Policies {
		if !slices.Contains(reg.Policies, name) {
			return nil, fmt.Errorf("%w: the registration is not the one that is ordered", Invalid)
		}
	}
	reg = reg.Clone()
	reg.Policies = ordered.Policies
	a, err1 := json.Marshal(reg)
	b, err2 := json.Marshal(ordered)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("%w: %w", Invalid, err)
	}
	if string(a) != string(b) {
		return nil, fmt.Errorf("%w: the registration is not the one that is ordered", Invalid)
	}
	return ordered.Policies, nil
}

// Authorizes returns a with the id that it gets: that of its order, if there is
// one, which names no other.
func (t Taken) Authorizes(a teebroker.Authorization) (teebroker.Authorization, error) {
	switch {
	case t.Signed.Token != nil && a.ID != [16]byte{} && a.ID != t.ID:
		return a, fmt.Errorf("%w: the id is not that of the order", Invalid)
	case t.Signed.Token != nil:
		a.ID = t.ID
	case a.ID == [16]byte{}:
		rand.Read(a.ID[:])
		a.ID[6], a.ID[8] = a.ID[6]&0x0f|0x40, a.ID[8]&0x3f|0x80 // a UUID of version 4
	}
	return a, nil
}

// ParseRegistration returns the Registration that body is, strictly. An error wraps
// [Invalid].
func ParseRegistration(body []byte) (Registration, error) {
	var r Registration
	if err := strictjson.Unmarshal(body, &r); err != nil {
		return Registration{}, fmt.Errorf("%w: %w", Invalid, err)
	}
	return r, r.Check()
}

// authorizationText is what owners send to authorize.
type authorizationText struct {
	ID        strictjson.UUID  `json:"id"`
	Purposes  []string         `json:"purposes"`
	Uses      int              `json:"uses"`
	NotBefore time.Time        `json:"not_before"`
	NotAfter  time.Time        `json:"not_after"`
	Profiles  []nonce.Profile  `json:"profiles"`
	Chips     []strictjson.Hex `json:"chips"`
	Outlives  bool             `json:"outlives_confirm"`
}

// ParseAuthorization returns the authorization that body asks for, strictly and
// with defaults filled in. An error wraps [Invalid].
func ParseAuthorization(tenant string, id [16]byte, body []byte) (teebroker.Authorization, error) {
	var j authorizationText
	if err := strictjson.Unmarshal(body, &j); err != nil {
		return teebroker.Authorization{}, fmt.Errorf("%w: %w", Invalid, err)
	}
	a := teebroker.Authorization{
		ID: j.ID, Tenant: tenant, Instance: id, Purposes: j.Purposes, Uses: j.Uses,
		NotBefore: j.NotBefore, NotAfter: j.NotAfter, Profiles: j.Profiles, OutlivesConfirm: j.Outlives,
	}
	if j.Chips != nil {
		a.Chips = [][]byte{} // an empty list is none that can be meant
	}
	for _, chip := range j.Chips {
		a.Chips = append(a.Chips, chip)
	}
	return CheckAuthorization(a)
}

// Bodies reads the bodies of orders, which are those of protocol/v1.
type Bodies struct{}

var _ teebroker.OrderBodies = Bodies{}

// Registration implements [teebroker.OrderBodies].
func (Bodies) Registration(tenant string, id [16]byte, body []byte) (teebroker.Instance, []string, error) {
	r, err := ParseRegistration(body)
	if err != nil {
		return teebroker.Instance{}, nil, err
	}
	return r.Instance(tenant, id, 0, nil), r.Policies, nil
}

// Authorization implements [teebroker.OrderBodies].
func (Bodies) Authorization(tenant string, id [16]byte, body []byte) (teebroker.Authorization, error) {
	return ParseAuthorization(tenant, id, body)
}

// What an order is stored for, in a store where each such thing of an instance has
// one. Policies are of a tenant, and those of each key are told apart.
const (
	SubjectRegistration  = "registration"
	subjectKey           = "key/"
	subjectBlob          = "blob/"
	subjectAuthorization = "authorization/"
	subjectPolicy        = "policy/"
)

// SubjectKey is that of the order which made generation the first with its owner
// key. Subjects sort as generations do.
func SubjectKey(generation uint64) string { return fmt.Sprintf("%s%020d", subjectKey, generation) }

// SubjectBlob is that of the blob of a purpose.
func SubjectBlob(purpose string) string { return subjectBlob + purpose }

// SubjectAuthorization is that of an authorization.
func SubjectAuthorization(id [16]byte) string {
	return subjectAuthorization + strictjson.UUID(id).String()
}

// SubjectPolicy is that of a document as the key ordered it.
func SubjectPolicy(name string, key [32]byte) string {
	return subjectPolicy + name + "/" + base64.RawURLEncoding.EncodeToString(key[:])
}

// AddOrder puts an order that is stored for subject where all has those. They come
// in the order of their subjects. What is none of all's is left out.
func AddOrder(all *teebroker.Orders, subject string, o teebroker.SignedOrder) {
	purpose, blob := strings.CutPrefix(subject, subjectBlob)
	switch {
	case blob:
		all.Blobs[purpose] = o
	case strings.HasPrefix(subject, subjectKey):
		all.Keys = append(all.Keys, o.Token)
	case subject == SubjectRegistration:
		all.Registration = o
	}
}

// OwnersKey returns the digest of b for the order of a recovery: zero if a broker
// made b, which nobody else can.
func OwnersKey(b teebroker.Blob) [32]byte {
	if w, err := keywrap.ParseWrapped(b.Wrapped); err == nil {
		if h, err := w.Header(); err == nil && h.By == keywrap.ByBroker {
			return [32]byte{}
		}
	}
	return b.Digest
}

// OrderedPolicy returns an error that wraps [Invalid] unless o, the order of a policy
// by an owner key, is for the document of this digest.
func OrderedPolicy(o teebroker.SignedOrder, name string, digest [32]byte) error {
	if got, err := teebroker.VerifyOrder(o.Token); err != nil || got.Body != digest {
		return fmt.Errorf("%w: policy %s is not ordered by the owner key: put it with an order of that key first", Invalid, name)
	}
	return nil
}
