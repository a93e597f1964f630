package snptest

import (
	"bytes"
	"encoding/pem"
	"reflect"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/snp"
)

func TestSaveAndLoad(t *testing.T) {
	chip := amd.Chip(snp.Turin)
	second, err := LoadAMD(amd.MarshalPEM())
	if err != nil {
		t.Fatal(err)
	}
	second.Time = amd.Time
	again, err := second.LoadChip(chip.MarshalPEM())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(amd.Anchors(), second.Anchors()) || len(second.Anchors()) == 0 {
		t.Error("other anchors")
	}
	if chip.ID() != again.ID() || !chip.Key().Equal(again.Key()) || chip.Reported != again.Reported {
		t.Error("another chip")
	}
	ask := parse(t, amd.Anchors(snp.Turin)[0].ASK)
	if err := parse(t, again.Entries(snp.VCEK)[0].Data).CheckSignatureFrom(ask); err != nil {
		t.Error(err)
	}
	if _, err := second.Source().Get(t.Context(), snp.VCEKName(chip.ID(), chip.Reported)); err != nil {
		t.Errorf("the loaded chip has no VCEK: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	saved, chip := amd.MarshalPEM(), amd.Chip(snp.Milan).MarshalPEM()
	key, cert := bytes.Index(saved, []byte("-----BEGIN CERT")), bytes.Index(saved[1:], []byte("-----BEGIN PRIVATE"))+1
	second := bytes.Index(saved[cert:], []byte("-----BEGIN CERT")) + cert
	for name, bad := range map[string][]byte{
		"text":                   []byte("x"),
		"chip":                   chip,
		"key only":               saved[:key],
		"certificate first":      saved[key:],
		"ARK only":               saved[:cert],
		"no ARK":                 saved[cert:],
		"key of another":         append(bytes.Clone(saved[cert:second]), saved[key:]...),
		"something that follows": append(bytes.Clone(saved), "x"...),
	} {
		if _, err := LoadAMD(bad); err == nil {
			t.Errorf("AMD from %s: accepted", name)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":                nil,
		"keys":                   saved,
		"no Line":                bytes.Replace(chip, []byte("Line: Milan"), []byte("Line: none"), 1),
		"another type":           bytes.ReplaceAll(chip, []byte("SNP CHIP"), []byte("SNP SHIP")),
		"half a secret":          pem.EncodeToMemory(&pem.Block{Type: typeChip, Headers: map[string]string{"Line": "Milan"}, Bytes: make([]byte, secretSize/2)}),
		"something that follows": append(bytes.Clone(chip), chip...),
	} {
		if _, err := amd.LoadChip(bad); err == nil {
			t.Errorf("chip from %s: accepted", name)
		}
	}
	if a, err := LoadAMD(nil); err != nil || len(a.Anchors()) != 0 {
		t.Errorf("an AMD of which no Line was used: %v", err)
	}
}

// What was saved and then damaged is an error, or the same again.
func FuzzLoad(f *testing.F) {
	amd.Anchors(snp.Milan)
	f.Add(amd.MarshalPEM())
	f.Add(amd.Chip(snp.Milan).MarshalPEM())
	f.Fuzz(func(t *testing.T, saved []byte) {
		if a, err := LoadAMD(saved); err == nil {
			if b, err := LoadAMD(a.MarshalPEM()); err != nil || !reflect.DeepEqual(a.Anchors(), b.Anchors()) {
				t.Errorf("another AMD: %v", err)
			}
		}
		if c, err := amd.LoadChip(saved); err == nil {
			if d, err := amd.LoadChip(c.MarshalPEM()); err != nil || c.ID() != d.ID() {
				t.Errorf("another chip: %v", err)
			}
		}
	})
}

// One AMD serves all tests of a binary at once. Run with -race.
func TestConcurrentUse(t *testing.T) {
	a := &AMD{Time: amd.Time}
	shared := a.Chip(snp.Milan)
	data := binding(t, 1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			chip := a.Chip(snp.Milan)
			for _, c := range []*Chip{chip, shared} {
				ev := c.Report(Guest{Key: snp.VLEK}, data)
				if ev = c.Report(Guest{}, data); !signs(c.Key(), ev.Raw) {
					t.Error("bad signature")
				}
				for _, name := range []string{snp.VCEKName(c.ID(), c.Reported), snp.CRLName(snp.Milan, snp.VCEK)} {
					if _, err := a.Source().Get(t.Context(), name); err != nil {
						t.Error(err)
					}
				}
			}
			if got := a.Anchors(); len(got) != 1 {
				t.Errorf("%d anchors", len(got))
			}
			a.MarshalPEM()
		})
	}
	wg.Wait()
}

func BenchmarkReport(b *testing.B) {
	chip := amd.Chip(snp.Turin)
	data := binding(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		chip.Report(Guest{}, data)
	}
}

// What it costs to use a Line for the first time.
func BenchmarkFirstUse(b *testing.B) {
	for b.Loop() {
		NewAMD().Anchors(snp.Turin)
	}
}
