package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-sev-guest/verify/testdata"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// A base is evidence that a case begins with.
type base struct {
	name     string
	world    *world
	report   []byte // signed
	want     []byte // REPORT_DATA, or nil if that is zero, which nobody can ask for
	vek      *endorsement
	at       time.Time   // when it is valid
	instants []time.Time // other times worth a try
}

// lab is all that cases are made from.
type lab struct {
	genuine, simulated []*base
	note               string // why there is not more
}

// newLab makes roots and endorsements, which takes seconds, and finds the
// genuine evidence.
func newLab() (*lab, error) {
	l := &lab{}
	if err := l.simulate(); err != nil {
		return nil, err
	}
	w, err := newWorld("AMD", snp.AMD())
	if err != nil {
		return nil, err
	}
	if err := l.addGenuine(w, "gosev-milan-v2-vcek", testdata.AttestationBytes, testdata.VcekBytes); err != nil {
		return nil, err
	}
	return l, l.addVectors(w)
}

// describe writes which evidence was used.
func (l *lab) describe(w io.Writer) {
	var names []string
	for _, b := range l.genuine {
		names = append(names, b.name)
	}
	fmt.Fprintf(w, "Genuine: %s\n", strings.Join(names, ", "))
	if l.note != "" {
		fmt.Fprintln(w, l.note)
	}
	fmt.Fprintf(w, "Simulated: %d reports: Milan, Genoa, Bergamo; version 2 to 5; VCEK, VLEK; %d certificates, %d lists\n",
		len(l.simulated), len(l.simulated[0].world.pool), len(l.simulated[0].world.lists))
}

// simulate adds the simulated bases.
func (l *lab) simulate() error {
	amd := snptest.NewAMD()
	amd.Time = now
	w, err := newWorld("simulated", amd.Anchors(lines()...))
	if err != nil {
		return err
	}
	w.revocation, w.lists = true, listsOf(amd)
	for _, p := range []struct {
		name     string
		line     snp.Line
		versions []uint32
		cpu      func(*snptest.Chip)
	}{
		{"Milan", snp.Milan, []uint32{2, 3, 4, 5}, func(*snptest.Chip) {}},
		{"Genoa", snp.Genoa, []uint32{2, 3, 4, 5}, func(*snptest.Chip) {}},
		{"Bergamo", snp.Genoa, []uint32{3, 5}, func(c *snptest.Chip) { c.Model, c.Stepping = 0xA0, 2 }},
	} {
		c := amd.Chip(p.line)
		p.cpu(c)
		veks := pool(amd, p.line, c.Reported)
		if p.name != "Bergamo" { // whose endorsements are those of Genoa
			w.pool = append(w.pool, veks...)
		}
		for _, version := range p.versions {
			for _, vek := range veks[:2] {
				b, err := newSimulated(w, c, version, vek)
				if err != nil {
					return err
				}
				b.name = fmt.Sprintf("simulated %s, version %d, %v", p.name, version, vek.kind)
				l.simulated = append(l.simulated, b)
			}
		}
	}
	return nil
}

// newSimulated returns a report as c makes them, signed by the key of vek.
func newSimulated(w *world, c *snptest.Chip, version uint32, vek *endorsement) (*base, error) {
	want := derive("report data", 64)
	binding, err := evidence.NewBinding(want)
	if err != nil {
		return nil, err
	}
	report := c.Report(snptest.Guest{Version: version, Key: vek.kind, Measurement: [48]byte(derive("measurement", 48))}, binding).Raw
	copy(report[offsetReportID:], derive("report id", 32)) // another one in each process otherwise
	copy(report[offsetChipID:], vek.chip[:])
	sign(report, vek.key)
	b := &base{world: w, report: report, want: want, vek: vek, at: now()}
	for _, edge := range []time.Time{
		now().AddDate(0, 0, -1), now().AddDate(1, 0, 0), now().AddDate(7, 0, 0), // of VEKs
		now().AddDate(-5, 0, 0), now().AddDate(20, 0, 0), // of CAs
	} {
		b.instants = append(b.instants, edge.Add(-time.Second), edge, edge.Add(time.Second))
	}
	return b, nil
}

// addGenuine adds a genuine report with its VEK.
func (l *lab) addGenuine(w *world, name string, report, vek []byte) error {
	c, err := x509.ParseCertificate(vek)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b := &base{
		name: name, world: w, report: report, want: report[offsetReportData : offsetReportData+64],
		vek: &endorsement{name: name, der: vek}, at: c.NotBefore.AddDate(0, 0, 30),
		instants: []time.Time{c.NotBefore.Add(-time.Second), c.NotBefore, c.NotAfter, c.NotAfter.Add(time.Second)},
	}
	if bytes.Equal(b.want, make([]byte, 64)) {
		b.want = nil
	}
	w.pool = append(w.pool, b.vek)
	l.genuine = append(l.genuine, b)
	return nil
}

// addVectors adds the genuine reports of Milan and Genoa of the shared vectors,
// if there are any.
func (l *lab) addVectors(w *world) error {
	dir, err := vectors.Folder()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "snp", "manifest.json"))
	if errors.Is(err, fs.ErrNotExist) {
		l.note = "No shared vectors: TEEBROKER_VECTORS can name their folder"
		return nil
	}
	if err != nil {
		return err
	}
	var manifest struct {
		Vectors []struct {
			Name, Product string
			Report        string `json:"report_file"`
			VEK           string `json:"vek_file"`
		}
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return err
	}
	for _, v := range manifest.Vectors {
		if v.Report == "" || v.Product != "Milan" && v.Product != "Genoa" {
			continue
		}
		report, err := os.ReadFile(filepath.Join(dir, "snp", v.Report))
		if err != nil {
			return err
		}
		vek, err := os.ReadFile(filepath.Join(dir, "snp", v.VEK))
		if err != nil {
			return err
		}
		if bytes.Equal(report, testdata.AttestationBytes) {
			continue
		}
		if err := l.addGenuine(w, v.Name, report, vek); err != nil {
			return err
		}
	}
	return nil
}
