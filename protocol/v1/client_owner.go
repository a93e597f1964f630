package v1

import (
	"context"
	"fmt"
	"net/http"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/store"
)

func instancePath(id [16]byte) string { return PathInstances + "/" + strictjson.UUID(id).String() }

// Register adds an instance of the tenant or changes it.
func (c *Client) Register(ctx context.Context, id [16]byte, r store.Registration) (Instance, error) {
	var i Instance
	o := teebroker.Order{Act: teebroker.OrderRegister, Owner: r.OwnerKey}
	err := c.ordered(ctx, id, o, http.MethodPut, instancePath(id), r, &i)
	return i, err
}

// Instance returns what there is of an instance.
func (c *Client) Instance(ctx context.Context, id [16]byte) (Instance, error) {
	var i Instance
	err := c.call(ctx, http.MethodGet, instancePath(id), nil, &i)
	return i, err
}

// Instances returns the ids of all instances of the tenant.
func (c *Client) Instances(ctx context.Context) ([][16]byte, error) {
	var j struct {
		Tenant    string            `json:"tenant"`
		Instances []strictjson.UUID `json:"instances"`
	}
	if err := c.call(ctx, http.MethodGet, PathInstances, nil, &j); err != nil {
		return nil, err
	}
	ids := make([][16]byte, len(j.Instances))
	for i, id := range j.Instances {
		ids[i] = id
	}
	return ids, nil
}

// Delete deletes an instance. Its id is taken for ever.
func (c *Client) Delete(ctx context.Context, id [16]byte) error {
	return c.ordered(ctx, id, teebroker.Order{Act: teebroker.OrderDelete}, http.MethodDelete, instancePath(id), nil, nil)
}

// PutSecret stores value, which the caller may clear afterwards, as a secret of an
// instance.
func (c *Client) PutSecret(ctx context.Context, id [16]byte, purpose string, value []byte) error {
	ctx, err := c.order(ctx, id, teebroker.Order{Act: teebroker.OrderSecret, Name: purpose}, value)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPut, instancePath(id)+"/secrets/"+purpose, "application/octet-stream", value)
	return err
}

// PutBlob registers the digest of w, and leaves the broker a copy if keep is true.
func (c *Client) PutBlob(ctx context.Context, id [16]byte, purpose string, w keywrap.Wrapped, keep bool) error {
	j := blobJSON{Digest: w.Digest()}
	if keep {
		b, err := w.MarshalJSON()
		if err != nil {
			return fmt.Errorf("v1: %w", err)
		}
		j.Wrapped = b
	}
	o := teebroker.Order{Act: teebroker.OrderBlob, Name: purpose, Blob: j.Digest}
	return c.ordered(ctx, id, o, http.MethodPut, instancePath(id)+"/blobs/"+purpose, j, nil)
}

// Rewrap has the blob of an instance wrapped to the key that owners wrap to now,
// and registered. old is the blob, or nil for the copy that the broker has. With an
// owner key it takes two requests, of which the second one registers what the
// first one returned, by an order.
func (c *Client) Rewrap(ctx context.Context, id [16]byte, purpose string, old []byte) (keywrap.Wrapped, error) {
	b, err := c.do(ctx, http.MethodPost, instancePath(id)+"/rewrap/"+purpose, "application/json", old)
	if err != nil {
		return keywrap.Wrapped{}, err
	}
	w, err := keywrap.ParseWrapped(b)
	if err != nil {
		return keywrap.Wrapped{}, fmt.Errorf("v1: answer: %w", err)
	}
	i, err := c.Instance(ctx, id)
	switch {
	case err != nil:
		return keywrap.Wrapped{}, err
	case i.Registration.OwnerKey == strictjson.Digest{}:
		return w, nil
	}
	return w, c.PutBlob(ctx, id, purpose, w, true)
}

// Authorize adds an authorization and returns it as the broker stored it.
func (c *Client) Authorize(ctx context.Context, id [16]byte, a Authorization) (Authorization, error) {
	var got Authorization
	o := teebroker.Order{Act: teebroker.OrderAuthorize}
	err := c.ordered(ctx, id, o, http.MethodPost, instancePath(id)+"/authorizations", a, &got)
	return got, err
}

// Authorizations returns the authorizations of an instance, newest first.
func (c *Client) Authorizations(ctx context.Context, id [16]byte) ([]Authorization, error) {
	var j struct {
		Authorizations []Authorization `json:"authorizations"`
	}
	err := c.call(ctx, http.MethodGet, instancePath(id)+"/authorizations", nil, &j)
	return j.Authorizations, err
}

// Revoke ends an authorization.
func (c *Client) Revoke(ctx context.Context, id, authorization [16]byte) error {
	return c.call(ctx, http.MethodDelete, instancePath(id)+"/authorizations/"+strictjson.UUID(authorization).String(), nil, nil)
}

// PutPolicy stores a policy document under name.
func (c *Client) PutPolicy(ctx context.Context, name string, document []byte) error {
	ctx, err := c.order(ctx, [16]byte{}, teebroker.Order{Act: teebroker.OrderPolicy, Name: name}, document)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodPut, PathPolicies+"/"+name, "application/json", document)
	return err
}

// Policy returns the document stored under name, to the byte.
func (c *Client) Policy(ctx context.Context, name string) ([]byte, error) {
	return c.do(ctx, http.MethodGet, PathPolicies+"/"+name, "", nil)
}

// Policies returns the names of the documents, sorted.
func (c *Client) Policies(ctx context.Context) ([]string, error) {
	var j struct {
		Policies []string `json:"policies"`
	}
	err := c.call(ctx, http.MethodGet, PathPolicies, nil, &j)
	return j.Policies, err
}

// Explain returns what would change if document were stored under name.
func (c *Client) Explain(ctx context.Context, name string, document []byte) (Explanations, error) {
	b, err := c.do(ctx, http.MethodPost, PathPolicies+"/"+name+"/explain", "application/json", document)
	if err != nil {
		return Explanations{}, err
	}
	var e Explanations
	if err := strictjson.Unmarshal(b, &e); err != nil {
		return Explanations{}, fmt.Errorf("v1: answer: %w", err)
	}
	return e, nil
}

// Record returns up to 1000 entries of a chain with Seq above after, and the newest
// checkpoints. Nothing of them is verified.
func (c *Client) Record(ctx context.Context, chain teebroker.Chain, after uint64) (Record, error) {
	var r Record
	err := c.call(ctx, http.MethodGet, fmt.Sprintf("%s?chain=%s&after=%d", PathRecord, chain, after), nil, &r)
	return r, err
}
