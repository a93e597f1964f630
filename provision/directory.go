package provision

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/owner"
)

// The files of a directory, beside those of guest/state.Dir. None of them is a secret.
const (
	WrappedFile = "wrapped.json"     // the state key, as the owner wrapped it: keywrap.Wrapped
	SealedFile  = "passphrase.tpm"   // the passphrase, as the TPM sealed it
	AboutFile   = "provisioned.json" // About, for people and registrars; nobody trusts it
	ImageFile   = "disk.luks"        // the disk that was made, if one was
)

// FirstEpoch is the number of the state key.
const FirstEpoch = 1

// About says what is in a directory.
type About struct {
	Tenant   string            `json:"tenant"`
	Instance strictjson.UUID   `json:"instance"`
	Purpose  string            `json:"purpose"`
	EK       strictjson.Base64 `json:"ek"`        // TPM2B_PUBLIC
	EKDigest strictjson.Hex    `json:"ek_sha256"` // of its TPMT_PUBLIC
	Agent    string            `json:"agent"`     // the id of a Keylime agent whose uuid is "hash_ek"
	PCRs     []int             `json:"pcrs"`      // that the passphrase is sealed to
	Disk     *Disk             `json:"disk,omitempty"`
}

// Provision makes a TPM, as [Make] does, and the directory out with its sealed state, the
// wrapped state key, and the sealed passphrase. out is there, whole, or not at all;
// it must not be there before. keys says to which broker the state key is wrapped; its Tenant, Instance, Purpose
// and Epoch are set. The caller registers what is returned: the wrapped key of [FirstEpoch] of a purpose that
// begins without "initial". Errors are those of Make and owner.Wrap, or wrap os.ErrExist.
func Provision(ctx context.Context, cfg Config, keys owner.Blob, out string) (w keywrap.Wrapped, about About, err error) {
	if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
		return w, about, fmt.Errorf("provision: %s: %w", out, cmpOr(err, os.ErrExist))
	}
	dir, err := os.MkdirTemp(filepath.Dir(filepath.Clean(out)), ".provision-")
	if err != nil {
		return w, about, fmt.Errorf("provision: %w", err)
	}
	defer os.RemoveAll(dir) // is gone if it was renamed
	key := make([]byte, 32)
	defer clear(key)
	rand.Read(key)
	// Before the long work: whether there is a key to wrap to.
	keys.Tenant, keys.Instance, keys.Image, keys.Purpose, keys.Epoch = cfg.Tenant, cfg.Instance, "", cfg.Purpose, FirstEpoch
	if w, err = owner.Wrap(keys, key); err != nil {
		return w, about, fmt.Errorf("provision: %w", err)
	}
	made, err := Make(ctx, cfg, filepath.Join(dir, ImageFile))
	if err != nil {
		return w, about, err
	}
	defer made.State.Clear()
	about = made.about()
	cfg.progress("sealing the state of the TPM")
	err = made.write(dir, key, w)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = moveDir(dir, out)
	}
	if err != nil {
		return w, about, fmt.Errorf("provision: %w", err)
	}
	return w, about, nil
}

func cmpOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (m *Made) about() About {
	h := m.State.Header
	s, _ := parseSealed(m.Sealed) // as it was made
	return About{h.Tenant, h.Instance, h.Purpose, m.EK, h.EK[:], m.Agent, s.PCRs, h.Disk}
}

// write writes the files of m, durably.
func (m *Made) write(dir string, key []byte, w keywrap.Wrapped) error {
	value, err := m.State.Marshal()
	if err != nil {
		return err
	}
	defer clear(value)
	h := m.State.Header
	first := state.First{Tenant: h.Tenant, Instance: h.Instance, Purpose: h.Purpose, Epoch: FirstEpoch, Key: key}
	if err := first.Write(state.Dir(dir), value); err != nil {
		return err
	}
	wrapped, err := w.MarshalJSON()
	if err != nil {
		return err
	}
	about, err := json.MarshalIndent(m.about(), "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		writeFile(filepath.Join(dir, WrappedFile), append(wrapped, '\n')),
		writeFile(filepath.Join(dir, AboutFile), append(about, '\n')),
		writeFile(filepath.Join(dir, SealedFile), m.Sealed),
	)
}

func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// moveDir gives dir the name out, durably. A directory that is there by then stays, unless it is empty.
func moveDir(dir, out string) error {
	if err := syncPath(dir); err != nil {
		return err
	}
	if err := os.Rename(dir, out); err != nil {
		return err
	}
	return syncPath(filepath.Dir(filepath.Clean(out)))
}

// syncPath flushes a file, or the names in a directory.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Load returns what [Provision] returned for the directory out, for g: to register it
// when that was interrupted. Errors wrap [ErrDirectory], or os.ErrNotExist if there is no such directory.
func Load(out string, g Guest) (keywrap.Wrapped, About, error) {
	var about About
	b, err := readFile(filepath.Join(out, AboutFile))
	if err == nil {
		err = strictjson.Unmarshal(b, &about)
	}
	if err != nil {
		return keywrap.Wrapped{}, About{}, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	b, err = readFile(filepath.Join(out, WrappedFile))
	if err != nil {
		return keywrap.Wrapped{}, About{}, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	w, err := keywrap.ParseWrapped(b)
	if err != nil {
		return keywrap.Wrapped{}, About{}, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	h, err := w.Header()
	if err != nil {
		return keywrap.Wrapped{}, About{}, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	if (Guest{h.Tenant, h.Instance, h.Purpose}) != g || (Guest{about.Tenant, about.Instance, about.Purpose}) != g || h.Epoch != FirstEpoch {
		return keywrap.Wrapped{}, About{}, fmt.Errorf("%w: it is of another", ErrDirectory)
	}
	return w, about, nil
}

// readFile reads a small file of a directory.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const most = 64 << 10
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(b) > most {
		err = errors.New("too large")
	}
	return b, err
}

func digest(b []byte) strictjson.Digest { return sha256.Sum256(b) }
