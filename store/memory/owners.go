package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store"
)

// Owner is a Store with what owners do instead of what Go programs do: it is all
// that a store over a database is. It is safe for concurrent use.
type Owner struct {
	*Store
	documents *store.Documents

	// Guarded by the mutex of the Store.
	policies   map[string]map[string][]byte // documents of a tenant, by name
	registered map[id]registration
	deleted    map[id]bool
	claims     map[claim]id // for ever
	tokens     map[[32]byte]string
}

type registration struct {
	store.Registration
	text []byte
}

type claim struct{ name, value string }

var (
	_ teebroker.Directory = (*Owner)(nil)
	_ teebroker.Secrets   = (*Owner)(nil)
	_ teebroker.Ledger    = (*Owner)(nil)
	_ teebroker.Kept      = (*Owner)(nil)
	_ nonce.Store         = (*Owner)(nil)
	_ store.Owner         = (*Owner)(nil)
	_ store.Tenants       = (*Owner)(nil)
)

// Owner returns s as owners see it, for documents that d decodes. It is made once
// of a Store, before anything is in it.
func (s *Store) Owner(d policy.Decoders) *Owner {
	return &Owner{
		Store: s, documents: store.NewDocuments(d), policies: map[string]map[string][]byte{}, registered: map[id]registration{},
		deleted: map[id]bool{}, claims: map[claim]id{}, tokens: map[[32]byte]string{},
	}
}

// acts runs what an owner does, as one.
func (o *Owner) acts(tenant string, act func(now time.Time) error) error {
	if !names.Tenant(tenant) {
		return fmt.Errorf("%w: %.80q is not a tenant", store.Invalid, tenant)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now, err := o.now()
	if err != nil {
		return err
	}
	return act(now)
}

// acted records what an owner did.
func (o *Owner) acted(now time.Time, tenant string, kind teebroker.Kind, a store.Act) error {
	e, err := a.Entry(tenant, kind)
	if err == nil {
		o.add(e, now)
	}
	return err
}

// PutPolicy implements [store.Owner].
func (o *Owner) PutPolicy(ctx context.Context, tenant, name string, document []byte) error {
	if !store.PolicyName(name) {
		return fmt.Errorf("%w: %.80q can't name a policy", store.Invalid, name)
	}
	if _, err := o.documents.Parse(document); err != nil {
		return err
	}
	return o.acts(tenant, func(now time.Time) error {
		t, err := o.policyOrder(ctx, tenant, name, document, now)
		if err != nil {
			return err
		}
		act := store.Act{Policy: name, Digest: sha256.Sum256(document), Order: t.Digest()}
		same := bytes.Equal(o.policies[tenant][name], document)
		o.keepPolicy(tenant, name, document, t)
		switch {
		case same && t.Signed.Token == nil:
			return nil
		case same:
			return o.acted(now, tenant, store.KindPolicy, act)
		}
		if o.policies[tenant] == nil {
			o.policies[tenant] = map[string][]byte{}
		}
		o.policies[tenant][name] = bytes.Clone(document)
		for k, r := range o.registered {
			if k.tenant != tenant || !slices.Contains(r.Policies, name) {
				continue
			}
			if err := o.assemble(k, r.Registration); err != nil {
				return err
			}
		}
		return o.acted(now, tenant, store.KindPolicy, act)
	})
}

// assemble makes an Instance of r, in its next generation.
func (o *Owner) assemble(k id, r store.Registration) error {
	ps, err := o.parse(k.tenant, r.Policies)
	if err != nil {
		return err
	}
	inst := r.Instance(k.tenant, k.instance, 0, ps)
	inst.Blobs = o.instances[k].Blobs
	inst.Orders = o.allOrders(k, r.Policies, r.OwnerKey)
	o.change(k, inst)
	return nil
}

func (o *Owner) parse(tenant string, names []string) ([]*policy.Policy, error) {
	ps := make([]*policy.Policy, len(names))
	for i, name := range names {
		document, ok := o.policies[tenant][name]
		if !ok {
			return nil, fmt.Errorf("%w: there is no policy %.80q", store.Invalid, name)
		}
		var err error
		if ps[i], err = o.documents.Parse(document); err != nil {
			return nil, err
		}
	}
	return ps, nil
}

// Policy implements [store.Owner].
func (o *Owner) Policy(ctx context.Context, tenant, name string) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	document, ok := o.policies[tenant][name]
	if !ok {
		return nil, store.NotFound
	}
	return bytes.Clone(document), nil
}

