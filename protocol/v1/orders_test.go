package v1_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/owner"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

// keyed is an owned world whose owner has a key, with a client that orders. That of
// owned has the token alone.
type keyed struct {
	*owned
	key    *ecdsa.PrivateKey
	orders *v1.Client
}

func newKeyed(t testing.TB) *keyed {
	t.Helper()
	k := &keyed{owned: newOwned(t, nil)}
	var err error
	k.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.check(err)
	k.orders = k.with(k.key)
	ctx := t.Context()
	k.check(k.orders.PutPolicy(ctx, "prod", document("prod", "good")))
	i, err := k.orders.Register(ctx, instance, k.registration())
	if err != nil || i.Registration.OwnerKey != k.registration().OwnerKey || i.State == (strictjson.Digest{}) {
		t.Fatalf("%+v, %v", i, err)
	}
	k.check(k.orders.PutSecret(ctx, instance, "disk", []byte("the owner's secret")))
	return k
}

func (k *keyed) with(key *ecdsa.PrivateKey) *v1.Client {
	k.Helper()
	return k.client(func(c *v1.ClientConfig) { c.Token, c.Tenant, c.OrderKey, c.Time = acmeToken, "acme", key, k.time })
}

func (k *keyed) registration() store.Registration {
	k.Helper()
	r := registration()
	name, err := teebroker.OrderKey(k.key)
	k.check(err)
	r.OwnerKey = name
	return r
}

// gets fails unless a new guest gets the secret.
func (k *keyed) gets(what string) {
	k.Helper()
	s, c := k.session(), k.client(nil)
	r, err := c.Release(k.Context(), k.request(s, c))
	if err != nil {
		k.Errorf("%s: %v", what, err)
		return
	}
	if got, err := s.Open(k.Context(), r); err != nil || string(got) != "the owner's secret" {
		k.Errorf("%s: %q, %v", what, got, err)
	}
}

// Who has the key does all that an owner does; who has only the token, or a token
// and another key, stops things and nothing else.
func TestOrders(t *testing.T) {
	k := newKeyed(t)
	ctx := t.Context()
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.check(err)
	id := k.broker.ID()
	keys, err := k.acme.Keys(ctx, "acme")
	k.check(err)
	blob := owner.Blob{Keys: keys, Broker: id, Time: k.time(), Tenant: "acme", Instance: instance, Purpose: "data", Owner: k.registration().OwnerKey}
	w, err := owner.Wrap(blob, []byte("another secret"))
	k.check(err)
	blob.Purpose, blob.Epoch = "vtpm", 1
	first, err := owner.Wrap(blob, []byte("a key"))
	k.check(err)
	until := k.time().Add(time.Hour)
	var given v1.Authorization
	last := k.registration()
	last.Launch.Own, last.AllowSharedLaunchIdentity = false, true
	_, err = k.acme.Act(ctx, instance, "hold", v1.Act{Purpose: "vtpm"})
	if code(err) != "no-instance" {
		t.Errorf("hold of nothing by token: %v", err)
	}
	for _, tt := range []struct {
		name string
		do   func(c *v1.Client) error
	}{
		{"secret", func(c *v1.Client) error { return c.PutSecret(ctx, instance, "disk", []byte("the owner's secret")) }},
		{"blob", func(c *v1.Client) error { return c.PutBlob(ctx, instance, "data", w, true) }},
		{"rewrap", func(c *v1.Client) error {
			_, err := c.Rewrap(ctx, instance, "data", nil)
			return err
		}},
		{"epoch", func(c *v1.Client) error {
			_, err := c.Begin(ctx, instance, "vtpm", v1.Epochs{Mode: "boot", Number: 1, Initial: true}, first)
			return err
		}},
		{"authorize", func(c *v1.Client) (err error) {
			a, err := c.Authorize(ctx, instance, v1.Authorization{Purposes: []string{"disk"}, NotAfter: until})
			if err == nil {
				given = a
			}
			return err
		}},
		{"policy", func(c *v1.Client) error { return c.PutPolicy(ctx, "prod", document("prod", "bad")) }},
		{"register", func(c *v1.Client) error {
			_, err := c.Register(ctx, instance, last)
			return err
		}},
		{"recover", func(c *v1.Client) error {
			_, err := c.Act(ctx, instance, "recover", v1.Act{Purpose: "vtpm", Number: 2, Digest: strictjson.Digest{1}})
			return err
		}},
		{"resume", func(c *v1.Client) error {
			_, err := c.Act(ctx, instance, "resume", v1.Act{Purpose: "vtpm"})
			return err
		}},
		{"retire", func(c *v1.Client) error {
			_, err := c.Act(ctx, instance, "retire", v1.Act{Purpose: "vtpm"})
			return err
		}},
		{"delete", func(c *v1.Client) error { return c.Delete(ctx, instance) }},
	} {
		if tt.name == "recover" {
			_, err := k.acme.Act(ctx, instance, "hold", v1.Act{Purpose: "vtpm"})
			k.check(err) // by token
		}
		if tt.name == "resume" {
			_, err := k.acme.Act(ctx, instance, "hold", v1.Act{Purpose: "vtpm"})
			k.check(err)
		}
		var p *v1.Problem
		if err := tt.do(k.acme); !errors.As(err, &p) || p.Code != "forbidden" || p.Status != http.StatusForbidden || !strings.Contains(p.Title, "order") {
			t.Errorf("%s by a token: %v", tt.name, err)
		}
		if err := tt.do(k.with(other)); !errors.Is(err, v1.ErrOwnerKey) && code(err) != "forbidden" {
			t.Errorf("%s by another key: %v", tt.name, err)
		}
		if err := tt.do(k.orders); err != nil {
			t.Fatalf("%s by an order: %v", tt.name, err)
		}
		if tt.name == "authorize" {
			k.gets("authorized by an order")
			k.check(k.acme.Revoke(ctx, instance, given.ID)) // by token
		}
	}
}

