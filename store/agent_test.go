package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// known is Identities with one Identity, or an error, and what RegisterAgent says.
type known struct {
	store.Identities
	id      store.Identity
	err     error
	refusal error
}

func (k known) RegisterAgent(context.Context, string, [32]byte, store.Agent) (store.Identity, error) {
	if k.refusal != nil {
		return store.Identity{}, k.refusal
	}
	return k.id, nil
}

func (k known) ByEK(context.Context, string, [32]byte) (store.Identity, error) { return k.id, k.err }

func TestRegisterAgain(t *testing.T) {
	same := store.Identity{State: store.IdentityLive, Agent: "a", Registered: time.Unix(1, 0)}
	other, held, fresh := same, same, same
	other.Agent, held.State, fresh.Registered = "b", store.IdentityHeld, time.Time{}
	broken := errors.New("database")
	for name, v := range map[string]struct {
		known
		want error
	}{
		"the first":                {known{id: same}, nil},
		"the same again":           {known{id: same, refusal: store.Conflict}, nil},
		"another agent":            {known{id: other, refusal: store.Conflict}, store.Conflict},
		"the same, held meanwhile": {known{id: held, refusal: store.Conflict}, store.Conflict},
		"the same, not registered": {known{id: fresh, refusal: store.Conflict}, store.Conflict},
		"held":                     {known{id: same, refusal: teebroker.Held}, teebroker.Held},
		"not known now":            {known{id: same, err: broken, refusal: store.Conflict}, broken},
		"of nobody":                {known{refusal: store.NotFound}, store.NotFound},
	} {
		got, err := store.RegisterAgain(t.Context(), v.known, "acme", [32]byte{1}, store.Agent{ID: "a"})
		if !errors.Is(err, v.want) || (err == nil) != (got.Agent == "a") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