// Policies implements [store.Owner].
func (o *Owner) Policies(ctx context.Context, tenant string) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Sorted(maps.Keys(o.policies[tenant])), nil
}

// Register implements [store.Owner].
func (o *Owner) Register(ctx context.Context, tenant string, instance [16]byte, r store.Registration) (status store.Status, err error) {
	if err := errors.Join(store.CheckInstance(tenant, instance), r.Check()); err != nil {
		return store.Status{}, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return store.Status{}, fmt.Errorf("%w: %w", store.Invalid, err)
	}
	err = o.acts(tenant, func(now time.Time) error {
		k := id{tenant, instance}
		ps, err := o.parse(tenant, r.Policies)
		if err == nil {
			err = store.CheckScopes(ps)
		}
		switch {
		case err != nil:
			return err
		case o.deleted[k]:
			return fmt.Errorf("%w: the instance was deleted", store.Conflict)
		}
		order, err := o.registerOrder(ctx, k, r, now)
		if err != nil {
			return err
		}
		if bytes.Equal(o.registered[k].text, text) {
			o.keepOrder(k, "", order)
			status, err = o.status(k)
			return err
		}
		if err := o.claim(k, r.Launch.Claims); err != nil {
			return err
		}
		o.keepRegistration(k, order, o.instances[k].Generation+1, o.instances[k].Owner)
		r := registration{r.Clone(), text}
		if err := o.assemble(k, r.Registration); err != nil {
			return err
		}
		o.registered[k] = r
		if status, err = o.status(k); err != nil {
			return err
		}
		return o.acted(now, tenant, store.KindRegister, store.Act{Instance: instance, Generation: status.Generation, Digest: sha256.Sum256(text), Order: order.Digest()})
	})
	return status, err
}

// claim makes launch claims those of an instance, all of them or none.
func (o *Owner) claim(k id, claims []store.Claim) error {
	for _, c := range claims {
		of, taken := o.claims[claim{c.Name, string(c.Want)}]
		if own, ok := c.OwnValue(); ok && !taken {
			for other := range o.everybody() {
				if teebroker.LaunchID(other.tenant, other.instance) == own {
					of, taken = other, true
				}
			}
		}
		if taken && of != k {
			return fmt.Errorf("%w: launch claim %s", store.Conflict, c.Name)
		}
	}
	for _, c := range claims {
		o.claims[claim{c.Name, string(c.Want)}] = k
	}
	return nil
}

// everybody yields all instances that there ever were.
func (o *Owner) everybody() map[id]bool {
	all := maps.Clone(o.deleted)
	for k := range o.registered {
		all[k] = true
	}
	return all
}

// Status implements [store.Owner].
func (o *Owner) Status(ctx context.Context, tenant string, instance [16]byte) (store.Status, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.status(id{tenant, instance})
}

func (o *Owner) status(k id) (store.Status, error) {
	r, ok := o.registered[k]
	if !ok {
		return store.Status{}, store.NotFound
	}
	status := store.Status{ID: k.instance, Generation: o.instances[k].Generation, Registration: r.Clone(), Blobs: map[string][]byte{}}
	if orders := o.instances[k].Orders; orders != nil {
		status.State = orders.State()
	}
	for s := range o.secrets {
		if s.id == k {
			status.Secrets = append(status.Secrets, s.purpose)
		}
	}
	slices.Sort(status.Secrets)
	for purpose, b := range o.instances[k].Blobs {
		status.Blobs[purpose] = bytes.Clone(b.Digest[:])
	}
	return status, nil
}

