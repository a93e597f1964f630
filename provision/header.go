package provision

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/internal/swtpm"
)

// Guest is whose TPM it is: a tenant, an instance, and the purpose whose key opens
// its state.
type Guest struct {
	Tenant   string
	Instance [16]byte
	Purpose  string
}

func (g Guest) check() error {
	if !names.Tenant(g.Tenant) || g.Instance == [16]byte{} || !names.Registrable(g.Purpose) {
		return errors.New("not a tenant, instance and purpose")
	}
	return nil
}

// Header names what a state opens. It is sealed together with the state, by a
// package (guest/state) that authenticates tenant, instance, purpose and epoch along
// with both: nobody can change a bit of it, put it before another state, or show it
// to another guest.
type Header struct {
	Version    int               `json:"v"` // 1
	Tenant     string            `json:"tenant"`
	Instance   strictjson.UUID   `json:"instance"`
	Purpose    string            `json:"purpose"`
	EK         strictjson.Digest `json:"ek"`             // SHA-256 of the TPMT_PUBLIC of the EK
	Passphrase strictjson.Digest `json:"passphrase"`     // SHA-256 of the sealed passphrase, as in its file
	Disk       *Disk             `json:"disk,omitempty"` // that the passphrase opens, if there was one
}

const headerVersion = 1

// Guest returns whose state it is.
func (h Header) Guest() Guest { return Guest{h.Tenant, h.Instance, h.Purpose} }

func (h Header) check() error {
	switch {
	case h.Version != headerVersion:
		return fmt.Errorf("version %d", h.Version)
	case h.Guest().check() != nil:
		return h.Guest().check()
	case h.EK == (strictjson.Digest{}) || h.Passphrase == (strictjson.Digest{}):
		return errors.New("names no EK or no passphrase")
	case h.Disk != nil:
		return h.Disk.check()
	}
	return nil
}

// State is the state of a TPM, and what it opens. It is a secret, until Clear.
type State struct {
	Header
	key []byte // of the file
	tpm []byte // the file that swtpm keeps, which is encrypted with key
}

// A state is marshalled as magic(4) ‖ LP(header, JSON) ‖ LP(key) ‖ LP(file).
const (
	stateMagic = "tbv1"
	maxHeader  = 4 << 10
	maxTPM     = 1 << 20 // of the file; one of swtpm has some 10 KiB
	maxState   = len(stateMagic) + 3*4 + maxHeader + swtpm.KeySize + maxTPM
)

// Marshal returns the state as it is sealed. It is a secret: the caller clears it.
func (s *State) Marshal() ([]byte, error) {
	h, err := json.Marshal(s.Header)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	b := make([]byte, 0, len(stateMagic)+12+len(h)+len(s.key)+len(s.tpm)) // no copy of the key is left behind
	b = append(b, stateMagic...)
	for _, x := range [][]byte{h, s.key, s.tpm} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
	}
	return b, nil
}

func (s *State) check() error {
	if len(s.key) != swtpm.KeySize || len(s.tpm) == 0 || len(s.tpm) > maxTPM {
		return errors.New("no TPM, or one too large")
	}
	return s.Header.check()
}

// ParseState parses what Marshal returned, strictly, if it is the state of g. It copies
// what it keeps, which the caller clears. Errors wrap [ErrState].
func ParseState(b []byte, g Guest) (*State, error) {
	rest, ok := bytes.CutPrefix(b, []byte(stateMagic))
	if !ok || len(b) > maxState {
		return nil, fmt.Errorf("%w: not one, or too large", ErrState)
	}
	var parts [3][]byte
	for i := range parts {
		if len(rest) < 4 {
			return nil, fmt.Errorf("%w: cut short", ErrState)
		}
		n := binary.BigEndian.Uint32(rest)
		if rest = rest[4:]; uint64(n) > uint64(len(rest)) {
			return nil, fmt.Errorf("%w: cut short", ErrState)
		}
		parts[i], rest = rest[:n], rest[n:]
	}
	if len(rest) != 0 || len(parts[0]) > maxHeader {
		return nil, fmt.Errorf("%w: lengths", ErrState)
	}
	s := &State{key: bytes.Clone(parts[1]), tpm: bytes.Clone(parts[2])}
	err := strictjson.Unmarshal(parts[0], &s.Header)
	if err == nil {
		err = s.check()
	}
	if err == nil && s.Guest() != g {
		err = errors.New("it is of another guest")
	}
	if err != nil {
		s.Clear()
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	return s, nil
}

// Clear clears what is secret in s.
func (s *State) Clear() {
	clear(s.key)
	clear(s.tpm)
}
