package brokerd_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/brokerd"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store/checkpoint"
)

// put stores a policy under a name, which is an entry of the record.
func put(t *testing.T, c *v1.Client, name string) error {
	t.Helper()
	return c.PutPolicy(t.Context(), name, []byte(policyDocument))
}

// move puts the file of a database, which nobody has open, under another name.
func move(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A broker that is started on yesterday's database says so, releases and records
// nothing, and goes on with today's. One under which the file is replaced does too.
func TestYesterdaysDatabase(t *testing.T) {
	dir, sim := state(t), simulatedDir(t)
	db, o := filepath.Join(dir, "broker.db"), brokerd.Options{TrustSimulated: sim}
	url, _, stop := serve(t, o)
	if err := put(t, ownerOf(t, url, dir), "one"); err != nil {
		t.Fatal(err)
	}
	stop()
	move(t, db, db+".yesterday")
	url, _, stop = serve(t, o)
	owner := ownerOf(t, url, dir)
	if err := errors.Join(put(t, owner, "two"), owner.Ready(t.Context())); err != nil {
		t.Fatal(err)
	}
	r, err := owner.Record(t.Context(), teebroker.Decisions, 0)
	if err != nil || len(r.Checkpoints) != 1 { // on request
		t.Fatalf("%+v, %v", r, err)
	}
	stop()
	move(t, db, db+".today")
	move(t, db+".yesterday", db)
	url, log, stop := serve(t, o)
	owner = ownerOf(t, url, dir)
	for name, err := range map[string]error{"ready": owner.Ready(t.Context()), "an act": put(t, owner, "three")} {
		var p *v1.Problem
		if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || p.Code != "unavailable" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text := log.String(); !strings.Contains(text, "end at entry 2, and 3 was seen") || !strings.Contains(text, "broker restore") {
		t.Errorf("the log does not say why, and what to do: %s", text)
	}
	resp, err := http.Get(url + v1.PathMetrics)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if resp.Body.Close(); err != nil || !strings.Contains(string(b), "\nteebroker_stopped 1\n") {
		t.Errorf("%s, %v", b, err)
	}
	if got, err := owner.Record(t.Context(), teebroker.Decisions, 0); err != nil || len(got.Entries) != 2 || len(got.Checkpoints) != 1 || got.Checkpoints[0] != r.Checkpoints[0] {
		t.Errorf("what an owner sees: %+v, %v", got, err)
	}
	move(t, db+".today", db) // under the broker, which goes on writing to the other
	if err := put(t, owner, "three"); err == nil {
		t.Error("written to a file that is nobody's")
	}
	stop()
	_ = errors.Join(os.Remove(db+"-wal"), os.Remove(db+"-shm")) // of the other
	url, _, stop = serve(t, o)
	owner = ownerOf(t, url, dir)
	if err := errors.Join(owner.Ready(t.Context()), put(t, owner, "three")); err != nil {
		t.Error(err)
	}
	move(t, db+".yesterday", db)
	if err := owner.Ready(t.Context()); err == nil {
		t.Error("ready, and its database is elsewhere")
	}
	if err := put(t, owner, "four"); err == nil {
		t.Error("written to a file that is nobody's")
	}
	stop()
}

// A broker whose checkpoints are lost or damaged does not start, unless somebody
// says that they are.
func TestCheckpointsMissing(t *testing.T) {
	dir, sim := state(t), simulatedDir(t)
	o := brokerd.Options{TrustSimulated: sim}
	_, log, stop := serve(t, o)
	stop()
	kept, err := filepath.Glob(filepath.Join(dir, "checkpoints", "checkpoints-*.json"))
	if err != nil || len(kept) != 1 || !strings.Contains(log.String(), kept[0]) {
		t.Fatal(kept, err, log)
	}
	for name, lose := range map[string]func() error{
		"lost":    func() error { return os.Remove(kept[0]) },
		"damaged": func() error { return os.WriteFile(kept[0], []byte(`{"v":1`), 0o600) },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		o.Listen = "127.0.0.1:0"
		err := brokerd.Serve(t.Context(), o, io.Discard, io.Discard)
		if !errors.Is(err, checkpoint.ErrMissing) && !errors.Is(err, checkpoint.ErrFile) || !strings.Contains(err.Error(), "-checkpoints") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(kept[0]); err != nil {
		t.Fatal(err)
	}
	o.AllowMissing = true
	url, _, stop := serve(t, o)
	if err := ownerOf(t, url, dir).Ready(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	o.AllowMissing = false
	_, _, stop = serve(t, o)
	stop()
}