// Instances implements [store.Owner].
func (o *Owner) Instances(ctx context.Context, tenant string) ([][16]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var ids [][16]byte
	for k := range o.registered {
		if k.tenant == tenant {
			ids = append(ids, k.instance)
		}
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	return ids, nil
}

// Delete implements [store.Owner].
func (o *Owner) Delete(ctx context.Context, tenant string, instance [16]byte) error {
	return o.acts(tenant, func(now time.Time) error {
		k := id{tenant, instance}
		if _, ok := o.registered[k]; !ok {
			return store.NotFound
		}
		order, err := o.ordered(ctx, teebroker.OrderDelete, k, "", [32]byte{}, now)
		if err != nil {
			return err
		}
		o.keepOrder(k, "", order)
		delete(o.orders, k)
		generation := o.change(k, teebroker.Instance{})
		for s, value := range o.secrets {
			if s.id == k {
				clear(value)
				delete(o.secrets, s)
			}
		}
		for _, a := range o.given[k] {
			o.withdraw(k, a)
		}
		for place, row := range o.rows {
			if gone, err := row.Retire(); place.id == k && err == nil {
				o.set(place, gone)
			}
		}
		for at, x := range o.ids {
			if at.tenant == tenant && x.Instance == instance {
				x.State, x.Why = store.IdentitySuperseded, ""
				o.ids[at] = x
			}
		}
		o.deleted[k] = true
		delete(o.registered, k)
		delete(o.instances, k)
		return o.acted(now, tenant, store.KindDelete, store.Act{Instance: instance, Generation: generation, Order: order.Digest()})
	})
}

// withdraw ends a and what was released under it.
func (o *Owner) withdraw(k id, a *authorization) {
	a.withdrawn = true
	for s, taken := range o.slots {
		if s.id != k || taken.auth != a {
			continue
		}
		for _, r := range taken.releases {
			r.erase()
		}
	}
}

// PutSecret implements [store.Owner].
func (o *Owner) PutSecret(ctx context.Context, tenant string, instance [16]byte, purpose string, value []byte) error {
	if err := errors.Join(store.CheckPurpose(purpose), store.CheckSecret(value)); err != nil {
		return err
	}
	return o.put(ctx, tenant, instance, purpose, store.KindSecret, teebroker.OrderSecret, [32]byte{}, func(inst *teebroker.Instance) error {
		delete(inst.Blobs, purpose)
		k := secret{id{tenant, instance}, purpose}
		clear(o.secrets[k])
		o.secrets[k] = bytes.Clone(value)
		return nil
	})
}

// PutBlob implements [store.Owner].
func (o *Owner) PutBlob(ctx context.Context, tenant string, instance [16]byte, purpose string, digest [32]byte, wrapped []byte) error {
	return o.putBlob(ctx, tenant, instance, purpose, digest, wrapped, nil)
}

// ReplaceBlob implements [store.Owner].
func (o *Owner) ReplaceBlob(ctx context.Context, tenant string, instance [16]byte, purpose string, old, digest [32]byte, wrapped []byte) error {
	return o.putBlob(ctx, tenant, instance, purpose, digest, wrapped, &old)
}

func (o *Owner) putBlob(ctx context.Context, tenant string, instance [16]byte, purpose string, digest [32]byte, wrapped []byte, old *[32]byte) error {
	if err := errors.Join(store.CheckPurpose(purpose), store.CheckBlob(digest, wrapped)); err != nil {
		return err
	}
	return o.put(ctx, tenant, instance, purpose, store.KindBlob, teebroker.OrderBlob, digest, func(inst *teebroker.Instance) error {
		if now, ok := inst.Blobs[purpose]; old != nil && (!ok || now.Digest != *old) {
			return fmt.Errorf("%w: another blob is registered", store.Conflict)
		}
		k := secret{id{tenant, instance}, purpose}
		clear(o.secrets[k])
		delete(o.secrets, k)
		inst.Blobs[purpose] = teebroker.Blob{Digest: digest, Wrapped: bytes.Clone(wrapped)}
		return nil
	})
}

func (o *Owner) put(ctx context.Context, tenant string, instance [16]byte, purpose string, kind teebroker.Kind, ordered teebroker.OrderAct, digest [32]byte, edit func(*teebroker.Instance) error) error {
	return o.acts(tenant, func(now time.Time) error {
		k := id{tenant, instance}
		if _, ok := o.registered[k]; !ok {
			return store.NotFound
		}
		if o.rows[secret{k, purpose}].Status != epoch.Absent {
			return fmt.Errorf("%w: the purpose has epochs", store.Conflict)
		}
		order, err := o.ordered(ctx, ordered, k, purpose, digest, now)
		if err != nil {
			return err
		}
		inst := o.instances[k].Clone()
		if inst.Blobs == nil {
			inst.Blobs = map[string]teebroker.Blob{}
		}
		if err := edit(&inst); err != nil {
			return err
		}
		generation := o.change(k, inst)
		if ordered == teebroker.OrderBlob {
			o.orderBlob(k, purpose, order)
		} else {
			o.keepOrder(k, "", order)
			delete(o.orders[k], store.SubjectBlob(purpose))
			if inst.Orders != nil {
				delete(inst.Orders.Blobs, purpose) // of a clone
			}
		}
		return o.acted(now, tenant, kind, store.Act{Instance: instance, Generation: generation, Purpose: purpose, Digest: digest, Order: order.Digest()})
	})
}

// Authorize implements [store.Owner].
func (o *Owner) Authorize(ctx context.Context, a teebroker.Authorization) (teebroker.Authorization, error) {
	a, err := store.CheckAuthorization(a)
	if err != nil {
		return teebroker.Authorization{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	order, err := o.authorizeOrder(ctx, a)
	if err == nil {
		a, err = order.Authorizes(a)
	}
	if err != nil {
		return teebroker.Authorization{}, err
	}
	a, now, err := o.authorize(a)
	if err == nil {
		act := store.Authorized(a)
		act.Order = order.Digest()
		err = o.acted(now, a.Tenant, store.KindAuthorize, act)
	}
	if err != nil {
		return teebroker.Authorization{}, err
	}
	o.keepOrder(id{a.Tenant, a.Instance}, store.SubjectAuthorization(a.ID), order)
	return a, nil
}

// Authorizations implements [store.Owner].
func (o *Owner) Authorizations(ctx context.Context, tenant string, instance [16]byte) ([]store.AuthorizationStatus, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, err := o.now()
	k := id{tenant, instance}
	if err != nil {
		return nil, err
	}
	if _, ok := o.registered[k]; !ok {
		return nil, store.NotFound
	}
	var all []store.AuthorizationStatus
	for _, a := range slices.Backward(o.given[k]) {
		all = append(all, store.AuthorizationStatus{Authorization: store.CloneAuthorization(a.Authorization), Used: a.used, State: a.state(now)})
	}
	return all, nil
}

func (a *authorization) state(now time.Time) string {
	switch {
	case a.withdrawn:
		return "REVOKED"
	case a.used >= a.Uses:
		return "DONE"
	case !now.Before(a.NotAfter):
		return "EXPIRED"
	}
	return "OPEN"
}

// Revoke implements [store.Owner].
func (o *Owner) Revoke(ctx context.Context, tenant string, instance, auth [16]byte) error {
	return o.acts(tenant, func(now time.Time) error {
		k := id{tenant, instance}
		i := slices.IndexFunc(o.given[k], func(a *authorization) bool { return a.ID == auth })
		switch {
		case i < 0:
			return store.NotFound
		case o.given[k][i].revoked:
			return nil
		}
		o.given[k][i].revoked = true
		o.withdraw(k, o.given[k][i])
		return o.acted(now, tenant, store.KindRevoke, store.Act{Instance: instance, Authorization: auth})
	})
}

// Record implements [store.Owner].
func (o *Owner) Record(ctx context.Context, tenant string, c teebroker.Chain, after uint64, limit int) ([]store.RecordEntry, error) {
	switch {
	case c != teebroker.Decisions && c != teebroker.Refusals:
		return nil, fmt.Errorf("%w: %.40q is not a chain", store.Invalid, string(c))
	case limit < 1 || limit > 1000:
		return nil, fmt.Errorf("%w: a limit of %d, want 1 to 1000", store.Invalid, limit)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.record[chain{tenant, c}]
	all = all[min(after, uint64(len(all))):]
	es := slices.Clone(all[:min(limit, len(all))])
	for i := range es {
		es[i].Body = bytes.Clone(es[i].Body)
	}
	return es, nil
}

// AddTenant implements [store.Tenants].
func (o *Owner) AddTenant(ctx context.Context, tenant string, token [32]byte) error {
	if token == [32]byte{} {
		return fmt.Errorf("%w: no token", store.Invalid)
	}
	return o.acts(tenant, func(now time.Time) error {
		if _, ok := o.tokens[token]; ok {
			return fmt.Errorf("%w: the token is known", store.Conflict)
		}
		o.tokens[token] = tenant
		return o.acted(now, tenant, store.KindToken, store.Act{Digest: token})
	})
}

// Tenant implements [store.Tenants].
func (o *Owner) Tenant(ctx context.Context, token [32]byte) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	tenant, ok := o.tokens[token]
	if !ok {
		return "", store.NotFound
	}
	return tenant, nil
}

// RemoveToken implements [store.Tenants].
func (o *Owner) RemoveToken(ctx context.Context, token [32]byte) error {
	tenant, err := o.Tenant(ctx, token)
	if err != nil {
		return err
	}
	return o.acts(tenant, func(now time.Time) error {
		if _, ok := o.tokens[token]; !ok {
			return store.NotFound
		}
		delete(o.tokens, token)
		return o.acted(now, tenant, store.KindTokenEnd, store.Act{Digest: token})
	})
}
