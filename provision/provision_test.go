package provision

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

func resets(tb testing.TB, t *TPM) uint32 {
	tb.Helper()
	got, err := tpm2.ReadClock{}.Execute(t)
	if err != nil {
		tb.Fatal(err)
	}
	return got.CurrentTime.ClockInfo.ResetCount
}

// From the owner to the guest and back: the key opens the state, the TPM of the state
// unseals the passphrase, and that opens the disk whose header the state names. The TPM
// goes on as itself at the next boot.
func TestRoundTrip(t *testing.T) {
	var steps []string
	d := deliver(t, Config{
		Guest: theGuest(), PCRs: []PCR{{Index: 7}, {Index: 0}}, ECC: true, NewImage: MinImage,
		Progress: func(step string) { steps = append(steps, step) },
	})
	s := d.state(t)
	tpm := start(t, s)
	passphrase, err := tpm.Unseal(d.sealed(t))
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(d.dir, ImageFile)
	if err := s.OpenDisk(t.Context(), image, t.TempDir(), "", passphrase); err != nil {
		t.Error(err)
	}
	if err := s.OpenDisk(t.Context(), image, t.TempDir(), "", append(passphrase[:len(passphrase):len(passphrase)], 'x')); !errors.Is(err, ErrPassphrase) {
		t.Errorf("another passphrase: %v", err)
	}
	ek, err := vtpm.ParsePublic(tpm.EK())
	if err != nil || ekDigest(tpm.EK()) != s.EK || !bytes.Equal(d.about.EK, tpm.EK()) || !bytes.Equal(d.about.EKDigest, s.EK[:]) {
		t.Errorf("EK: %v", err)
	}
	if id, err := vtpm.AgentID(ek.Key); err != nil || id != d.about.Agent {
		t.Errorf("agent %s, %v", d.about.Agent, err)
	}
	if !slices.Equal(d.about.PCRs, []int{0, 7}) || d.about.Disk == nil || *d.about.Disk != *s.Disk {
		t.Errorf("%+v", d.about)
	}
	if len(steps) != 5 {
		t.Errorf("told of %q", steps)
	}
	before := resets(t, tpm)
	next, err := tpm.Stop()
	if err != nil {
		t.Fatal(err)
	}
	again := start(t, next)
	if got := resets(t, again); got <= before {
		t.Errorf("%d resets after %d", got, before)
	}
	if got, err := again.Unseal(d.sealed(t)); err != nil || !bytes.Equal(got, passphrase) {
		t.Errorf("at the next boot: %v", err)
	}
	leaks(t, d, passphrase)
}

