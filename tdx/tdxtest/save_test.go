package tdxtest

import (
	"bytes"
	"encoding/pem"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

func binding(t testing.TB, b ...byte) evidence.Binding {
	t.Helper()
	got, err := evidence.NewBinding(b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What is loaded makes, at the same time, exactly what was saved would make.
func TestSaveAndLoad(t *testing.T) {
	saved := intel.MarshalPEM()
	second, err := LoadIntel(saved)
	if err != nil {
		t.Fatal(err)
	}
	second.Time = intel.Time
	if !bytes.Equal(second.MarshalPEM(), saved) || !reflect.DeepEqual(second.Anchors(), intel.Anchors()) {
		t.Error("another Intel")
	}
	if f := (tdx.FMSPC{1}); !reflect.DeepEqual(second.Set(f), intel.Set(f)) {
		t.Error("publishes something else")
	}
	for _, ca := range []tdx.CA{tdx.PlatformCA, tdx.ProcessorCA} {
		p := intel.Platform(ca)
		again, err := second.LoadPlatform(p.MarshalPEM())
		if err != nil {
			t.Fatal(err)
		}
		if data := binding(t, 1); !reflect.DeepEqual(again.Quote(TD{}, data), p.Quote(TD{}, data)) {
			t.Errorf("another platform of the %v CA", ca)
		}
		if other := intel.Platform(ca); other.PCK.PPID == p.PCK.PPID || other.Name() == p.Name() || bytes.Equal(other.PCK.Serial, p.PCK.Serial) {
			t.Error("two platforms of one name")
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	saved, platform := intel.MarshalPEM(), intel.Platform(tdx.PlatformCA).MarshalPEM()
	const key, cert = "-----BEGIN PRIVATE", "-----BEGIN CERT"
	first := bytes.Index(saved, []byte(cert))
	second := bytes.Index(saved[1:], []byte(key)) + 1
	last := bytes.LastIndex(saved, []byte(key))
	for name, bad := range map[string][]byte{
		"nothing":                nil,
		"text":                   []byte("x"),
		"platform":               platform,
		"key only":               saved[:first],
		"certificate first":      saved[first:],
		"root only":              saved[:second],
		"no root":                saved[second:],
		"no TCB signing":         saved[:last],
		"keys swapped":           append(bytes.Clone(saved[last:last+first]), saved[first:]...),
		"another Intel's root":   append(NewIntel().MarshalPEM()[:first], saved[first:]...),
		"something that follows": append(bytes.Clone(saved), "x"...),
	} {
		if _, err := LoadIntel(bad); err == nil {
			t.Errorf("Intel from %s: accepted", name)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":                nil,
		"keys":                   saved,
		"no CA":                  bytes.Replace(platform, []byte("CA: platform"), []byte("CA: none"), 1),
		"another type":           bytes.ReplaceAll(platform, []byte("TDX PLATFORM"), []byte("TDX PLATEAUX")),
		"half a secret":          pem.EncodeToMemory(&pem.Block{Type: typePlatform, Headers: map[string]string{"CA": "platform"}, Bytes: make([]byte, secretSize/2)}),
		"something that follows": append(bytes.Clone(platform), platform...),
	} {
		if _, err := intel.LoadPlatform(bad); err == nil {
			t.Errorf("platform from %s: accepted", name)
		}
	}
}

// What was saved and then damaged is an error, or the same again.
func FuzzLoad(f *testing.F) {
	f.Add(intel.MarshalPEM())
	f.Add(intel.Platform(tdx.ProcessorCA).MarshalPEM())
	f.Fuzz(func(t *testing.T, saved []byte) {
		if n, err := LoadIntel(saved); err == nil {
			if again, err := LoadIntel(n.MarshalPEM()); err != nil || !reflect.DeepEqual(n.Anchors(), again.Anchors()) {
				t.Errorf("another Intel: %v", err)
			}
		}
		if p, err := intel.LoadPlatform(saved); err == nil {
			if again, err := intel.LoadPlatform(p.MarshalPEM()); err != nil || !reflect.DeepEqual(p.PCK, again.PCK) {
				t.Errorf("another platform: %v", err)
			}
		}
	})
}

// What is published is the same for an hour, is new later, and is for the kind of
// platform that was asked for.
func TestSource(t *testing.T) {
	now := clock
	n := &Intel{Time: func() time.Time { return now }}
	get := func(name string) []evidence.Collateral {
		c, err := n.Source().Get(t.Context(), name)
		if err != nil || len(c) != 1 {
			t.Fatalf("%s: %d answers, %v", name, len(c), err)
		}
		return c
	}
	names := []string{
		tdx.QEIdentityName(), tdx.TCBInfoName(tdx.FMSPC{0xAB}),
		tdx.RootCRLName(), tdx.PCKCRLName(tdx.PlatformCA), tdx.PCKCRLName(tdx.ProcessorCA),
	}
	for _, name := range names {
		now = clock
		first := get(name)
		now = clock.Add(20 * time.Minute)
		if !reflect.DeepEqual(get(name), first) {
			t.Errorf("%s: another one in the same hour", name)
		}
		now = clock.Add(time.Hour)
		if reflect.DeepEqual(get(name), first) {
			t.Errorf("%s: the same an hour later", name)
		}
	}
	if info := get(tdx.TCBInfoName(tdx.FMSPC{0xAB}))[0]; !bytes.Contains(info.Data, []byte(`"fmspc":"AB0000000000"`)) {
		t.Error("TCB Info of another kind")
	}
	for _, name := range []string{"", "/", tdx.TCBInfoName(tdx.FMSPC{}) + "00", tdx.RootCRLName() + "?"} {
		if c, err := n.Source().Get(t.Context(), name); err == nil {
			t.Errorf("%q: %d answers", name, len(c))
		}
	}
}

// One Intel serves all tests of a binary at once. Run with -race.
func TestConcurrentUse(t *testing.T) {
	n := &Intel{Time: intel.Time}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			p := n.Platform(tdx.ProcessorCA)
			if _, err := tdx.ParseQuote(p.Quote(TD{}, binding(t, 1)).Raw); err != nil {
				t.Error(err)
			}
			if _, err := n.Source().Get(t.Context(), tdx.QEIdentityName()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestNoCAIsAMistake(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a platform of no CA")
		}
	}()
	intel.Platform(0)
}

func BenchmarkQuote(b *testing.B) {
	p, data := intel.Platform(tdx.PlatformCA), binding(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		p.Quote(TD{}, data)
	}
}
