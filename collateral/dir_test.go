package collateral_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// amd is the vendor of all tests: its keys take a while.
var amd = sync.OnceValue(func() *snptest.AMD {
	a := snptest.NewAMD()
	a.Time = func() time.Time { return now }
	return a
})

// write writes files, by slash-separated path, into a new folder.
func write(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, path string) *collateral.Files {
	t.Helper()
	f, err := collateral.Dir(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// data returns what s has under name.
func data(t testing.TB, s evidence.Source, name string) (all [][]byte) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if err != nil && !errors.Is(err, evidence.ErrNotFound) {
		t.Fatal(err)
	}
	for _, c := range got {
		all = append(all, c.Data)
	}
	return all
}

func inPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Files are sorted by what they hold, wherever they are and whatever they are called.
func TestDir(t *testing.T) {
	chip := amd().Chip(snp.Milan)
	vcek := snp.VCEKName(chip.ID(), chip.Reported)
	cert := amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})
	vlek := amd().IssueVEK(chip.Key(), snptest.VEK{Kind: snp.VLEK, TCB: chip.Reported, CSP: "CN=cloud"})
	crl := amd().CRL(snp.Milan, snp.VCEK, now)
	crls := []string{snp.CRLName(snp.Milan, snp.VCEK), snp.CRLName(snp.Milan, snp.VLEK)}
	ark := amd().Anchors(snp.Milan)[0].ARK
	key := inPEM("PRIVATE KEY", []byte("secret"))
	listInTable := chip.Entries(snp.VCEK)
	listInTable[0].Data = crl
	listAside := slices.Concat(chip.Entries(snp.VCEK)[1:], []snptest.Entry{{GUID: [16]byte{1}, Data: inPEM("X509 CRL", crl)}})
	twice := slices.Concat(listAside, listAside[len(listAside)-1:])
	for _, tt := range []struct {
		name string
		file []byte
		want []string
	}{
		{"VCEK", cert, []string{vcek}},
		{"VCEK in PEM", inPEM("CERTIFICATE", cert), []string{vcek}},
		{"VLEK", vlek, []string{snp.VLEKName(chip.Reported)}},
		{"list", crl, crls},
		{"list in PEM", inPEM("X509 CRL", crl), crls},
		{"PEM of everything", slices.Concat([]byte("a comment\n"), inPEM("CERTIFICATE", ark), inPEM("CERTIFICATE", cert), key, inPEM("X509 CRL", crl), inPEM("CERTIFICATE", cert)), append([]string{vcek}, crls...)},
		{"table", chip.Certificates(), []string{vcek}},
		{"table in PEM", snptest.CertTable(chip.Entries(snp.VCEK)[0].PEM()), []string{vcek}},
		{"table with a list for a VCEK", snptest.CertTable(listInTable...), nil},
		{"table with a list beside", snptest.CertTable(slices.Concat(listAside, chip.Entries(snp.VCEK)[:1])...), []string{vcek}},
		{"table with nothing but a list", snptest.CertTable(listAside...), nil},
		{"broken table with a list", snptest.CertTable(twice...), nil},
		{"root", ark, nil},
		{"list of an ASK", amd().IssueCRL(snptest.CRL{Line: snp.Milan, By: snptest.ASK}), nil},
		{"list called a certificate", inPEM("CERTIFICATE", crl), crls},
		{"private key", key, nil},
		{"certificate with a tail", append(bytes.Clone(cert), 0), nil},
		{"half a certificate", cert[:len(cert)/2], nil},
		{"text", []byte("hello"), nil},
		{"empty", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			slices.Sort(tt.want)
			for _, name := range []string{"file", "a/b/c.txt"} {
				dir := write(t, map[string][]byte{name: tt.file})
				path := filepath.Join(dir, filepath.FromSlash(name))
				for _, asked := range []string{dir, path} {
					f, met := open(t, asked), 0
					for got, names := range f.All() {
						if met++; got != path || !slices.Equal(names, tt.want) {
							t.Errorf("%s answers to %q", got, names)
						}
					}
					if met != 1 {
						t.Errorf("%d files", met)
					}
					for _, name := range append(crls, vcek, snp.VLEKName(chip.Reported)) {
						if got := data(t, f, name); len(got) != 1 && slices.Contains(tt.want, name) || len(got) != 0 && !slices.Contains(tt.want, name) {
							t.Errorf("%s: %d candidates", name, len(got))
						}
					}
				}
			}
		})
	}
}

