package kds_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/snp/kds/kdstest"
	"github.com/teebroker/teebroker/snp/snptest"
)

// vendor is one simulated AMD for all tests: its RSA keys take seconds.
var vendor = sync.OnceValue(func() *snptest.AMD {
	amd := snptest.NewAMD()
	amd.Anchors(snp.Milan, snp.Turin)
	return amd
})

// source asks s, without limits that matter.
func source(t testing.TB, s *kdstest.Server) *kds.Source {
	t.Helper()
	src, err := kds.New(kds.Config{BaseURL: "https://kds.example", Client: s.Client(), Every: time.Nanosecond, Burst: 1 << 20, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// impatient asks s as often as by default, and waits for nothing.
func impatient(t testing.TB, s *kdstest.Server) *kds.Source {
	t.Helper()
	src, err := kds.New(kds.Config{BaseURL: "https://kds.example", Client: s.Client(), Patience: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func verifier(t testing.TB, src evidence.Source) *snp.Verifier {
	t.Helper()
	v, err := snp.NewVerifier(snp.Config{Anchors: vendor().Anchors(), Source: src})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var want = func() evidence.Binding {
	b, err := evidence.NewBinding([]byte("nonce"))
	if err != nil {
		panic(err)
	}
	return b
}()

// bare is evidence of a guest that sends no certificates, as SVSM guests do.
func bare(chip *snptest.Chip, g snptest.Guest) evidence.Evidence {
	ev := chip.Report(g, want)
	ev.Items = nil
	return ev
}

// Reports without certificates verify, of either form of name, with two requests.
func TestVerify(t *testing.T) {
	for _, line := range []snp.Line{snp.Milan, snp.Turin} {
		s := kdstest.New(vendor())
		v := verifier(t, source(t, s))
		chip := vendor().Chip(line)
		if _, err := v.Verify(t.Context(), bare(chip, snptest.Guest{}), want); err != nil {
			t.Errorf("%v: %v", line, err)
		}
		vcek := snp.VCEKName(chip.ID(), chip.Reported)
		if s.Requests(vcek) != 1 || s.Requests(snp.CRLName(line, snp.VCEK)) != 1 || s.Requests() != 2 {
			t.Errorf("%v: %d requests for the VCEK, %d in all", line, s.Requests(vcek), s.Requests())
		}
	}
}

// One chip has a certificate for each of its TCBs: firmware changes without a flag day.
func TestFirmwareChanges(t *testing.T) {
	s := kdstest.New(vendor())
	v := verifier(t, source(t, s))
	chip := vendor().Chip(snp.Turin)
	before := bare(chip, snptest.Guest{})
	for _, tcb := range []*snp.TCB{&chip.Current, &chip.Committed, &chip.Reported} {
		tcb.Microcode++
	}
	after := bare(chip, snptest.Guest{})
	for name, ev := range map[string]evidence.Evidence{"before": before, "after": after} {
		if _, err := v.Verify(t.Context(), ev, want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever the server is made to do, a report is refused for the right reason, or
// not at all.
func TestFaults(t *testing.T) {
	chip, other := vendor().Chip(snp.Turin), vendor().Chip(snp.Turin)
	vcek, list := snp.VCEKName(chip.ID(), chip.Reported), snp.CRLName(snp.Turin, snp.VCEK)
	for _, tt := range []struct {
		name  string
		do    func(*kdstest.Server)
		want  error
		asked int
	}{
		{"nothing", func(*kdstest.Server) {}, nil, 2},
		{"slow", func(s *kdstest.Server) { s.Break(kdstest.Fault{Delay: time.Millisecond}) }, nil, 2},
		{"down", func(s *kdstest.Server) { s.Break(kdstest.Fault{Down: true}) }, evidence.Unavailable, 1},
		{"lists down", func(s *kdstest.Server) { s.Break(kdstest.Fault{Down: true}, list) }, evidence.Unavailable, 2},
		{"truncated", func(s *kdstest.Server) { s.Break(kdstest.Fault{Truncated: true}) }, evidence.Unavailable, 1},
		{"a bomb", func(s *kdstest.Server) { s.Break(kdstest.Fault{Bomb: true}) }, evidence.Unavailable, 1},
		{"endless", func(s *kdstest.Server) { s.Break(kdstest.Fault{Endless: true}) }, evidence.Unavailable, 1},
		{"a page of HTML", func(s *kdstest.Server) { s.Publish(vcek, []byte("<html>")) }, evidence.Unavailable, 1},
		{"nothing in it", func(s *kdstest.Server) { s.Publish(vcek, nil) }, evidence.Unavailable, 1},
		{"another chip's", func(s *kdstest.Server) { s.Break(s.Instead(other), vcek) }, evidence.Unavailable, 1},
		{"a certificate for a list", func(s *kdstest.Server) { s.Break(s.Instead(chip), list) }, evidence.Unavailable, 2},
		{"a list of another line", func(s *kdstest.Server) {
			s.Publish(list, vendor().CRL(snp.Milan, snp.VCEK, time.Now()))
		}, evidence.Unavailable, 2},
		{"an old list", func(s *kdstest.Server) { s.PublishList(snp.Turin, time.Now().AddDate(0, 0, -31)) }, evidence.Stale, 2},
		{"a list of the future", func(s *kdstest.Server) { s.PublishList(snp.Turin, time.Now().AddDate(0, 0, 1)) }, evidence.Stale, 2},
		{"a list that revokes the ASK", func(s *kdstest.Server) {
			s.Publish(list, vendor().CRL(snp.Turin, snp.VCEK, time.Now(), big.NewInt(0x030001)))
		}, evidence.Revoked, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := kdstest.New(vendor())
			tt.do(s)
			_, err := verifier(t, source(t, s)).Verify(t.Context(), bare(chip, snptest.Guest{}), want)
			if (err == nil) != (tt.want == nil) || !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if n := s.Requests(); n != tt.asked {
				t.Errorf("%d requests, want %d", n, tt.asked)
			}
		})
	}
}

// A certificate of another TCB of the same chip is not what was asked for.
func TestAnotherTCB(t *testing.T) {
	s := kdstest.New(vendor())
	chip := vendor().Chip(snp.Milan)
	name := snp.VCEKName(chip.ID(), chip.Reported)
	other := chip.Reported
	other.Microcode++
	c, err := vendor().Source().Get(t.Context(), snp.VCEKName(chip.ID(), other))
	if err != nil {
		t.Fatal(err)
	}
	s.Publish(name, c[0].Data)
	if _, err := source(t, s).Get(t.Context(), name); !errors.Is(err, evidence.Unavailable) {
		t.Errorf("%v", err)
	}
}

// Chains are as AMD has them: in PEM, issuer first.
func TestChains(t *testing.T) {
	s := kdstest.New(vendor())
	src := source(t, s)
	a := vendor().Anchors(snp.Milan)[0]
	for kind, issuer := range map[snp.KeyKind][]byte{snp.VCEK: a.ASK, snp.VLEK: a.ASVK} {
		name := kds.ChainName(snp.Milan, kind)
		c, err := src.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		first, rest := pem.Decode(c[0].Data)
		second, _ := pem.Decode(rest)
		if !bytes.Equal(first.Bytes, issuer) || !bytes.Equal(second.Bytes, a.ARK) {
			t.Errorf("%v: another chain", kind)
		}
		one := pem.EncodeToMemory(first)
		ark := pem.EncodeToMemory(second)
		other := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vendor().Resign(snp.Turin, snptest.ARK, issuer, nil)})
		for says, wrong := range map[string][]byte{
			"one": one, "the other way round": append(bytes.Clone(ark), one...), "three": append(bytes.Clone(c[0].Data), ark...),
			"DER": issuer, "of another root": append(other, ark...),
		} {
			s.Publish(name, wrong)
			if _, err := source(t, s).Get(t.Context(), name); !errors.Is(err, evidence.Unavailable) {
				t.Errorf("%v: %s: %v", kind, says, err)
			}
		}
	}
	if kds.ChainName(0, snp.VCEK) != "" || kds.ChainName(snp.Milan, 0) != "" {
		t.Error("names of nothing")
	}
}

// Only names that package snp writes get into a request.
func TestNames(t *testing.T) {
	s := kdstest.New(vendor())
	src := source(t, s)
	chip := vendor().Chip(snp.Milan)
	good := snp.VCEKName(chip.ID(), chip.Reported)
	for _, name := range []string{
		"", "/", "https://other.example/", "/vcek/v1/Milan/", "/vcek/v1/Milan/crl?", "/vcek/v1/Milan/../crl", "/vcek/v1/Venice/crl",
		"//other.example" + good, "@other.example" + good, good + "&x=y", good + "#x", strings.ToUpper(good), strings.Replace(good, "blSPL=", "blSPL=0", 1),
		strings.Replace(good, "blSPL=", "blSPL=256", 1), strings.Replace(good, "Milan", "Turin", 1), strings.Replace(good, "?", "?fmcSPL=1&", 1),
		strings.Replace(good, "Milan/", "Milan/00", 1), good[:len("/vcek/v1/Milan/")] + strings.Repeat("0", 128) + good[len(good)-40:],
		snp.VLEKName(chip.Reported), "/sgx/certification/v4/rootcacrl", good + strings.Repeat("x", 1000),
	} {
		if _, err := src.Get(t.Context(), name); !errors.Is(err, evidence.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if n := s.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
	if _, err := src.Get(t.Context(), good); err != nil {
		t.Error(err)
	}
	if _, err := src.Get(t.Context(), snp.VCEKName(snp.ChipID{1}, chip.Reported)); !errors.Is(err, evidence.ErrNotFound) {
		t.Errorf("a chip that nobody made: %v", err)
	}
}

func FuzzName(f *testing.F) {
	tcb := snp.TCB{Line: snp.Turin, FMC: 1, Bootloader: 2, TEE: 3, Firmware: 4, Microcode: 5}
	f.Add(snp.VCEKName(snp.ChipID{1}, tcb))
	tcb.Line, tcb.FMC = snp.Milan, 0
	f.Add(snp.VCEKName(snp.ChipID{1}, tcb))
	f.Add(snp.CRLName(snp.Genoa, snp.VLEK))
	f.Add(kds.ChainName(snp.Genoa, snp.VLEK))
	asked := ""
	src, err := kds.New(kds.Config{BaseURL: "https://kds.example/behind", Attempts: 1, Every: time.Nanosecond, Burst: 1 << 30, Client: &http.Client{
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			asked = r.URL.String()
			return nil, errors.New("no network")
		}),
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		asked = ""
		_, err := src.Get(context.Background(), name)
		switch {
		case err == nil:
			t.Error("an answer")
		case asked != "" && asked != "https://kds.example/behind"+name:
			t.Errorf("%q: asked for %q", name, asked)
		case strings.Contains(err.Error(), "example"):
			t.Errorf("%v", err)
		}
	})
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestConfig(t *testing.T) {
	for field, cfg := range map[string]kds.Config{
		"BaseURL": {BaseURL: "kdsintf.amd.com"}, "Every": {Every: -1}, "Burst": {Burst: -1},
		"Peer": {PeerEvery: -1}, "Patience": {Patience: -1}, "Timeout": {Timeout: -1}, "Attempts": {Attempts: -1},
	} {
		if _, err := kds.New(cfg); err == nil || !strings.HasPrefix(err.Error(), "kds: Config."+field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := kds.New(kds.Config{}); err != nil {
		t.Error(err)
	}
}

// The zero Config asks AMD, at the pace at which AMD answers; lists don't wait for
// the names that strangers bring.
func TestDefaults(t *testing.T) {
	hosts := map[string]int{}
	var mu sync.Mutex
	src, err := kds.New(kds.Config{Patience: time.Nanosecond, Client: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		hosts[r.URL.Scheme+"://"+r.URL.Host]++
		return httptest.NewRecorder().Result(), nil
	})}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := src.Get(t.Context(), snp.VCEKName(snp.ChipID{1, byte(i)}, snp.TCB{Line: snp.Milan})); !errors.Is(err, evidence.Unavailable) {
			t.Error(err)
		}
	}
	if hosts[kds.AMD] != 10 || len(hosts) != 1 {
		t.Errorf("requests for VCEKs: %v", hosts)
	}
	if _, err := src.Get(t.Context(), snp.CRLName(snp.Milan, snp.VCEK)); !errors.Is(err, evidence.Unavailable) || hosts[kds.AMD] != 11 {
		t.Errorf("%v: requests: %v", err, hosts)
	}
}

// BenchmarkGet is one request, answered without network.
func BenchmarkGet(b *testing.B) {
	s := kdstest.New(vendor())
	chip := vendor().Chip(snp.Milan)
	name := snp.VCEKName(chip.ID(), chip.Reported)
	c, err := vendor().Source().Get(b.Context(), name)
	if err != nil {
		b.Fatal(err)
	}
	s.Publish(name, c[0].Data)
	src := source(b, s)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := src.Get(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
}
