package brokerd

import (
	"context"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/keywrap"
)

// Commands that change the key file at the same time lose nothing of each other.
func TestKeysAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	f, err := keyfile.New()
	if err == nil {
		err = f.Add("default", "first", keywrap.P384, time.Unix(1000, 0))
	}
	if err == nil {
		err = f.Create(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			o := keyOptions{tenant: "default", kid: id, suite: string(keywrap.P384)}
			o.AttestationKey = path
			if err := o.run(context.Background(), "add", io.Discard); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := keyfile.Read(path)
	if err != nil || len(got.Entries()) != len(ids)+1 {
		t.Errorf("%d keys, %v", len(got.Entries()), err)
	}
}
