package teebroker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/teebroker/teebroker/internal/lru"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/policy"
)

// SignedOrder is an [Order] as it is kept: the JWS, and the body that it is about,
// where something has to be read in it again. Both are shared and not modified.
type SignedOrder struct {
	Token []byte
	Body  []byte // of register and authorize
}

// Orders are the orders that an [Instance] with an owner key is made of, as they
// were taken. A store keeps them and is not believed: the Broker verifies them
// again before every release, and takes from the Instance only what they say.
type Orders struct {
	// Keys are the registers that changed the owner key, oldest first, each signed
	// by the key before; the first one is signed by the key that it names.
	// Registration is the one in force, with its body.
	Keys         [][]byte
	Registration SignedOrder

	Policies map[string]SignedOrder // by name, those of the present owner key
	Blobs    map[string]SignedOrder // by purpose; of epochs, the last one that an owner made
}

// MaxOwnerKeys is how many owner keys an instance may have, one after the other.
const MaxOwnerKeys = 16

// Clone returns a copy of o that shares no map or list of it; of nil, nil.
func (o *Orders) Clone() *Orders {
	if o == nil {
		return nil
	}
	return &Orders{slices.Clone(o.Keys), o.Registration, maps.Clone(o.Policies), maps.Clone(o.Blobs)}
}

// State names all that o has, by which an authorization says what it rests on:
// SHA-256(LP("teebroker/v1/orders") ‖ LP(SHA-256 of the registration's token) ‖
// policies ‖ blobs), the latter two as their number in 4 bytes, big-endian, and
// for each in the order of their names LP(name) ‖ LP(SHA-256 of its token).
func (o *Orders) State() [32]byte {
	name := func(b []byte, token []byte) []byte {
		sum := sha256.Sum256(token)
		return appendLP(b, sum[:])
	}
	b := name(appendLP(nil, []byte("teebroker/v1/orders")), o.Registration.Token)
	for _, set := range []map[string]SignedOrder{o.Policies, o.Blobs} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(set)))
		for _, k := range slices.Sorted(maps.Keys(set)) {
			b = name(appendLP(b, []byte(k)), set[k].Token)
		}
	}
	return sha256.Sum256(b)
}

// OrderBodies reads the bodies of orders again. They are requests of an owner's
// adapter: package store has one for those of v1. What a body leaves open, such as
// policies and blobs, is not in the result.
type OrderBodies interface {
	// Registration returns the instance that body registers, without policies, and
	// the names of those that it asks for, of which there is at least one.
	Registration(tenant string, instance [16]byte, body []byte) (Instance, []string, error)

	// Authorization returns what body authorizes, defaults filled in.
	Authorization(tenant string, instance [16]byte, body []byte) (Authorization, error)
}

// maxObeyed bounds what is remembered of instances, and of authorizations.
const maxObeyed = 4096

// obeyed are verified orders, by digests of all that they were read from: what
// is not to the byte the same is verified anew.
type obeyed struct {
	instances      *lru.Cache[[32]byte, *ordered]
	authorizations *lru.Cache[[32]byte, orderedAuthorization]
}

func newObeyed() obeyed {
	return obeyed{lru.New[[32]byte, *ordered](maxObeyed), lru.New[[32]byte, orderedAuthorization](maxObeyed)}
}

// ordered is what verified Orders say.
type ordered struct {
	inst       Instance // without what has no order
	keys       [][32]byte
	generation uint64 // of the registration, before it
	blobs      map[string]Order
	state      [32]byte
}

// notOrdered is why nothing is released: what the store has is not what an owner
// ordered.
func notOrdered(what string, err error) error {
	return fmt.Errorf("teebroker: %w: order of %s: %w", NotAuthorized, what, err)
}

// obey returns inst as its owner ordered it. An instance without an owner key is
// returned as it is.
func (b *Broker) obey(inst Instance) (Instance, error) {
	inst.OwnerKeys, inst.ordered = nil, nil
	switch {
	case inst.Owner == [32]byte{} && inst.Orders == nil:
		return inst, nil
	case inst.Owner == [32]byte{} || inst.Orders == nil:
		return Instance{}, notOrdered("register", errors.New("an owner key without orders, or orders without a key"))
	case b.cfg.Orders == nil:
		return Instance{}, unavailable("orders", errors.New("Config.Orders is nil, and the instance has an owner key"))
	}
	digest := orderedDigest(inst)
	o, ok := b.obeyed.instances.Get(digest)
	if !ok {
		var err error
		if o, err = verifyOrders(b.cfg.Orders, inst); err != nil {
			return Instance{}, err
		}
		b.obeyed.instances.Put(digest, o)
	}
	if inst.Generation <= o.generation {
		return Instance{}, notOrdered("register", errors.New("of a later generation"))
	}
	out := o.inst.Clone()
	out.Owner, out.Orders, out.OwnerKeys, out.ordered = inst.Owner, inst.Orders, slices.Clone(o.keys), o
	out.Generation, out.Policies, out.Blobs = inst.Generation, inst.Policies, inst.Blobs
	return out, nil
}

