package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/internal/swtpm"
)

// Where the keys of a TPM are: TCG Provisioning Guidance, section 7.8.
const (
	srkHandle tpm2.TPMHandle = 0x81000001 // ECC P-256
	ekHandle  tpm2.TPMHandle = 0x81010001
)

// TPM is a swtpm that runs. It implements transport.TPM of go-tpm, through Send, and
// is not safe for concurrent use otherwise.
type TPM struct {
	process *swtpm.Process
	dir     string
	header  Header
	key     []byte
	ek      []byte // TPM2B_PUBLIC
}

var _ transport.TPM = (*TPM)(nil)

// boot starts a TPM on file, or a new one if that is empty. Its directory is made in
// work, and what is in it is encrypted with key.
func boot(ctx context.Context, work string, key, file []byte) (_ *TPM, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(work, "tpm-") // with mode 0700
	if err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	t := &TPM{dir: dir, key: bytes.Clone(key)}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if len(file) != 0 {
		if err := os.WriteFile(filepath.Join(dir, swtpm.StateFile), file, 0o600); err != nil {
			return nil, fmt.Errorf("provision: %w", err)
		}
	}
	if t.process, err = swtpm.Start(dir, t.key); err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	return t, nil
}

// manufacture makes a new TPM with an endorsement key, of ECC P-256 or RSA 2048, and a
// storage root key, both persistent.
func manufacture(ctx context.Context, work string, ecc bool) (*TPM, error) {
	key := make([]byte, swtpm.KeySize)
	defer clear(key)
	rand.Read(key)
	t, err := boot(ctx, work, key, nil)
	if err != nil {
		return nil, err
	}
	ek := tpm2.RSAEKTemplate
	if ecc {
		ek = tpm2.ECCEKTemplate
	}
	_, err = t.persist(tpm2.TPMRHOwner, tpm2.ECCSRKTemplate, srkHandle)
	if err == nil {
		t.ek, err = t.persist(tpm2.TPMRHEndorsement, ek, ekHandle)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("provision: TPM: %w", err), t.Close())
	}
	return t, nil
}

// persist makes a primary key and returns its TPM2B_PUBLIC.
func (t *TPM) persist(hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic, at tpm2.TPMHandle) ([]byte, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(t)
	if err != nil {
		return nil, err
	}
	_, err = tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name},
		PersistentHandle: tpm2.TPMIDHPersistent(at),
	}.Execute(t)
	if err == nil {
		_, err = tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(t)
	}
	return tpm2.Marshal(made.OutPublic), err
}

// handle returns a persistent object, for use without a password.
func handle(t transport.TPM, h tpm2.TPMHandle) (tpm2.AuthHandle, error) {
	public, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(t)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("provision: TPM: %w", err)
	}
	return tpm2.AuthHandle{Handle: h, Name: public.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}

// Start starts the TPM of s, whose EK has to be the one that s names. Its
// files are in a directory of work, encrypted; work is in the memory of the
// guest, such as /dev/shm, since the host could exchange them otherwise. The caller ends the TPM with Stop or Close.
// If there is no swtpm, the error wraps exec.ErrNotFound.
func (s *State) Start(ctx context.Context, work string) (*TPM, error) {
	t, err := boot(ctx, work, s.key, s.tpm)
	if err != nil {
		return nil, err
	}
	t.header = s.Header
	ek, err := tpm2.ReadPublic{ObjectHandle: ekHandle}.Execute(t)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: no EK: %w", ErrState, err), t.Close())
	}
	t.ek = tpm2.Marshal(ek.OutPublic)
	if ekDigest(t.ek) != s.EK {
		return nil, errors.Join(fmt.Errorf("%w: its EK is another", ErrState), t.Close())
	}
	return t, nil
}

// Send implements transport.TPM.
func (t *TPM) Send(command []byte) ([]byte, error) { return t.process.Send(command) }

// EK returns the TPM2B_PUBLIC of the endorsement key.
func (t *TPM) EK() []byte { return bytes.Clone(t.ek) }

// ekDigest returns SHA-256 of the TPMT_PUBLIC in a TPM2B_PUBLIC.
func ekDigest(public []byte) strictjson.Digest { return sha256.Sum256(public[2:]) }

// Unseal returns the passphrase in sealed, the content of [SealedFile], which the state
// of t names. It is the caller's to clear. Errors wrap [ErrSealed], and [ErrPCRs] if
// what was measured since the start is not what the owner sealed for.
func (t *TPM) Unseal(sealed []byte) ([]byte, error) {
	sum := sha256.Sum256(sealed)
	if subtle.ConstantTimeCompare(sum[:], t.header.Passphrase[:]) != 1 {
		return nil, fmt.Errorf("%w: it is another", ErrSealed)
	}
	return unseal(t, sealed)
}

// Stop ends t in order and returns its state as it is then, which the caller saves and clears: the counters
// of a TPM whose state is not saved go back. t is closed, whatever Stop returns.
func (t *TPM) Stop() (*State, error) {
	_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(t)
	if err == nil {
		err = t.process.Close()
	}
	var file []byte
	if err == nil {
		file, err = t.file()
	}
	s := &State{t.header, bytes.Clone(t.key), file}
	if err := errors.Join(err, t.Close()); err != nil {
		s.Clear()
		return nil, fmt.Errorf("provision: TPM: %w", err)
	}
	return s, nil
}

func (t *TPM) file() ([]byte, error) {
	f, err := os.Open(filepath.Join(t.dir, swtpm.StateFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTPM+1))
	if err == nil && (len(b) == 0 || len(b) > maxTPM) {
		err = fmt.Errorf("a state of %d bytes", len(b))
	}
	return b, err
}

// Close ends t and removes its files: what it did is lost. It may be called again.
func (t *TPM) Close() error {
	var err error
	if t.process != nil {
		err = t.process.Close()
	}
	clear(t.key)
	return errors.Join(err, os.RemoveAll(t.dir))
}