// The EK that an owner was told of is that of the TPM in the guest: a credential for it
// is activated there, for a key that is there too.
func TestActivated(t *testing.T) {
	for _, kind := range []vtpmtest.Kind{vtpmtest.ECC, vtpmtest.RSA} {
		d := deliver(t, Config{Guest: theGuest(), AllowAnyBoot: true, ECC: kind == vtpmtest.ECC})
		device, err := vtpmtest.Over(start(t, d.state(t)), kind)
		if err != nil {
			t.Fatal(err)
		}
		ek, err := vtpm.ParsePublic(d.about.EK)
		if err != nil {
			t.Fatal(err)
		}
		ak, err := vtpm.ParsePublic(device.AK())
		if err != nil {
			t.Fatal(err)
		}
		blob, err := vtpm.MakeCredential(ek, ak.Name, []byte("challenge"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := device.Activate(blob); err != nil || string(got) != "challenge" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// leaks fails if something that is secret is in the clear in a file, or a file is for others.
func leaks(t *testing.T, d *delivered, secrets ...[]byte) {
	t.Helper()
	files := 0
	for _, root := range []string{d.dir, d.Work} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			files++
			b, err := os.ReadFile(path)
			for _, s := range append(secrets, d.key) {
				if bytes.Contains(b, s) {
					t.Errorf("%s has a secret in the clear", path)
				}
			}
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files != 5 {
		t.Errorf("%d files", files)
	}
}

// Something else was booted, and the TPM keeps the passphrase.
func TestOtherPCRs(t *testing.T) {
	measured := sha256.Sum256(make([]byte, 64)) // a register after extend
	d := deliver(t, Config{Guest: theGuest(), PCRs: []PCR{{Index: 4}, {Index: 7, Value: measured}}, ECC: true, Passphrase: []byte("known to its owner")})
	tpm := start(t, d.state(t))
	if got, err := tpm.Unseal(d.sealed(t)); !errors.Is(err, ErrPCRs) {
		t.Errorf("before the measurement: %q, %v", got, err)
	}
	extend(t, tpm, 7)
	extend(t, tpm, 5) // is not named
	if got, err := tpm.Unseal(d.sealed(t)); err != nil || string(got) != "known to its owner" {
		t.Errorf("%q, %v", got, err)
	}
	extend(t, tpm, 4)
	for range 3 { // what is loaded is unloaded again
		if got, err := tpm.Unseal(d.sealed(t)); !errors.Is(err, ErrPCRs) {
			t.Errorf("after another measurement: %q, %v", got, err)
		}
	}
}

func TestAnyBoot(t *testing.T) {
	d := deliver(t, Config{Guest: theGuest(), AllowAnyBoot: true, ECC: true, Passphrase: []byte("p")})
	s := d.state(t)
	tpm := start(t, s)
	extend(t, tpm, 7)
	if got, err := tpm.Unseal(d.sealed(t)); err != nil || string(got) != "p" {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.CheckDisk(t.Context(), "/dev/null", t.TempDir()); !errors.Is(err, ErrDisk) {
		t.Errorf("a disk that the state does not name: %v", err)
	}
}

// What belongs to one guest is of no use to another, whichever part the host exchanges.
func TestOtherGuest(t *testing.T) {
	a := deliver(t, Config{Guest: theGuest(), AllowAnyBoot: true, ECC: true, Passphrase: []byte("of a")})
	other := theGuest()
	other.Instance[0]++
	b := deliver(t, Config{Guest: other, AllowAnyBoot: true, ECC: true, Passphrase: []byte("of b")})

	// The state: its key is another, and so is what it is sealed for, even with the key.
	swapped := *a
	swapped.dir = b.dir
	if _, err := swapped.boot(t, a.Guest, a.key); !errors.Is(err, state.NoState) {
		t.Errorf("the state of another: %v", err)
	}
	if _, err := swapped.boot(t, a.Guest, b.key); !errors.Is(err, state.NoState) {
		t.Errorf("the state of another, with its key: %v", err)
	}
	st := a.state(t)
	value, err := st.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseState(value, other); !errors.Is(err, ErrState) {
		t.Errorf("the header of another: %v", err)
	}

	// The sealed passphrase: it is another's, and its TPM is another, even if the state named it.
	tpm := start(t, st)
	if got, err := tpm.Unseal(b.sealed(t)); !errors.Is(err, ErrSealed) {
		t.Errorf("the passphrase of another: %q, %v", got, err)
	}
	if got, err := unseal(tpm, b.sealed(t)); !errors.Is(err, ErrSealed) {
		t.Errorf("the passphrase of another TPM: %q, %v", got, err)
	}
	forged := bytes.Replace(a.sealed(t), []byte(`"pcrs":[]`), []byte(`"pcrs":[7]`), 1)
	if got, err := unseal(tpm, forged); !errors.Is(err, ErrPCRs) {
		t.Errorf("another selection: %q, %v", got, err)
	}

	// The TPM: its EK is not the one that the header names.
	foreign := b.state(t)
	mixed := &State{st.Header, foreign.key, foreign.tpm}
	if tpm, err := mixed.Start(t.Context(), t.TempDir()); !errors.Is(err, ErrState) {
		t.Errorf("the TPM of another: %v, %v", tpm, err)
	}
}

// Whenever it is interrupted there is nothing, and it can be done again.
func TestInterrupted(t *testing.T) {
	blob, _ := newKeys()
	parent, work := t.TempDir(), t.TempDir()
	out := filepath.Join(parent, "out")
	cfg := Config{Guest: theGuest(), AllowAnyBoot: true, ECC: true, NewImage: MinImage, Work: work}
	reached := 0
	for stop := 1; ; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		step := 0
		cfg.Progress = func(string) {
			if step++; step == stop {
				cancel()
			}
		}
		_, _, err := Provision(ctx, cfg, blob, out)
		cancel()
		if err == nil {
			break
		}
		reached = stop
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("step %d: %v", stop, err)
		}
		for _, dir := range []string{parent, work} {
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("step %d leaves %v, %v", stop, left, err)
			}
		}
	}
	if reached != 5 {
		t.Errorf("interrupted at %d steps", reached)
	}
	w, about, err := Load(out, cfg.Guest)
	if err != nil || about.Instance != cfg.Instance {
		t.Errorf("%+v, %v", about, err)
	}
	if h, err := w.Header(); err != nil || h.Epoch != FirstEpoch || h.Purpose != "vtpm" {
		t.Errorf("%+v, %v", h, err)
	}
	if _, _, err := Provision(t.Context(), cfg, blob, out); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a directory: %v", err)
	}
	other := cfg.Guest
	other.Purpose = "other"
	if _, _, err := Load(out, other); !errors.Is(err, ErrDirectory) {
		t.Errorf("of another: %v", err)
	}
	for _, name := range []string{WrappedFile, AboutFile} {
		if err := os.Truncate(filepath.Join(out, name), 30); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(out, cfg.Guest); !errors.Is(err, ErrDirectory) {
			t.Errorf("with half of %s: %v", name, err)
		}
	}
	if _, _, err := Load(filepath.Join(parent, "none"), cfg.Guest); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// What can't be meant is refused before anything is made.
func TestRefused(t *testing.T) {
	good := Config{Guest: theGuest(), AllowAnyBoot: true, ECC: true}
	for name, edit := range map[string]func(*Config){
		"tenant":                 func(c *Config) { c.Tenant = "A" },
		"instance":               func(c *Config) { c.Instance = [16]byte{} },
		"purpose":                func(c *Config) { c.Purpose = "../x" },
		"nothing sealed to":      func(c *Config) { c.AllowAnyBoot = false },
		"PCRs and any boot":      func(c *Config) { c.PCRs = []PCR{{}} },
		"no such PCR":            func(c *Config) { c.PCRs, c.AllowAnyBoot = []PCR{{Index: 24}}, false },
		"a negative PCR":         func(c *Config) { c.PCRs, c.AllowAnyBoot = []PCR{{Index: -1}}, false },
		"a PCR twice":            func(c *Config) { c.PCRs, c.AllowAnyBoot = []PCR{{Index: 1}, {Index: 1}}, false },
		"passphrase":             func(c *Config) { c.Passphrase = make([]byte, MaxPassphrase+1) },
		"disk and no passphrase": func(c *Config) { c.Image = "x" },
		"two disks":              func(c *Config) { c.Image, c.Passphrase, c.NewImage = "x", []byte("p"), MinImage },
		"a small disk":           func(c *Config) { c.NewImage = MinImage - 1 },
	} {
		c := good
		edit(&c)
		if _, err := Make(t.Context(), c, filepath.Join(t.TempDir(), "image")); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	blob, _ := newKeys()
	blob.Broker[0]++
	out := filepath.Join(t.TempDir(), "out")
	good.Progress = func(step string) { t.Errorf("%s, for a broker that is not known", step) }
	if _, _, err := Provision(t.Context(), good, blob, out); !errors.Is(err, teebroker.ErrKeys) {
		t.Errorf("another broker: %v", err)
	}
	blob.Time = time.Time{}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	c := good
	c.Progress, c.Image, c.Passphrase = nil, filepath.Join(t.TempDir(), "none"), []byte("p")
	if _, err := Make(t.Context(), c, ""); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "disk") {
		t.Errorf("no such disk: %v", err)
	}
}
