package keywrap_test

import (
	"errors"
	"testing"

	"github.com/teebroker/teebroker/keywrap"
)

// keyless is an Opener that has no key.
type keyless struct{ keywrap.Opener }

func (keyless) Recipient() keywrap.Recipient { return keywrap.Recipient{} }

func TestKeyring(t *testing.T) {
	a, b := generate(t, keywrap.MLKEM1024P384), generate(t, keywrap.P384)
	keys := []keywrap.Key{{ID: "new", Opener: a}, {ID: "old", Opener: b}}
	ring, err := keywrap.NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	keys[0], keys[1] = keys[1], keywrap.Key{}
	if k := ring.Current(); k.ID != "new" || k.Recipient().Thumbprint() != a.Recipient().Thumbprint() {
		t.Errorf("published: %q", k.ID)
	}
	for id, want := range map[string]keywrap.Opener{"new": a, "old": b} {
		if k, ok := ring.Key(id); !ok || k.ID != id || k.Recipient().Thumbprint() != want.Recipient().Thumbprint() {
			t.Errorf("key %q: %q, %v", id, k.ID, ok)
		}
	}
	for _, id := range []string{"", "New", "new ", "other"} {
		if k, ok := ring.Key(id); ok || k.Opener != nil {
			t.Errorf("there is a key %q", id)
		}
	}
	for name, keys := range map[string][]keywrap.Key{
		"none":          nil,
		"no id":         {{Opener: a}},
		"no opener":     {{ID: "a"}},
		"no key":        {{ID: "a", Opener: keyless{a}}},
		"same id":       {{ID: "a", Opener: a}, {ID: "a", Opener: b}},
		"same key":      {{ID: "a", Opener: a}, {ID: "b", Opener: a}},
		"second has no": {{ID: "a", Opener: a}, {}},
	} {
		if ring, err := keywrap.NewKeyring(keys...); !errors.Is(err, keywrap.ErrKey) || ring != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var zero keywrap.Keyring
	if _, ok := zero.Key(""); ok || zero.Current() != (keywrap.Key{}) {
		t.Error("the zero Keyring has a key")
	}
}
