package state

import (
	"bytes"
	"testing"
)

// What is on the disk is the host's: it opens as it was sealed, or not at all.
func FuzzOpen(f *testing.F) {
	s := sealer{"acme", [16]byte{1}, "vtpm", 3, bytes.Repeat([]byte{1}, 32)}
	sealed, err := s.seal(2, []byte("state"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		version, value, err := s.open(b)
		if err == nil && (version != 2 || string(value) != "state") { // whoever sealed it had the key
			t.Errorf("%x opens as %d, %q", b, version, value)
		}
	})
}

// Every part of where a state belongs counts, and every byte of it.
func TestSealer(t *testing.T) {
	s := sealer{"acme", [16]byte{1}, "vtpm", 3, bytes.Repeat([]byte{1}, 32)}
	b, err := s.seal(2, []byte("state"))
	if err != nil {
		t.Fatal(err)
	}
	if version, value, err := s.open(b); err != nil || version != 2 || string(value) != "state" {
		t.Fatalf("%d, %q, %v", version, value, err)
	}
	for name, edit := range map[string]func(*sealer){
		"tenant": func(s *sealer) { s.tenant = "other" }, "instance": func(s *sealer) { s.instance[0]++ },
		"purpose": func(s *sealer) { s.purpose = "disk" }, "epoch": func(s *sealer) { s.epoch++ },
		"key": func(s *sealer) { s.key = bytes.Repeat([]byte{2}, 32) },
	} {
		x := s
		edit(&x)
		if _, _, err := x.open(b); err == nil {
			t.Errorf("opens for another %s", name)
		}
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, _, err := s.open(c); err == nil {
			t.Errorf("opens with byte %d changed", i)
		}
		if _, _, err := s.open(b[:i]); err == nil {
			t.Errorf("opens when cut to %d bytes", i)
		}
	}
}