// An order is of one request, in one header.
func TestOrderHeader(t *testing.T) {
	k := newKeyed(t)
	status := func(body string, tokens ...string) int {
		t.Helper()
		path := "/broker/v1/instances/" + strictjson.UUID(instance).String() + "/authorizations"
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.http.URL+path, strings.NewReader(body))
		k.check(err)
		req.Header.Set("Authorization", "Bearer "+acmeToken)
		req.Header[v1.HeaderOrder] = tokens
		resp, err := http.DefaultTransport.RoundTrip(req)
		k.check(err)
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		return resp.StatusCode
	}
	body, err := json.Marshal(v1.Authorization{Purposes: []string{"disk"}, NotAfter: k.time().Add(time.Hour)})
	k.check(err)
	i, err := k.acme.Instance(t.Context(), instance)
	k.check(err)
	sign := func() string {
		token, err := teebroker.SignOrder(k.key, teebroker.Order{
			Act: teebroker.OrderAuthorize, Tenant: "acme", Instance: instance, Generation: i.Generation, State: i.State,
			Body: sha256.Sum256(body), Expires: k.time().Add(time.Minute).Unix(),
		})
		k.check(err)
		return string(token)
	}
	good := sign()
	for name, tt := range map[string]struct {
		body   string
		tokens []string
		want   int
	}{
		"another body":   {string(body) + " ", []string{good}, 403},
		"more uses":      {strings.Replace(string(body), "{", `{"uses":9,`, 1), []string{good}, 403},
		"none":           {string(body), nil, 403},
		"two":            {string(body), []string{good, good}, 400},
		"an empty one":   {string(body), []string{""}, 400},
		"a long one":     {string(body), []string{good + strings.Repeat("A", teebroker.MaxOrder)}, 400},
		"something else": {string(body), []string{"Bearer " + good}, 403},
	} {
		if got := status(tt.body, tt.tokens...); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
	if got := status(string(body), good); got != 200 {
		t.Errorf("the order: %d", got)
	}
	if got := status(string(body), good); got != 403 {
		t.Errorf("the order again: %d", got)
	}
	k.gets("once")
	for name, edit := range map[string]func(*v1.ClientConfig){
		"no tenant":      func(c *v1.ClientConfig) { c.OrderKey = k.key },
		"a key of P-256": func(c *v1.ClientConfig) { c.OrderKey, c.Tenant = p256(t), "acme" },
	} {
		cfg := v1.ClientConfig{URL: k.http.URL}
		edit(&cfg)
		if c, err := v1.NewClient(cfg); err == nil || c != nil {
			t.Errorf("a client with %s", name)
		}
	}
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Who edits the rows of the database gets nothing. Most are known by their MAC before
// anybody asks for an order; orders have none, and the record of refusals says which
// one is not there.
func TestEditedRows(t *testing.T) {
	for name, tt := range map[string]struct {
		edit string
		code string
		why  string // "" if no entry is made
	}{
		"orders deleted":               {"DELETE FROM orders", "denied", "order of the owner key"},
		"a registration's edited":      {"UPDATE orders SET token = substr(token, 2) WHERE subject = 'registration'", "denied", "order of register"},
		"a registration's swapped":     {"UPDATE orders SET token = (SELECT token FROM orders WHERE subject LIKE 'policy/%') WHERE subject = 'registration'", "denied", "order of register"},
		"a policy's deleted":           {"DELETE FROM orders WHERE subject LIKE 'policy/%'", "denied", "order of policy"},
		"an authorization's deleted":   {"DELETE FROM orders WHERE subject LIKE 'authorization/%'", "denied", "order of authorize"},
		"an authorization's edited":    {`UPDATE orders SET body = CAST(replace(CAST(body AS TEXT), '"disk"', '"disk","data"') AS BLOB) WHERE subject LIKE 'authorization/%'`, "denied", "order of authorize"},
		"more uses":                    {"UPDATE authorizations SET uses = 100", "unavailable", ""},
		"an authorization made up":     {"UPDATE authorizations SET id = x'00000000000000000000000000000001'", "unavailable", ""},
		"another document":             {`UPDATE policies SET document = CAST(replace(CAST(document AS TEXT), 'good', 'fine') AS BLOB)`, "unavailable", ""},
		"stripped of its key":          {`UPDATE instances SET registration = CAST(json_remove(CAST(registration AS TEXT), '$.owner_key') AS BLOB)`, "unavailable", ""},
		"the registration made weaker": {`UPDATE instances SET registration = CAST(json_set(CAST(registration AS TEXT), '$.allow_shared_launch_identity', json('true')) AS BLOB)`, "unavailable", ""},
	} {
		k := newKeyed(t)
		_, err := k.orders.Authorize(t.Context(), instance, v1.Authorization{Purposes: []string{"disk"}, NotAfter: k.time().Add(time.Hour)})
		k.check(err)
		r, err := k.file.ExecContext(t.Context(), tt.edit)
		k.check(err)
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			t.Fatalf("%s: nothing edited: %v", name, err)
		}
		s, c := k.session(), k.client(nil)
		got, err := c.Release(t.Context(), k.request(s, c))
		if code(err) != tt.code || got.Sealed != nil {
			t.Errorf("%s: %v, want %s", name, err, tt.code)
		}
		if tt.why == "" {
			continue
		}
		es, err := k.acme.Record(t.Context(), teebroker.Refusals, 0)
		if err != nil || len(es.Entries) != 1 || !bytes.Contains(es.Entries[0].Body, []byte(tt.why)) {
			t.Errorf("%s: the record does not say %q: %d entries, %v", name, tt.why, len(es.Entries), err)
		}
	}
}

// A secret of an instance with an owner key is encrypted for that key: it opens for
// no instance that a Broker did not find to have it.
func TestSecretOfKey(t *testing.T) {
	k := newKeyed(t)
	inst := teebroker.Instance{Tenant: "acme", ID: instance}
	if got, err := k.sql.Secret(t.Context(), inst, "disk"); !errors.Is(err, store.ErrCipher) || got != nil {
		t.Errorf("without the key: %q, %v", got, err)
	}
	inst.OwnerKeys = [][32]byte{{1}}
	if got, err := k.sql.Secret(t.Context(), inst, "disk"); !errors.Is(err, store.ErrCipher) || got != nil {
		t.Errorf("with another key: %q, %v", got, err)
	}
	inst.OwnerKeys = append([][32]byte{k.registration().OwnerKey}, inst.OwnerKeys...)
	if got, err := k.sql.Secret(t.Context(), inst, "disk"); err != nil || string(got) != "the owner's secret" {
		t.Errorf("with the key, and one that came after it: %q, %v", got, err)
	}
}
