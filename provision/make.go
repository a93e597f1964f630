package provision

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/teebroker/teebroker/vtpm"
)

// Config says what is made. Fields without a stated default are required.
type Config struct {
	Guest

	// PCRs are what the passphrase is sealed to, each once: what a good boot has measured
	// when it unseals. With none, AllowAnyBoot must be set: any guest that gets the TPM's state then
	// gets the passphrase, whatever it booted after its launch measurement.
	PCRs         []PCR
	AllowAnyBoot bool

	// ECC makes an endorsement key on P-256, template L-2, instead of one of RSA 2048, L-1.
	ECC bool

	// Passphrase is sealed, 1 to MaxPassphrase bytes. If empty, a new one of 256 random
	// bits in base64url is made, which nobody else knows: there is no other way to the data.
	Passphrase []byte

	// Image is a LUKS2 disk, a file or device, that Passphrase opens. It is not changed. If empty, NewImage
	// is the size in bytes of a disk that is made, or 0 for none: the state then names no
	// disk, and a guest opens none with it.
	Image    string
	NewImage int64

	// Work is a directory, only the caller's, for files that are there meanwhile, encrypted. If empty, os.TempDir().
	Work string

	// Progress, if it is not nil, is told what is done next, in a few words.
	Progress func(step string)
}

// MinImage is the smallest NewImage: a header of 4 MiB, and some data.
const MinImage = 5 << 20

func (c Config) check() error {
	if err := c.Guest.check(); err != nil {
		return err
	}
	seen := map[int]bool{}
	for _, p := range c.PCRs {
		if p.Index < 0 || p.Index >= pcrs || seen[p.Index] {
			return errors.New("a PCR that does not exist, or twice")
		}
		seen[p.Index] = true
	}
	switch {
	case len(c.PCRs) == 0 && !c.AllowAnyBoot:
		return errors.New("no PCRs to seal to, and any boot not allowed")
	case len(c.PCRs) != 0 && c.AllowAnyBoot:
		return errors.New("PCRs to seal to, and any boot allowed")
	case len(c.Passphrase) > MaxPassphrase:
		return fmt.Errorf("a passphrase of more than %d bytes", MaxPassphrase)
	case c.Image != "" && c.NewImage != 0:
		return errors.New("a disk, and a new one")
	case c.Image != "" && len(c.Passphrase) == 0:
		return errors.New("a disk without its passphrase")
	case c.NewImage != 0 && c.NewImage < MinImage:
		return fmt.Errorf("a new disk of less than %d bytes", MinImage)
	}
	return nil
}

func (c Config) progress(step string) {
	if c.Progress != nil {
		c.Progress(step)
	}
}

// Made is a new TPM that nobody has started yet.
type Made struct {
	State  *State // a secret
	Sealed []byte // the passphrase, as the TPM sealed it
	EK     []byte // TPM2B_PUBLIC
	Agent  string // the id that a Keylime agent takes whose uuid is "hash_ek"
}

// Make makes a TPM and what is sealed to it. A new disk becomes the file image, which
// must not be there. The caller clears the State. Errors wrap [ErrConfig], [ErrDisk] or [ErrPassphrase], or
// exec.ErrNotFound for a program that is not installed.
func Make(ctx context.Context, cfg Config, image string) (*Made, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	passphrase := newPassphrase()
	if len(cfg.Passphrase) != 0 {
		clear(passphrase)
		passphrase = slices.Clone(cfg.Passphrase)
	}
	defer clear(passphrase)
	work, err := os.MkdirTemp(cfg.Work, "provision-")
	if err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	made, err := cfg.make(ctx, work, image, passphrase)
	return made, errors.Join(err, os.RemoveAll(work))
}

func newPassphrase() []byte {
	var b [32]byte
	defer clear(b[:])
	rand.Read(b[:])
	return base64.RawURLEncoding.AppendEncode(nil, b[:])
}

func (c Config) make(ctx context.Context, work, image string, passphrase []byte) (*Made, error) {
	disk, err := c.disk(ctx, work, image, passphrase)
	if err != nil {
		return nil, err
	}
	c.progress("making a TPM and its keys")
	t, err := manufacture(ctx, work, c.ECC)
	if err != nil {
		return nil, err
	}
	defer t.Close() // again, after Stop
	c.progress("sealing the passphrase to it")
	sealed, err := seal(t, passphrase, c.PCRs)
	if err != nil {
		return nil, fmt.Errorf("provision: TPM: %w", err)
	}
	ek, err := vtpm.ParsePublic(t.ek)
	if err != nil {
		return nil, fmt.Errorf("provision: TPM: %w", err)
	}
	agent, err := vtpm.AgentID(ek.Key)
	if err != nil {
		return nil, fmt.Errorf("provision: TPM: %w", err)
	}
	t.header = Header{headerVersion, c.Tenant, c.Instance, c.Purpose, ekDigest(t.ek), digest(sealed), disk}
	s, err := t.Stop()
	if err != nil {
		return nil, err
	}
	return &Made{s, sealed, t.ek, agent}, nil
}

// disk returns the header of the disk, if there is one, which the passphrase opens.
func (c Config) disk(ctx context.Context, work, image string, passphrase []byte) (*Disk, error) {
	path := c.Image
	switch {
	case c.NewImage != 0:
		c.progress("making an encrypted disk")
		path = image
		if err := formatLUKS(ctx, path, c.NewImage, passphrase); err != nil {
			return nil, err
		}
	case path == "":
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("provision: disk: %w", err)
	}
	defer f.Close()
	d, err := ReadDisk(f)
	if err != nil {
		return nil, err
	}
	c.progress("trying the passphrase of " + filepath.Base(path))
	header := &State{Header: Header{Disk: &d}}
	return &d, header.OpenDisk(ctx, path, work, "", passphrase)
}
