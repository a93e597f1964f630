package provision

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// Disk is the header of a LUKS2 disk: all that is before its data, both copies of
// the header and the key slots. Who can change any of it can have the data read or
// written under a cipher and key of his choice; so every byte counts.
type Disk struct {
	Size   uint64            `json:"size"` // of the header, in bytes from the start
	Digest strictjson.Digest `json:"sha256"`
}

// Sizes, LUKS2 On-Disk Format, section 2: the binary header, the smallest and largest area
// of one header with its JSON, and the largest of all that comes before the data.
const (
	luksBinary    = 4096
	minLUKSArea   = 16 << 10
	maxLUKSArea   = 4 << 20
	maxLUKSHeader = 64 << 20 // cryptsetup's default has 16 MiB
)

const luksMagic = "LUKS\xba\xbe"

func (d Disk) check() error {
	if d.Size < 2*minLUKSArea || d.Size > maxLUKSHeader || d.Digest == (strictjson.Digest{}) {
		return errors.New("names no header of a disk")
	}
	return nil
}

// luksMetadata is what is looked at of a header's JSON. Sizes are decimal texts there.
type luksMetadata struct {
	Keyslots map[string]luksKeyslot `json:"keyslots"`
	Segments map[string]luksSegment `json:"segments"`
	Config   struct {
		Requirements *struct {
			Mandatory []string `json:"mandatory"`
		} `json:"requirements"`
	} `json:"config"`
}

type luksKeyslot struct {
	Area struct {
		Encryption string `json:"encryption"`
	} `json:"area"`
}

type luksSegment struct {
	Type       string `json:"type"`
	Offset     string `json:"offset"`
	Encryption string `json:"encryption"`
}

// ReadDisk returns the header of the LUKS2 disk r, for its owner to name. It has one
// encrypted segment, no key or data under a null cipher, and no re-encryption under way.
// Errors wrap [ErrDisk] unless r can't be read.
func ReadDisk(r io.ReaderAt) (Disk, error) {
	bin := make([]byte, luksBinary)
	if _, err := r.ReadAt(bin, 0); err != nil {
		return Disk{}, notLUKS(err)
	}
	area := binary.BigEndian.Uint64(bin[8:]) // of the header and its JSON
	if string(bin[:6]) != luksMagic || binary.BigEndian.Uint16(bin[6:]) != 2 || area < minLUKSArea || area > maxLUKSArea {
		return Disk{}, fmt.Errorf("%w: not LUKS2", ErrDisk)
	}
	text := make([]byte, area-luksBinary)
	if _, err := r.ReadAt(text, luksBinary); err != nil {
		return Disk{}, notLUKS(err)
	}
	size, err := luksSize(text)
	if err == nil && size < 2*area {
		err = errors.New("data within the header")
	}
	if err != nil {
		return Disk{}, fmt.Errorf("%w: %w", ErrDisk, err)
	}
	h := sha256.New()
	if _, err := io.CopyN(h, io.NewSectionReader(r, 0, int64(size)), int64(size)); err != nil {
		return Disk{}, notLUKS(err)
	}
	return Disk{size, strictjson.Digest(h.Sum(nil))}, nil
}

func notLUKS(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: cut short", ErrDisk)
	}
	return fmt.Errorf("provision: disk: %w", err)
}

// luksSize returns where the data of the disk begins, of which text is the JSON,
// filled up with zeros.
func luksSize(text []byte) (uint64, error) {
	text, rest, _ := bytes.Cut(text, []byte{0})
	if len(bytes.Trim(rest, "\x00")) != 0 {
		return 0, errors.New("something after the metadata")
	}
	var m luksMetadata
	if err := strictjson.UnmarshalKnown(text, &m); err != nil {
		return 0, fmt.Errorf("metadata: %w", err)
	}
	s, ok := m.Segments["0"]
	if len(m.Segments) != 1 || !ok || s.Type != "crypt" {
		return 0, errors.New("not one encrypted segment")
	}
	if r := m.Config.Requirements; r != nil && len(r.Mandatory) != 0 {
		return 0, errors.New("needs more than to be opened, such as re-encryption")
	}
	ciphers := []string{s.Encryption}
	for _, k := range m.Keyslots {
		ciphers = append(ciphers, k.Area.Encryption)
	}
	for _, c := range ciphers {
		if c == "" || strings.Contains(c, "null") {
			return 0, errors.New("a cipher that does not encrypt")
		}
	}
	if len(ciphers) < 2 {
		return 0, errors.New("no key slot")
	}
	size, err := strconv.ParseUint(s.Offset, 10, 64)
	if err != nil || size > maxLUKSHeader {
		return 0, errors.New("no header, or one too large")
	}
	return size, nil
}

// copyHeader copies the header of the disk in path, if it is d, to a file in dir, so that
// what was compared is what is used: nobody can exchange it in between if dir is in the
// memory of the guest. Nothing of it is parsed.
func copyHeader(ctx context.Context, path string, d Disk, dir string) (_ string, err error) {
	if err := d.check(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDisk, err)
	}
	from, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("provision: disk: %w", err)
	}
	defer from.Close()
	to, err := os.CreateTemp(dir, "header-")
	if err != nil {
		return "", fmt.Errorf("provision: disk: %w", err)
	}
	defer func() {
		if err = errors.Join(err, to.Close()); err != nil {
			os.Remove(to.Name())
		}
	}()
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(to, h), from, int64(d.Size)); err != nil {
		return "", notLUKS(err)
	}
	if strictjson.Digest(h.Sum(nil)) != d.Digest {
		return "", fmt.Errorf("%w: its header is another", ErrDisk)
	}
	return to.Name(), ctx.Err()
}
