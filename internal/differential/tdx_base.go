package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	gtgtesting "github.com/google/go-tdx-guest/testing"
	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// A tdxBase is evidence that a case begins with.
type tdxBase struct {
	name     string
	world    *tdxWorld
	raw      []byte       // genuine
	platform *tdxPlatform // simulated
	set      *tdxSet
	want     []byte // REPORTDATA, or nil if that is zero, which nobody can ask for
	at       time.Time
	instants []time.Time // other times worth a try
}

// tdxLab is all that cases are made from.
type tdxLab struct {
	genuine, simulated []*tdxBase
	note               string // why there is not more
}

func newTDXLab() (*tdxLab, error) {
	l := &tdxLab{}
	if err := l.simulate(); err != nil {
		return nil, err
	}
	w, err := newTDXWorld("Intel", tdx.Intel())
	if err != nil {
		return nil, err
	}
	if err := l.addSample(w); err != nil {
		return nil, err
	}
	return l, l.addVectors(w)
}

// describe implements comparison.
func (l *tdxLab) describe(w io.Writer) {
	var names []string
	for _, b := range l.genuine {
		names = append(names, b.name)
	}
	fmt.Fprintf(w, "Genuine: %s\n", strings.Join(names, ", "))
	if l.note != "" {
		fmt.Fprintln(w, l.note)
	}
	sim := l.simulated[0].world
	fmt.Fprintf(w, "Simulated: quotes of version 4 of Platform CA and Processor CA; %d platforms, %d sets of collateral\n", len(sim.platforms), len(sim.sets))
}

// simulate adds the simulated bases.
func (l *tdxLab) simulate() error {
	intel := tdxtest.NewIntel()
	intel.Time = now
	w, err := newTDXWorld("simulated", intel.Anchors())
	if err != nil {
		return err
	}
	if w.platforms, err = tdxPlatforms(intel); err != nil {
		return err
	}
	w.sets = tdxSets(intel)
	for _, p := range w.platforms[:2] {
		b := &tdxBase{
			name: "simulated " + p.name, world: w, platform: p,
			set: w.sets[0], want: derive("report data", 64), at: now(),
		}
		for _, edge := range []time.Time{
			issued(), issued().AddDate(0, 0, 30), // of documents and lists
			now().AddDate(-1, 0, 0), now().AddDate(6, 0, 0), // of certificates
		} {
			b.instants = append(b.instants, edge.Add(-time.Second), edge, edge.Add(time.Second))
		}
		l.simulated = append(l.simulated, b)
	}
	return nil
}

// issued is when simulated documents and lists say that they were.
func issued() time.Time { return now().AddDate(0, 0, -1) }

// addGenuine adds a genuine quote, without what follows it, and a set.
func (l *tdxLab) addGenuine(w *tdxWorld, name string, raw []byte, set *tdxSet, at time.Time) {
	if i := slices.IndexFunc(w.sets, func(s *tdxSet) bool { return s.name == set.name }); i < 0 {
		w.sets = append(w.sets, set)
	}
	b := &tdxBase{name: name + " with " + set.name, world: w, raw: raw, set: set, at: at}
	if end := chainEnd(raw); end > 0 {
		b.raw = raw[:end] // what samples have behind that is no part of them
	}
	b.want = raw[offsetTDXReportData : offsetTDXReportData+64]
	if bytes.Equal(b.want, make([]byte, 64)) {
		b.want = nil
	}
	for _, days := range []int{-4000, -40, 40, 4000} {
		b.instants = append(b.instants, at.AddDate(0, 0, days))
	}
	l.genuine = append(l.genuine, b)
}

// addSample adds the quote that go-tdx-guest has, and the collateral it has, which
// is of another platform.
func (l *tdxLab) addSample(w *tdxWorld) error {
	set := &tdxSet{"go-tdx-guest's collateral", map[string]evidence.Collateral{}}
	for address, r := range gtgtesting.TestGetter.Responses {
		c := evidence.Collateral{Data: r.Body}
		for _, chain := range r.Header {
			text, err := url.QueryUnescape(chain[0])
			if err != nil {
				return err
			}
			c.Issuer = []byte(text)
		}
		name := strings.TrimPrefix(address, intelPCS)
		if address == intelRootCRL {
			name = tdx.RootCRLName()
		}
		set.files[name] = c
	}
	l.addGenuine(w, "go-tdx-guest's quote", testdata.RawQuote, set, time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC))
	return nil
}

// addVectors adds the genuine quotes of version 4 of the shared vectors, if there
// are any, each with each complete set of collateral.
func (l *tdxLab) addVectors(w *tdxWorld) error {
	dir, err := vectors.Folder()
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "tdx")
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if errors.Is(err, fs.ErrNotExist) {
		l.note = "No shared vectors: TEEBROKER_VECTORS can name their folder"
		return nil
	}
	if err != nil {
		return err
	}
	var manifest struct {
		Quotes []struct {
			Name, File, FMSPC string
			Version           int `json:"quote_version"`
			Collateral        []struct {
				Set      string
				Complete bool
				UseTime  time.Time `json:"use_time"`
			}
		}
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return err
	}
	for _, q := range manifest.Quotes {
		if q.Version != 4 {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, q.File))
		if err != nil {
			return err
		}
		for _, c := range q.Collateral {
			set, err := readSet(filepath.Join(dir, "collateral", c.Set), q.FMSPC)
			switch {
			case !c.Complete || errors.Is(err, fs.ErrNotExist):
				continue
			case err != nil:
				return err
			}
			l.addGenuine(w, q.Name, raw, set, c.UseTime)
		}
	}
	return nil
}

// readSet returns the set in the folder dir.
func readSet(dir, fmspc string) (*tdxSet, error) {
	id, err := hex.DecodeString(fmspc)
	if err != nil || len(id) != len(tdx.FMSPC{}) {
		return nil, fmt.Errorf("FMSPC %q", fmspc)
	}
	set := &tdxSet{filepath.Base(dir), map[string]evidence.Collateral{}}
	for _, f := range []struct{ name, data, issuer string }{
		{tdx.TCBInfoName(tdx.FMSPC(id)), "tcb_info.json", "tcb_info_chain.pem"},
		{tdx.QEIdentityName(), "qe_identity.json", "qe_identity_chain.pem"},
		{tdx.PCKCRLName(tdx.PlatformCA), "pck_crl.der", "pck_crl_chain.pem"},
		{tdx.RootCRLName(), "root_ca_crl.der", ""},
	} {
		var c evidence.Collateral
		var err error
		if c.Data, err = os.ReadFile(filepath.Join(dir, f.data)); err != nil {
			return nil, err
		}
		if f.issuer != "" {
			if c.Issuer, err = os.ReadFile(filepath.Join(dir, f.issuer)); err != nil {
				return nil, err
			}
		}
		set.files[f.name] = c
	}
	return set, nil
}

// loadPlatform returns the platform with a name, the same in every process but for
// its certificate.
func loadPlatform(intel *tdxtest.Intel, name string, ca tdx.CA) (*tdxtest.Platform, error) {
	saved, _ := pem.Decode(intel.Platform(ca).MarshalPEM())
	saved.Bytes = derive("platform "+name, 32)
	return intel.LoadPlatform(pem.EncodeToMemory(saved))
}
