package provision

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/swtpm"
)

func aState() *State {
	g := theGuest()
	return &State{Header{
		1, g.Tenant, g.Instance, g.Purpose, digest([]byte("ek")), digest([]byte("sealed")), &Disk{64 << 10, digest([]byte("header"))},
	}, bytes.Repeat([]byte{1}, swtpm.KeySize), []byte("a TPM")}
}

// built is a state with this header.
func built(h string, key, tpm []byte) []byte {
	b := []byte(stateMagic)
	for _, x := range [][]byte{[]byte(h), key, tpm} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
	}
	return b
}

func TestParseState(t *testing.T) {
	s := aState()
	b, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseState(b, theGuest())
	if err != nil || *got.Disk != *s.Disk || got.EK != s.EK || !bytes.Equal(got.key, s.key) || !bytes.Equal(got.tpm, s.tpm) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		if _, err := ParseState(b[:i], theGuest()); !errors.Is(err, ErrState) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := ParseState(append(b, 0), theGuest()); !errors.Is(err, ErrState) {
		t.Errorf("with more: %v", err)
	}
	_, h, _ := bytes.Cut(b[8:], nil)
	text := string(h[:binary.BigEndian.Uint32(b[4:])])
	key, tpm := s.key, s.tpm
	if !bytes.Equal(built(text, key, tpm), b) {
		t.Fatal("not what is built here")
	}
	for name, b := range map[string][]byte{
		"another version":     built(strings.Replace(text, `"v":1`, `"v":2`, 1), key, tpm),
		"an unknown member":   built(`{"x":1,`+text[1:], key, tpm),
		"a member twice":      built(`{"v":1,`+text[1:], key, tpm),
		"another instance":    built(strings.Replace(text, "0001", "0002", 1), key, tpm),
		"another tenant":      built(strings.Replace(text, "acme", "acne", 1), key, tpm),
		"another purpose":     built(strings.Replace(text, `"vtpm"`, `"disk"`, 1), key, tpm),
		"no EK":               built(strings.Replace(text, `"ek":`, `"eK":`, 1), key, tpm),
		"a small disk":        built(strings.Replace(text, `65536`, `1`, 1), key, tpm),
		"a large disk":        built(strings.Replace(text, `65536`, `1152921504606846976`, 1), key, tpm),
		"not JSON":            built("x", key, tpm),
		"a long header":       built(text+strings.Repeat(" ", maxHeader), key, tpm),
		"a short key":         built(text, key[1:], tpm),
		"no TPM":              built(text, key, nil),
		"a large TPM":         built(text, key, make([]byte, maxTPM+1)),
		"a length that lies":  append([]byte(stateMagic+"\xff\xff\xff\xff"), b[8:]...),
		"no magic":            b[1:],
		"nothing but a magic": []byte(stateMagic),
	} {
		if s, err := ParseState(b, theGuest()); !errors.Is(err, ErrState) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	s.key = nil
	if b, err := s.Marshal(); !errors.Is(err, ErrState) {
		t.Errorf("no key: %x, %v", b, err)
	}
	if got.Clear(); !bytes.Equal(got.key, make([]byte, swtpm.KeySize)) {
		t.Error("not cleared")
	}
}

func FuzzParseState(f *testing.F) {
	b, err := aState().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:20])
	f.Add(built("{}", nil, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseState(b, theGuest())
		if err != nil {
			return
		}
		again, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := ParseState(again, theGuest()); err != nil || same.EK != s.EK || !bytes.Equal(same.tpm, s.tpm) {
			t.Errorf("%x: %v", b, err)
		}
	})
}

func TestParseSealed(t *testing.T) {
	const good = `{"v":1,"bank":"sha256","pcrs":[0,7],"public":"AAA","private":"AAA"}`
	if s, err := parseSealed([]byte(good)); err != nil || len(s.PCRs) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	for name, r := range map[string][2]string{
		"version": {`"v":1`, `"v":0`}, "bank": {"sha256", "sha1"}, "order": {"0,7", "7,0"}, "twice": {"0,7", "7,7"},
		"large": {"0,7", "24"}, "negative": {"0,7", "-1"}, "public": {`"public":"AAA"`, `"public":""`},
		"private": {`,"private":"AAA"`, ``}, "more": {`"v":1`, `"v":1,"x":1`}, "long": {"AAA", strings.Repeat("A", maxSealed)},
	} {
		if s, err := parseSealed([]byte(strings.Replace(good, r[0], r[1], 1))); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func FuzzParseSealed(f *testing.F) {
	f.Add([]byte(`{"v":1,"bank":"sha256","pcrs":[0,7],"public":"AAA","private":"AAA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSealed(b); err == nil && len(s.PCRs) > pcrs {
			t.Errorf("%+v", s)
		}
	})
}
