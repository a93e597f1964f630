package provision

import (
	"bytes"
	"testing"
)

func BenchmarkParseState(b *testing.B) {
	s := aState()
	s.tpm = make([]byte, 12<<10)
	value, err := s.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseState(value, theGuest()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadDisk(b *testing.B) {
	disk := header(metadata)
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadDisk(bytes.NewReader(disk)); err != nil {
			b.Fatal(err)
		}
	}
}
