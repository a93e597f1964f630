package collateral_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// anchorsFile returns the trust anchor of a CCA platform as cca.ParseAnchors reads it.
func anchorsFile(t *testing.T, p *ccatest.Platform) []byte {
	t.Helper()
	point, err := p.Key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]any{map[string]any{
		"instance-id": strictjson.Hex(p.Instance[:]), "implementation-id": strictjson.Hex(p.Implementation[:]),
		"pkey": map[string]any{"kty": "EC", "crv": "P-384", "x": strictjson.Base64(point[1:49]), "y": strictjson.Base64(point[49:])},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a site without a network has is one file and the key that signed it, and
// verifiers of all three TEEs need nothing else.
func TestBundleFeedsEveryVerifier(t *testing.T) {
	want, err := evidence.NewBinding([]byte("bound"))
	if err != nil {
		t.Fatal(err)
	}
	chip := amd().Chip(snp.Milan)
	report := chip.Report(snptest.Guest{}, want)
	report.Items = nil
	platform := intel().Platform(tdx.PlatformCA)
	quote := platform.Quote(tdxtest.TD{}, want)
	cpak := ccatest.NewPlatform()
	token := cpak.Token(ccatest.Realm{}, want)

	c := collateral.Contents{
		Sequence: 1, Created: now,
		Collateral: collateral.Fixed{},
		Files:      map[string][]byte{collateral.CCAAnchorsFile: anchorsFile(t, cpak)},
	}
	c.Collateral[snp.VCEKName(chip.ID(), chip.Reported)] = []evidence.Collateral{{Data: amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})}}
	c.Collateral[milanCRL] = []evidence.Collateral{amdList(now, 30)}
	for name, cs := range intel().Set(platform.PCK.FMSPC) {
		c.Collateral[name] = cs
	}
	raw, err := collateral.MakeBundle(siteKey(), c)
	if err != nil {
		t.Fatal(err)
	}
	b, err := collateral.OpenBundle(raw, &siteKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	at := now
	clock := func() time.Time { return at }
	vs := evidence.Verifiers{}
	if vs[snp.Format], err = snp.NewVerifier(snp.Config{Anchors: amd().Anchors(snp.Milan), Source: b, Time: clock}); err != nil {
		t.Fatal(err)
	}
	if vs[tdx.Format], err = tdx.NewVerifier(tdx.Config{Anchors: intel().Anchors(), Source: b, Time: clock}); err != nil {
		t.Fatal(err)
	}
	file, ok := b.File(collateral.CCAAnchorsFile)
	if !ok {
		t.Fatal("no anchors")
	}
	anchors, err := cca.ParseAnchors(file)
	if err != nil {
		t.Fatal(err)
	}
	if vs[cca.Format], err = cca.NewVerifier(cca.Config{Anchors: anchors, Time: clock}); err != nil {
		t.Fatal(err)
	}
	all := []evidence.Evidence{report, quote, token}
	for _, ev := range all {
		got, err := vs.Verify(t.Context(), ev, want)
		if err != nil || !got.Bound || len(got.Skipped) != 0 {
			t.Errorf("%s: %v, %v", ev.Format, got, err)
		}
	}
	at = now.AddDate(0, 0, 31) // and no longer than the collateral lasts
	for _, ev := range all[:2] {
		if _, err := vs.Verify(t.Context(), ev, want); !errors.Is(err, evidence.Stale) {
			t.Errorf("%s after a month: %v", ev.Format, err)
		}
	}
}

// A forecast says of each name when the last of it ends, in the same words for all
// Sources that have one.
func TestForecast(t *testing.T) {
	v := newVendor()
	names := everything(v, now)
	cache := cacheOf(t, v, &clock{now}, t.TempDir())
	for _, name := range names {
		gets(t, cache, name, v.has[name][0].Data)
	}
	vcekEnds := now.AddDate(100, 0, 0)
	for _, e := range cache.Forecast() {
		if e.Name == names[0] {
			vcekEnds = e.Ends
		}
	}
	want := map[string]struct {
		kind collateral.Kind
		ends time.Time
	}{
		names[0]: {collateral.VEK, vcekEnds},
		milanCRL: {collateral.CRL, now.AddDate(0, 0, 30)},
		infoName: {collateral.TCBInfo, now.AddDate(0, 0, 30)},
		qeName:   {collateral.QEIdentity, now.AddDate(0, 0, 30)},
		pckName:  {collateral.CRL, now.AddDate(0, 0, 30)},
		rootName: {collateral.CRL, now.AddDate(0, 0, 365)},
	}
	v.has[milanCRL] = append(v.has[milanCRL], amdList(now.AddDate(0, 0, -60), 5)) // an older one counts for nothing
	b, err := collateral.OpenBundle(bundle(t, collateral.Contents{Sequence: 1, Created: now, Collateral: v.has}), &siteKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for source, f := range map[string]collateral.Forecast{"cache": cache.Forecast(), "bundle": b.Forecast(), "fixed": v.has.Forecast()} {
		if len(f) != len(want) {
			t.Errorf("%s: %d names", source, len(f))
		}
		for i, e := range f {
			w := want[e.Name]
			if e.Kind != w.kind || !e.Ends.Equal(w.ends) || i > 0 && e.Ends.Before(f[i-1].Ends) {
				t.Errorf("%s: %+v, want %v, %v", source, e, w.kind, w.ends)
			}
		}
		soon := now.AddDate(0, 0, 30)
		if n := len(f.Before(soon)); n != 0 {
			t.Errorf("%s: %d end before what ends first", source, n)
		}
		if n := len(f.Before(soon.Add(time.Second))); n != 4 {
			t.Errorf("%s: %d end in 30 days", source, n)
		}
		if left := f[0].Left(now); left != 30*24*time.Hour {
			t.Errorf("%s: %v left", source, left)
		}
	}
	strange := collateral.Fixed{"x": one("nobody knows"), "none": nil}.Forecast()
	if len(strange) != 1 || strange[0].Kind != "" || !strange[0].Ends.IsZero() || len(strange.Before(now)) != 1 {
		t.Errorf("what can't be read: %+v", strange)
	}
}

// What can't be verified without its chain ends with it.
func TestForecastChain(t *testing.T) {
	q := intel().QEIdentity()
	q.NextUpdate = now.AddDate(100, 0, 0)
	f := collateral.Fixed{qeName: {intel().SignQEIdentity(q)}}.Forecast()
	if f[0].Ends.IsZero() || !f[0].Ends.Before(now.AddDate(50, 0, 0)) {
		t.Errorf("%+v", f)
	}
}

// The directory of a Cache can be read as any folder.
func TestDirOfCache(t *testing.T) {
	v, dir := newVendor(), t.TempDir()
	names := everything(v, now)
	cache := cacheOf(t, v, &clock{now}, dir)
	for _, name := range names {
		gets(t, cache, name, v.has[name][0].Data)
	}
	files := open(t, dir)
	for _, name := range names {
		if got := data(t, files, name); len(got) != 1 || string(got[0]) != string(v.has[name][0].Data) {
			t.Errorf("%s: %d candidates", name, len(got))
		}
	}
	for _, name := range []string{infoName, qeName, pckName} { // with their chains
		if got, err := files.Get(t.Context(), name); err != nil || len(got[0].Issuer) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(files.Forecast()); n != len(names)+1 || len(files.Fixed()) != n { // a list of AMD has two
		t.Errorf("%d names", n)
	}
}
