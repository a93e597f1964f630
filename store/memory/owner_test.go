package memory_test

import (
	"errors"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
)

// Owners can't register what could not be meant.
func TestOwner(t *testing.T) {
	s, c, _ := owned(t)
	ctx := t.Context()
	for name, edit := range map[string]func(*teebroker.Instance){
		"no tenant":          func(i *teebroker.Instance) { i.Tenant = "" },
		"tenant in capitals": func(i *teebroker.Instance) { i.Tenant = "Acme" },
		"no id":              func(i *teebroker.Instance) { i.ID = [16]byte{} },
		"dot segment":        func(i *teebroker.Instance) { i.Profiles = map[string][]nonce.Profile{"a/../b": nil} },
		"nil policy":         func(i *teebroker.Instance) { i.Policies = []*policy.Policy{nil} },
		"no document":        func(i *teebroker.Instance) { i.Policies = []*policy.Policy{{}} },
	} {
		i := inst()
		edit(&i)
		if err := s.Register(ctx, i); err == nil {
			t.Errorf("registered: %s", name)
		}
	}
	id := [16]byte{7}
	for name, edit := range map[string]func(*teebroker.Authorization){
		"no purpose":       func(a *teebroker.Authorization) { a.Purposes = nil },
		"leading slash":    func(a *teebroker.Authorization) { a.Purposes = []string{"/disk"} },
		"negative uses":    func(a *teebroker.Authorization) { a.Uses = -1 },
		"no end":           func(a *teebroker.Authorization) { a.NotAfter = time.Time{} },
		"ends first":       func(a *teebroker.Authorization) { a.NotBefore = a.NotAfter },
		"empty profiles":   func(a *teebroker.Authorization) { a.Profiles = []nonce.Profile{} },
		"empty chips":      func(a *teebroker.Authorization) { a.Chips = [][]byte{} },
		"masked chip":      func(a *teebroker.Authorization) { a.Chips = [][]byte{make([]byte, 64)} },
		"unknown instance": func(a *teebroker.Authorization) { a.Instance = [16]byte{9} },
		"unknown tenant":   func(a *teebroker.Authorization) { a.Tenant = "other" },
		"id used before":   func(a *teebroker.Authorization) { a.ID = id },
	} {
		if name == "id used before" {
			authorize(t, s, c, func(a *teebroker.Authorization) { a.ID = id })
		}
		a := teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, NotAfter: c.now.Add(time.Hour)}
		edit(&a)
		if err := s.Authorize(ctx, a); err == nil {
			t.Errorf("authorized: %s", name)
		}
	}
	for name, err := range map[string]error{
		"purpose":  s.PutSecret(ctx, tenant, instance, "a//b", []byte("x")),
		"empty":    s.PutSecret(ctx, tenant, instance, "disk", nil),
		"instance": s.PutSecret(ctx, tenant, [16]byte{9}, "disk", []byte("x")),
	} {
		if err == nil {
			t.Errorf("secret put: %s", name)
		}
	}
}

// Nothing that callers have is the Store's own.
func TestCopies(t *testing.T) {
	s, c, grant := owned(t)
	ctx := t.Context()
	value, purposes := []byte("secret"), []string{"disk"}
	if err := s.PutSecret(ctx, tenant, instance, "disk", value); err != nil {
		t.Fatal(err)
	}
	authorize(t, s, c, func(a *teebroker.Authorization) { a.Purposes = purposes })
	clear(value)
	purposes[0] = "swap"
	for range 2 {
		got, err := s.Secret(ctx, inst(), "disk")
		if err != nil || string(got) != "secret" {
			t.Errorf("%q, %v", got, err)
		}
		clear(got)
	}
	for range 2 {
		i, err := s.Instance(ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
		if err != nil || i.Profiles["kbs"][0] != nonce.ProfileSVSM || i.Policies[0] == nil || i.Generation != 1 {
			t.Errorf("%+v, %v", i, err)
		}
		i.Profiles["kbs"][0], i.Policies[0] = nonce.ProfileV1, nil
	}
	if _, err := commit(t, s, grant(1, "disk", 1)); err != nil {
		t.Error(err)
	}
	if _, err := s.Secret(ctx, inst(), "data"); !errors.Is(err, teebroker.NotAuthorized) {
		t.Errorf("no such secret: %v", err)
	}
	if _, err := s.Secret(ctx, teebroker.Instance{Tenant: "other", ID: instance}, "disk"); !errors.Is(err, teebroker.NotAuthorized) {
		t.Errorf("another tenant's secret: %v", err)
	}
}

// A guest that names nobody is the only one whose launch claims fit, or nobody.
func TestDirectory(t *testing.T) {
	s, _ := newStore()
	ctx := t.Context()
	b, err := evidence.NewBinding([]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	host := []byte("mine")
	v, err := faketee.Verifier{}.Verify(ctx, faketee.Guest{HostData: host}.Evidence(b), b)
	if err != nil {
		t.Fatal(err)
	}
	register := func(tenant string, id byte, launch policy.Rule) {
		i := inst()
		i.Tenant, i.ID, i.Launch = tenant, [16]byte{id}, launch
		if err := s.Register(ctx, i); err != nil {
			t.Fatal(err)
		}
	}
	find := func(tenant string, claimed byte, got ...*evidence.Verified) (byte, error) {
		i, err := s.Instance(ctx, teebroker.Lookup{Tenant: tenant, Claimed: [16]byte{claimed}, Verified: got})
		return i.ID[0], err
	}
	mine := teebroker.LaunchClaim{Name: "snp.host_data", Want: host}
	register(tenant, 1, nil)
	register(tenant, 2, teebroker.LaunchClaim{Name: "snp.host_data", Want: []byte("other")})
	register("other", 3, mine)
	if _, err := find(tenant, 0, v); !errors.Is(err, teebroker.NoInstance) {
		t.Errorf("none fits: %v", err)
	}
	register(tenant, 4, mine)
	if id, err := find(tenant, 0, v); err != nil || id != 4 {
		t.Errorf("one fits: %d, %v", id, err)
	}
	if _, err := find(tenant, 0); !errors.Is(err, teebroker.NoInstance) {
		t.Errorf("nothing verified: %v", err)
	}
	if id, err := find(tenant, 1, v); err != nil || id != 1 {
		t.Errorf("claimed: %d, %v", id, err)
	}
	if _, err := find(tenant, 3, v); !errors.Is(err, teebroker.NoInstance) {
		t.Errorf("claimed, of another tenant: %v", err)
	}
	register(tenant, 5, mine)
	if _, err := find(tenant, 0, v); !errors.Is(err, teebroker.NoInstance) {
		t.Errorf("two fit: %v", err)
	}
}