// What was issued last is the first candidate, and the same file twice is one.
func TestDirNewestFirst(t *testing.T) {
	chip := amd().Chip(snp.Milan)
	cert := func(before time.Time) []byte {
		return amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID(), Before: before})
	}
	old, mid, new := cert(now.AddDate(-2, 0, 0)), cert(now.AddDate(-1, 0, 0)), cert(now)
	crlOld, crlNew := amd().CRL(snp.Milan, snp.VCEK, now.AddDate(0, -1, 0)), amd().CRL(snp.Milan, snp.VLEK, now)
	f := open(t, write(t, map[string][]byte{
		"1": mid, "2": inPEM("CERTIFICATE", new), "3": old, "4": new, "5": crlOld, "6": crlNew, "7": crlOld,
	}))
	for name, want := range map[string][][]byte{
		snp.VCEKName(chip.ID(), chip.Reported): {new, mid, old},
		snp.CRLName(snp.Milan, snp.VCEK):       {crlNew, crlOld},
		snp.CRLName(snp.Milan, snp.VLEK):       {crlNew, crlOld},
	} {
		if got := data(t, f, name); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: %d candidates in another order", name, len(got))
		}
	}
}

// A Verifier finds in a folder all that it needs, and what is not in it is not
// made up for.
func TestDirVerifier(t *testing.T) {
	chip := amd().Chip(snp.Milan)
	want, err := evidence.NewBinding([]byte("bound"))
	if err != nil {
		t.Fatal(err)
	}
	ev := chip.Report(snptest.Guest{}, want)
	ev.Items = nil
	cert := amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})
	ask, err := x509.ParseCertificate(amd().Anchors(snp.Milan)[0].ASK)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		files map[string][]byte
		want  error
	}{
		{"all", map[string][]byte{"a": cert, "b": amd().CRL(snp.Milan, snp.VCEK, now)}, nil},
		{"table", map[string][]byte{"a": chip.Certificates(), "b": amd().CRL(snp.Milan, snp.VCEK, now)}, nil},
		{"no list", map[string][]byte{"a": cert}, evidence.Unavailable},
		{"no VCEK", map[string][]byte{"b": amd().CRL(snp.Milan, snp.VCEK, now)}, evidence.Unavailable},
		{"old list", map[string][]byte{"a": cert, "b": amd().CRL(snp.Milan, snp.VCEK, now.AddDate(-1, 0, 0))}, evidence.Stale},
		{"ASK on the list", map[string][]byte{"a": cert, "b": amd().CRL(snp.Milan, snp.VCEK, now, ask.SerialNumber)}, evidence.Revoked},
	} {
		v, err := snp.NewVerifier(snp.Config{Anchors: amd().Anchors(snp.Milan), Source: open(t, write(t, tt.files)), Time: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), ev, want); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// The folder of genuine evidence answers for each VCEK in it.
func TestDirVectors(t *testing.T) {
	var manifest struct {
		Vectors []struct {
			Name      string
			Signer    string
			NotBefore time.Time `json:"cert_not_before"`
			Report    string    `json:"report_file"`
			Chain     string    `json:"chain_verified_to_amd_root"`
		}
	}
	vectors.JSON(t, "snp/manifest.json", &manifest)
	f := open(t, vectors.Path(t, "snp"))
	var at time.Time
	v, err := snp.NewVerifier(snp.Config{Anchors: snp.AMD(), Source: f, SkipRevocationUnsafe: true, Time: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, x := range manifest.Vectors {
		if x.Report == "" || x.Chain != "yes" {
			continue
		}
		at = x.NotBefore.AddDate(0, 1, 0)
		ev := evidence.Evidence{Format: snp.Format, Raw: vectors.Read(t, "snp/"+x.Report)}
		if _, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe()); err != nil {
			t.Errorf("%s: %v", x.Name, err)
			continue
		}
		found++
	}
	if found < 8 {
		t.Errorf("%d reports", found)
	}
	for path, names := range f.All() {
		name, kind, _ := strings.Cut(filepath.Base(path), ".")
		want := kind == "vek.der" || kind == "auxblob.bin"
		if name == "trustee-vcek-invalid-new" {
			want = false // AMD puts no OCTET STRING around hwID
		}
		if want != (len(names) == 1) {
			t.Errorf("%s answers to %q", path, names)
		}
	}
}

func TestDirLinks(t *testing.T) {
	crl := amd().CRL(snp.Milan, snp.VCEK, now)
	name := snp.CRLName(snp.Milan, snp.VCEK)
	real := write(t, map[string][]byte{"crl": crl})
	for link, target := range map[string]string{"folder": real, "file": filepath.Join(real, "crl")} {
		dir := t.TempDir()
		path := filepath.Join(dir, link)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if len(data(t, open(t, path), name)) != 1 {
			t.Errorf("a link to a %s that was asked for is not followed", link)
		}
		if len(data(t, open(t, dir), name)) != 0 {
			t.Errorf("a link to a %s in a folder is followed", link)
		}
	}
}

func TestDirRefuses(t *testing.T) {
	big := make([]byte, 4<<20+1)
	crl := amd().CRL(snp.Milan, snp.VCEK, now)
	dir := write(t, map[string][]byte{"large": append(inPEM("X509 CRL", crl), bytes.Repeat([]byte("\n"), len(big))...), "crl": crl})
	f := open(t, dir)
	if len(data(t, f, snp.CRLName(snp.Milan, snp.VCEK))) != 1 {
		t.Error("a large file hides others")
	}
	for path, names := range f.All() {
		if (filepath.Base(path) == "large") != (len(names) == 0) {
			t.Errorf("%s answers to %q", path, names)
		}
	}
	many, total := map[string][]byte{}, map[string][]byte{}
	for i := range 1 << 14 { // and the folder itself
		many[fmt.Sprint(i)] = nil
	}
	for i := range 17 {
		total[fmt.Sprint(i)] = big[:4<<20]
	}
	deep := strings.Repeat("d/", 8) + "f"
	if _, err := collateral.Dir(write(t, map[string][]byte{deep: nil})); err != nil {
		t.Errorf("8 folders: %v", err)
	}
	for name, path := range map[string]string{
		"nothing":          filepath.Join(dir, "none"),
		"empty path":       "",
		"a large file":     filepath.Join(dir, "large"),
		"a device":         os.DevNull,
		"many files":       write(t, many),
		"many bytes":       write(t, total),
		"deep folders":     write(t, map[string][]byte{"d/" + deep: nil}),
		"a file's insides": filepath.Join(dir, "crl", "x"),
	} {
		if f, err := collateral.Dir(path); err == nil || f != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// All stops when it is told to, and its names are the caller's.
func TestAll(t *testing.T) {
	f := open(t, write(t, map[string][]byte{"1": amd().CRL(snp.Milan, snp.VCEK, now), "2": nil}))
	for _, names := range f.All() {
		names[0] = "changed"
		break
	}
	for path, names := range f.All() {
		if filepath.Base(path) == "1" && names[0] == "changed" {
			t.Error("names are shared")
		}
	}
	var zero collateral.Files
	if _, err := zero.Get(context.Background(), "a"); !errors.Is(err, evidence.ErrNotFound) {
		t.Errorf("zero Files: %v", err)
	}
}
