package state

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A slot is magic(4) ‖ u64 epoch ‖ u64 version ‖ salt(32) ‖ ciphertext ‖ tag(16),
// under a key and IV of its own: HKDF-SHA-256 of the key of the epoch with the
// salt. The AAD is the label, tenant, instance, purpose, epoch and version.
const (
	magic      = "tbs1"
	saltSize   = 32
	headerSize = 4 + 8 + 8 + saltSize
	label      = "teebroker/v1/state"

	// maxSlot bounds what is read of a slot.
	maxSlot = 64 << 20
)

// sealer seals the state of one epoch.
type sealer struct {
	tenant   string
	instance [16]byte
	purpose  string
	epoch    uint64
	key      []byte
}

var errSlot = errors.New("not the state of this epoch")

func (s sealer) aead(salt []byte) (cipher.AEAD, []byte, error) {
	okm, err := hkdf.Key(sha256.New, s.key, salt, label, 32+12)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(okm[:32])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, okm[32:], err
}

func (s sealer) aad(version uint64) []byte {
	var b []byte
	for _, x := range []string{label, s.tenant, string(s.instance[:]), s.purpose} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
	}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, s.epoch), version)
}

func (s sealer) seal(version uint64, value []byte) ([]byte, error) {
	if len(value) > maxSlot-headerSize-16 {
		return nil, errors.New("the state is too large")
	}
	b := make([]byte, headerSize, headerSize+len(value)+16)
	copy(b, magic)
	binary.BigEndian.PutUint64(b[4:], s.epoch)
	binary.BigEndian.PutUint64(b[12:], version)
	rand.Read(b[20:])
	aead, iv, err := s.aead(b[20:headerSize])
	if err != nil {
		return nil, err
	}
	return aead.Seal(b, iv, value, s.aad(version)), nil
}

// open returns the version and the state in b.
func (s sealer) open(b []byte) (uint64, []byte, error) {
	if len(b) < headerSize+16 || len(b) > maxSlot || string(b[:4]) != magic || binary.BigEndian.Uint64(b[4:]) != s.epoch {
		return 0, nil, errSlot
	}
	version := binary.BigEndian.Uint64(b[12:])
	aead, iv, err := s.aead(b[20:headerSize])
	if err != nil {
		return 0, nil, err
	}
	value, err := aead.Open(nil, iv, b[headerSize:], s.aad(version))
	if err != nil || version == 1<<64-1 {
		return 0, nil, errSlot
	}
	return version, value, nil
}

// Dir is [Slots] in two files of a directory, state-0 and state-1.
type Dir string

func (d Dir) path(slot int) string { return filepath.Join(string(d), fmt.Sprintf("state-%d", slot)) }

// Read implements [Slots].
func (d Dir) Read(slot int) ([]byte, error) {
	f, err := os.Open(d.path(slot))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSlot+1))
}

// Write implements [Slots]: a new file, flushed, takes the place of the old one.
func (d Dir) Write(slot int, b []byte) error {
	f, err := os.CreateTemp(string(d), "state-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), d.path(slot)); err != nil {
		return err
	}
	return d.sync()
}

// Erase implements [Slots].
func (d Dir) Erase(slot int) error {
	if err := os.Remove(d.path(slot)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return d.sync()
}

// sync flushes the names in the directory.
func (d Dir) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