// orderedDigest is over all of inst that verifyOrders looks at.
func orderedDigest(inst Instance) [32]byte {
	o := inst.Orders
	b := appendLP([]byte("teebroker/obeyed"), []byte(inst.Tenant))
	b = append(append(b, inst.ID[:]...), inst.Owner[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(o.Keys)))
	for _, k := range o.Keys {
		b = appendLP(b, k)
	}
	state := o.State()
	b = append(appendLP(b, o.Registration.Body), state[:]...)
	for _, p := range inst.Policies {
		if p == nil {
			b = append(b, 0)
			continue
		}
		d := p.Digest()
		b = append(append(b, 1), d[:]...)
		b = appendLP(b, []byte(p.Scope))
	}
	return sha256.Sum256(b)
}

// verifyOrders verifies all Orders of inst.
func verifyOrders(bodies OrderBodies, inst Instance) (*ordered, error) {
	keys, err := ownerKeys(inst)
	if err != nil {
		return nil, notOrdered("the owner key", err)
	}
	o := &ordered{keys: keys, blobs: map[string]Order{}, state: inst.Orders.State()}
	names, err := o.registration(bodies, inst)
	if err != nil {
		return nil, notOrdered("register", err)
	}
	if err := orderedPolicies(inst, names); err != nil {
		return nil, notOrdered("policy", err)
	}
	for purpose, signed := range inst.Orders.Blobs {
		got, err := VerifyOrder(signed.Token)
		if err == nil && (got.Issuer != inst.Owner || got.Blob == [32]byte{} || got.Name != purpose) {
			err = errors.New("of another key, or for something else")
		}
		if err == nil {
			err = got.isOf(inst)
		}
		if err != nil {
			return nil, notOrdered("blob", err)
		}
		o.blobs[purpose] = got
	}
	return o, nil
}

// isOf returns an error unless o is for inst.
func (o Order) isOf(inst Instance) error {
	if o.Tenant != inst.Tenant || o.Instance != inst.ID {
		return errors.New("of another instance")
	}
	return nil
}

// ownerKeys returns the owner keys of inst, oldest first. The last one is the
// present one.
func ownerKeys(inst Instance) (keys [][32]byte, err error) {
	if n := len(inst.Orders.Keys); n == 0 || n > MaxOwnerKeys {
		return nil, errors.New("none, or too many")
	}
	generation := uint64(0)
	for i, token := range inst.Orders.Keys {
		o, err := VerifyOrder(token)
		if err == nil {
			err = o.isOf(inst)
		}
		if err != nil {
			return nil, err
		}
		by := [32]byte(o.Owner) // the first key names itself
		if i > 0 {
			by = keys[i-1]
		}
		if o.Act != OrderRegister || o.Issuer != by || i > 0 && o.Generation <= generation {
			return nil, errors.New("not handed over by the key before")
		}
		keys, generation = append(keys, o.Owner), o.Generation
	}
	if keys[len(keys)-1] != inst.Owner {
		return nil, errors.New("not the one that is registered")
	}
	return keys, nil
}

// registration takes the instance out of the body of its registration, and
// returns the names of the policies that it asks for.
func (o *ordered) registration(bodies OrderBodies, inst Instance) ([]string, error) {
	signed := inst.Orders.Registration
	got, err := VerifyOrder(signed.Token)
	if err == nil {
		err = got.isOf(inst)
	}
	if err != nil {
		return nil, err
	}
	// What handed the key over is signed by the key before, as ownerKeys found.
	handed := bytes.Equal(signed.Token, inst.Orders.Keys[len(inst.Orders.Keys)-1])
	switch {
	case got.Act != OrderRegister || got.Owner != inst.Owner || got.Issuer != inst.Owner && !handed:
		return nil, errors.New("of another key, or for something else")
	case got.Body != sha256.Sum256(signed.Body):
		return nil, errors.New("for another body")
	}
	reg, names, err := bodies.Registration(inst.Tenant, inst.ID, signed.Body)
	switch {
	case err != nil:
		return nil, err
	case reg.Tenant != inst.Tenant || reg.ID != inst.ID || reg.Owner != inst.Owner || len(names) == 0:
		return nil, errors.New("the body is of another instance or key, or asks for no policy")
	}
	o.inst, o.generation = reg, got.Generation
	return names, nil
}

