package brokerd

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// With -fetch the vendors are asked for what the folder does not have, and without
// it nobody is.
func TestSource(t *testing.T) {
	var asked atomic.Int64
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.NotFound(w, r)
	}))
	t.Cleanup(vendor.Close)
	name := snp.VCEKName(snp.ChipID{1}, snp.TCB{Line: snp.Milan, Bootloader: 4})
	for _, fetch := range []bool{false, true} {
		b := &broker{files: files{dir: t.TempDir()}, log: slog.New(slog.DiscardHandler), tokens: tokens{}}
		o := Options{Fetch: fetch, Collateral: t.TempDir()}
		if fetch {
			o.KDS, o.PCS = vendor.URL, vendor.URL
		}
		source, err := b.source(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := source.Get(t.Context(), name); !errors.Is(err, evidence.ErrNotFound) {
			t.Errorf("fetch=%v: %v", fetch, err)
		}
		if got := asked.Load(); fetch != (got > 0) {
			t.Errorf("fetch=%v: %d requests", fetch, got)
		}
		b.close()
	}
	if _, err := (&broker{}).source(Options{KDS: vendor.URL}); err == nil {
		t.Error("-kds without -fetch")
	}
}
