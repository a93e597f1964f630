package state_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/store"
)

// A backup whose key the broker has forgotten comes back with the copy beside it, and
// with no other.
func TestOldBackup(t *testing.T) {
	w, d := newWorld(t, "boot"), &disk{}
	s, err := w.start(d, nil).boot()
	w.check(err)
	wrapped, backup := s.Wrapped(), d.copy() // of epoch 2
	for i := range store.KeptBlobs + 1 {
		w.grown(d, fmt.Sprint(" ", i))
	}
	if _, err := w.broker.Renew(t.Context(), tenant, instance, purpose, 2, nil); !errors.Is(err, teebroker.ForeignBlob) {
		t.Errorf("without a copy: %v", err)
	}
	for name, other := range map[string][]byte{"the owner's": w.first, "changed": append(wrapped[:len(wrapped)-3:len(wrapped)-3], `A"}`...)} {
		if _, err := w.broker.Renew(t.Context(), tenant, instance, purpose, 2, other); err == nil {
			t.Errorf("with a copy that is %s", name)
		}
	}
	b, err := w.broker.Renew(t.Context(), tenant, instance, purpose, 2, wrapped)
	w.check(err)
	w.check(second(w.Recover(t.Context(), tenant, instance, purpose, b, 2)))
	if _, err := w.start(d, nil).prepare(); !errors.Is(err, state.NoState) {
		t.Errorf("the disk that was given up: %v", err)
	}
	if s, err := w.start(backup, nil).boot(); err != nil || string(s.Value()) != "fresh" {
		t.Errorf("the backup: %v", err)
	}
}
