package provision

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/owner"
	"github.com/teebroker/teebroker/store/memory"
)

// Without the programs there is nothing to run, and in CI they have to be there.
func TestMain(m *testing.M) {
	flag.Parse()
	for _, program := range []string{"swtpm", "cryptsetup"} {
		if _, err := exec.LookPath(program); err != nil && os.Getenv("CI") == "" {
			fmt.Fprintln(os.Stderr, "SKIPPED, NOT PASSED: no", program)
			must(0, flag.Set("test.run", "^TestParse|^Fuzz"))
		}
	}
	os.Exit(m.Run())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func theGuest() Guest { return Guest{"acme", [16]byte{15: 1}, "vtpm"} }

// A broker's keys document, and the key that opens what is wrapped to it.
func newKeys() (owner.Blob, keywrap.Opener) {
	key, s := must(keywrap.Generate(keywrap.P384)), memory.New(nil)
	b := must(teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{}, Issuer: must(nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})), Nonces: s,
		Directory: s, Secrets: s, Ledger: s, Identity: must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		Keys: must(teebroker.NewKeySet(map[string][]teebroker.AttestationKey{"acme": {{ID: "one", Opener: key}}})),
	}))
	return owner.Blob{Keys: must(b.KeysDocument(context.Background(), "acme")), Broker: b.ID(), Time: time.Now()}, key
}

// delivered is the directory of a guest, and how its key is opened.
type delivered struct {
	Config
	dir   string
	about About
	key   []byte // of the state
	made  keywrap.Wrapped
}

// deliver makes a directory as cfg says.
func deliver(tb testing.TB, cfg Config) *delivered {
	tb.Helper()
	blob, opener := newKeys()
	if cfg.Work == "" {
		cfg.Work = tb.TempDir()
	}
	d := &delivered{Config: cfg, dir: filepath.Join(tb.TempDir(), "out")}
	var err error
	if d.made, d.about, err = Provision(tb.Context(), cfg, blob, d.dir); err != nil {
		tb.Fatal(err)
	}
	if d.key, err = d.made.Unwrap(tb.Context(), opener); err != nil {
		tb.Fatal(err)
	}
	return d
}

// value opens the state of epoch 1, as a release has it, and confirms it.
func (d *delivered) boot(tb testing.TB, g Guest, key []byte) (*state.State, error) {
	tb.Helper()
	confirmKey := make([]byte, 32)
	p, err := state.Prepare(state.Config{
		Slots: state.Dir(d.dir),
		Confirm: func(_ context.Context, c teebroker.Confirm, _ []byte) (teebroker.Acknowledged, error) {
			return teebroker.Acknowledged{Confirm: c, Result: teebroker.ConfirmedResult, MAC: c.Ack(confirmKey, teebroker.ConfirmedResult)}, nil
		},
		Inspect: func(value []byte) ([32]byte, error) {
			s, err := ParseState(value, g)
			if err != nil {
				return [32]byte{}, err
			}
			defer s.Clear()
			return s.EK, nil
		},
	}, &guest.Opened{
		Tenant: g.Tenant, Instance: g.Instance, Purpose: g.Purpose, Release: [16]byte{1}, Key: bytes.Clone(key), Epoch: 1, Slot: 1,
		Next: 2, NextKey: make([]byte, 32), ConfirmKey: confirmKey, Pinned: true,
	}, nil)
	if err != nil {
		return nil, err
	}
	return p.Confirm(tb.Context())
}

// state returns the state in the directory.
func (d *delivered) state(tb testing.TB) *State {
	tb.Helper()
	s, err := d.boot(tb, d.Guest, d.key)
	if err != nil {
		tb.Fatal(err)
	}
	st, err := ParseState(s.Value(), d.Guest)
	if err != nil {
		tb.Fatal(err)
	}
	return st
}

func (d *delivered) sealed(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, SealedFile))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// start starts the TPM of s, which the test ends.
func start(tb testing.TB, s *State) *TPM {
	tb.Helper()
	t, err := s.Start(tb.Context(), tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := t.Close(); err != nil {
			tb.Error(err)
		}
	})
	return t
}

// extend has t measure something.
func extend(tb testing.TB, t *TPM, index int) {
	tb.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(t)
	if err != nil {
		tb.Fatal(err)
	}
}