// orderedPolicies returns an error unless each policy of names is among those of
// inst as the owner ordered it, and one of them is complete. Others can only
// narrow what these accept: they are the operator's.
func orderedPolicies(inst Instance, names []string) error {
	complete := false
	for _, name := range names {
		got, err := VerifyOrder(inst.Orders.Policies[name].Token)
		if err != nil {
			return err
		}
		if got.Act != OrderPolicy || got.Issuer != inst.Owner || got.Tenant != inst.Tenant || got.Name != name {
			return errors.New("of another key, or for something else")
		}
		i := slices.IndexFunc(inst.Policies, func(p *policy.Policy) bool { return p != nil && p.Digest() == got.Body })
		if i < 0 {
			return errors.New("for another document")
		}
		complete = complete || inst.Policies[i].Scope == policy.Global
	}
	if !complete {
		return errors.New("none of scope global")
	}
	return nil
}

// obeysBlob returns an error unless h may be the header of a blob of an instance
// with these orders, and, where an owner made the blob, its digest is ordered. What
// a broker made nobody else can make: it has no order, and names no owner if there
// was none then.
func (i Instance) obeysBlob(h keywrap.Header, purpose string, digest [32]byte) error {
	if i.ordered == nil {
		if h.Owner != [32]byte{} {
			return errors.New("of an owner key, and none is registered")
		}
		return nil
	}
	known := slices.Contains(i.OwnerKeys, [32]byte(h.Owner))
	if h.By == keywrap.ByBroker {
		if !known && h.Owner != [32]byte{} {
			return errors.New("of another owner key")
		}
		return nil
	}
	o, ok := i.ordered.blobs[purpose]
	switch {
	case !known:
		return errors.New("of another owner key, or of none")
	case !ok || o.Blob != digest || o.Generation >= i.Generation:
		return errors.New("its owner ordered another blob, or none")
	}
	return nil
}

type orderedAuthorization struct {
	order Order
	auth  Authorization
}

// authorized returns an error unless the owner of inst ordered the authorization
// of terms, for what g asks, and under all that inst is made of.
func (b *Broker) authorized(inst Instance, g Grant, terms Terms) error {
	if inst.ordered == nil {
		return nil
	}
	got, err := b.authorization(inst, terms.Order)
	if err == nil {
		err = got.admits(inst, g, terms)
	}
	if now := b.cfg.Time(); err == nil && terms.Release == [16]byte{} && (now.Before(got.auth.NotBefore) || !now.Before(got.auth.NotAfter)) {
		err = errors.New("not in its window")
	}
	if err != nil {
		return notOrdered("authorize", err)
	}
	return nil
}

func (b *Broker) authorization(inst Instance, signed SignedOrder) (orderedAuthorization, error) {
	digest := sha256.Sum256(appendLP(appendLP([]byte("teebroker/obeyed"), signed.Token), signed.Body))
	if got, ok := b.obeyed.authorizations.Get(digest); ok {
		return got, nil
	}
	var got orderedAuthorization
	var err error
	if got.order, err = VerifyOrder(signed.Token); err != nil {
		return got, err
	}
	if got.order.Act != OrderAuthorize || got.order.Body != sha256.Sum256(signed.Body) {
		return got, errors.New("for something else")
	}
	if got.auth, err = b.cfg.Orders.Authorization(got.order.Tenant, got.order.Instance, signed.Body); err != nil {
		return got, err
	}
	b.obeyed.authorizations.Put(digest, got)
	return got, nil
}

// admits returns an error unless o is for a release of g.
func (o orderedAuthorization) admits(inst Instance, g Grant, terms Terms) error {
	a := o.auth
	listed := func(c []byte) bool { return bytes.Equal(c, g.Chip) }
	switch {
	case o.order.Issuer != inst.Owner:
		return errors.New("of another key")
	case o.order.isOf(inst) != nil || o.order.ID != terms.Authorization || terms.Authorization == [16]byte{}:
		return errors.New("of another authorization")
	case o.order.Generation != inst.Generation || o.order.State != inst.ordered.state:
		return errors.New("the instance was another when it was given")
	case !slices.Contains(a.Purposes, g.Purpose) || !slices.Contains(a.Profiles, g.Profile):
		return errors.New("not for this purpose or profile")
	case a.Chips != nil && !slices.ContainsFunc(a.Chips, listed):
		return errors.New("not for this chip")
	case terms.Uses < 1 || terms.Uses > a.Uses:
		return errors.New("for fewer uses")
	}
	return nil
}
