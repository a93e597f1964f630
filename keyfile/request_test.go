package keyfile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/keyfile"
)

// A new request key is the one that guests seal to, and the one before opens for
// a while; later its seed is gone, and its id is not free.
func TestRequestKeys(t *testing.T) {
	path, at := filepath.Join(t.TempDir(), "keys"), time.Unix(1_000_000, 0)
	f := newFile(t)
	if ks, err := f.RequestKeys(); err != nil || len(ks) != 0 {
		t.Errorf("%d keys, %v", len(ks), err)
	}
	if err := errors.Join(f.AddRequest("one", at), f.AddRequest("two", at.Add(time.Hour)), f.Create(path)); err != nil {
		t.Fatal(err)
	}
	f = must(keyfile.Read(path))
	ks := must(f.RequestKeys())
	if len(ks) != 2 || ks[0].ID != "two" || !ks[0].NotAfter.IsZero() || ks[1].ID != "one" ||
		!ks[1].NotBefore.Equal(at) || !ks[1].NotAfter.Equal(at.Add(time.Hour)) ||
		ks[0].Opener.Recipient().Thumbprint() == ks[1].Opener.Recipient().Thumbprint() {
		t.Fatalf("%+v", ks)
	}
	for _, kid := range []string{"one", "two", "", "Two"} {
		if err := f.AddRequest(kid, at.Add(2*time.Hour)); !errors.Is(err, keyfile.ErrFile) {
			t.Errorf("added %q: %v", kid, err)
		}
	}
	if es := f.Requests(); len(es) != 2 || !es[0].NotAfter.IsZero() {
		t.Errorf("what failed changed something: %+v", es)
	}
	if err := errors.Join(f.AddRequest("three", at.Add(3*time.Hour+time.Second)), f.RetireRequest("two"), f.Replace(path)); err != nil {
		t.Fatal(err)
	}
	f = must(keyfile.Read(path))
	if ks := must(f.RequestKeys()); len(ks) != 1 || ks[0].ID != "three" {
		t.Errorf("%+v", ks)
	}
	es := f.Requests()
	if len(es) != 3 || es[0].Retired || !es[1].Retired || !es[2].Retired || es[2].ID != "one" {
		t.Errorf("%+v", es)
	}
	if b := must(os.ReadFile(path)); bytes.Count(b, []byte(`"seed"`)) != 4 { // three attestation keys and "three"
		t.Error("a seed is still there")
	}
	if err := f.RetireRequest("none"); !errors.Is(err, keyfile.ErrFile) {
		t.Errorf("%v", err)
	}
}

func TestParseRequestKeysRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	f := newFile(t)
	if err := errors.Join(f.AddRequest("one", time.Unix(1000, 0)), f.AddRequest("two", time.Unix(2000, 0)), f.Create(path)); err != nil {
		t.Fatal(err)
	}
	good := must(os.ReadFile(path))
	for name, edit := range map[string]func(map[string]any){
		"one id for two": func(r map[string]any) { r["kid"] = "two" },
		"not an id":      func(r map[string]any) { r["kid"] = "One" },
		"another suite":  func(r map[string]any) { r["suite"] = "HPKE-MLKEM1024-P384" },
		"not a seed":     func(r map[string]any) { r["seed"] = "AAAA" },
		"over before":    func(r map[string]any) { r["not_after"] = 1000 },
		"before 1970":    func(r map[string]any) { r["not_before"] = -1 },
		"more":           func(r map[string]any) { r["token"] = "pkcs11:" },
	} {
		var j map[string]any
		d := json.NewDecoder(bytes.NewReader(good))
		d.UseNumber()
		if err := d.Decode(&j); err != nil {
			t.Fatal(err)
		}
		edit(j["requests"].([]any)[1].(map[string]any))
		_, err := keyfile.Parse(must(json.Marshal(j)))
		if !errors.Is(err, keyfile.ErrFile) || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
