package snptest

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// published is what a Source has, by name; nothing else is to be had.
type published map[string][]byte

func (p published) Get(_ context.Context, name string) ([]evidence.Collateral, error) {
	if p[name] == nil {
		return nil, evidence.ErrNotFound
	}
	return []evidence.Collateral{{Data: p[name]}}, nil
}

func verify1(t *testing.T, source evidence.Source, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	t.Helper()
	v, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(lines...), Source: source, Time: amd.Time})
	if err != nil {
		t.Fatal(err)
	}
	return v.Verify(t.Context(), ev, want)
}

func TestVerifierAccepts(t *testing.T) {
	bergamo := amd.Chip(snp.Genoa)
	bergamo.Model, bergamo.Stepping = 0xA0, 2
	chips := []*Chip{amd.Chip(snp.Milan), amd.Chip(snp.Genoa), amd.Chip(snp.Turin), bergamo}
	data := binding(t, 1, 2, 3)
	for _, chip := range chips {
		for version := uint32(2); version <= 5; version++ {
			for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
				t.Run(fmt.Sprintf("%v/%x/%d/%v", chip.line, chip.Model, version, kind), func(t *testing.T) {
					accepts(t, chip, Guest{Version: version, Key: kind, Measurement: [48]byte{1}}, data)
				})
			}
		}
	}
}

func accepts(t *testing.T, chip *Chip, g Guest, data evidence.Binding) {
	t.Helper()
	ev := chip.Report(g, data)
	got, err := verify1(t, amd.Source(), ev, data)
	if err != nil {
		t.Fatal(err)
	}
	claims, ok := snp.ClaimsOf(got)
	if !ok || claims.Line != chip.line || claims.Key != g.Key || claims.Measurement() != g.Measurement {
		t.Errorf("claims %+v", claims)
	}
	if g.Key == snp.VCEK && claims.Chip != chip.ID() || g.Key == snp.VLEK && claims.CSP != chip.CSP {
		t.Errorf("chip %x, CSP %q", claims.Chip, claims.CSP)
	}
	if g.Key == snp.VCEK {
		ev.Items = nil
		if _, err := verify1(t, amd.Source(), ev, data); err != nil {
			t.Errorf("with the VCEK of the Source: %v", err)
		}
	}
	pem := chip.Entries(g.Key)
	for i := range pem {
		pem[i] = pem[i].PEM()
	}
	ev.Items = []evidence.Item{{Type: snp.CertTable, Data: CertTable(pem...)}}
	if _, err := verify1(t, amd.Source(), ev, data); err != nil {
		t.Errorf("with a table of PEM: %v", err)
	}
}

// fault is something that can be wrong. The zero fault is nothing.
type fault struct {
	name  string
	check string // that has to find it

	chip  func(*Chip)
	guest Guest
	vek   func(*Chip) []byte // instead of the VEK in the table
	table func([]Entry) []byte
	ev    func(*evidence.Evidence)
	crl   func() []byte // instead of the current list
	want  []byte        // instead of what was signed
}

// faults has at least one fault for every check of snp.Checks.
func faults() []fault {
	issue := func(change func(*VEK)) func(*Chip) []byte {
		return func(c *Chip) []byte {
			v := VEK{TCB: c.Reported, Chip: c.ID(), CSP: c.CSP}
			change(&v)
			return amd.IssueVEK(c.Key(), v)
		}
	}
	extensions := func(change func([]pkix.Extension) []pkix.Extension) func(*Chip) []byte {
		return issue(func(v *VEK) { v.Extensions = change })
	}
	set := func(at int, b byte) Guest { return Guest{Edit: func(r []byte) { r[at] = b }} }
	ask := func(t []byte) *big.Int { c, _ := x509.ParseCertificate(t); return c.SerialNumber }
	return []fault{
		{name: "another format", check: "format", ev: func(ev *evidence.Evidence) { ev.Format = "x" }},
		{name: "an entry twice", check: "items", table: func(e []Entry) []byte { return CertTable(append(e, e[0])...) }},
		{name: "a table without end", check: "items", table: func(e []Entry) []byte { return CertTable(e...)[:abi.EntrySize] }},
		{name: "a byte too many", check: "size", guest: Guest{Fault: func(r []byte) []byte { return append(r, 0) }}},
		{name: "a byte too few", check: "size", guest: Guest{Fault: func(r []byte) []byte { return r[:len(r)-1] }}},
		{name: "version 6", check: "version", guest: Guest{Version: 6}},
		{name: "version 1", check: "version", guest: Guest{Version: 1}},
		{name: "no known processor", check: "processor", chip: func(c *Chip) { c.Family = 0x1B }},
		{name: "reserved byte", check: "reserved", guest: set(abi.KeyInfo+4, 1)},
		{name: "POLICY without bit 17", check: "reserved", guest: Guest{Policy: snp.SMT}},
		{name: "mitigations in version 4", check: "reserved", guest: Guest{Version: 4, Edit: func(r []byte) { r[abi.LaunchMitigations] = 1 }}},
		{name: "asked for by the host", check: "enumerations", guest: Guest{VMPL: abi.HostVMPL}},
		{name: "another signature algorithm", check: "enumerations", guest: set(abi.SignatureAlgo, 2)},
		{name: "reported above committed", check: "tcb-order", chip: func(c *Chip) { c.Committed.Firmware-- }},
		{name: "another binding", check: "binding", want: []byte{7}},
		{name: "masked key", check: "signed", chip: func(c *Chip) { c.MaskChipKey = true }},
		{name: "no VEK", check: "endorsement", ev: func(ev *evidence.Evidence) { ev.Items = nil }},
		{name: "a VEK that is none", check: "certificate", vek: func(*Chip) []byte { return []byte("x") }},
		{name: "VEK signed by another key", check: "chain", vek: func(c *Chip) []byte { return amd.Resign(c.line, ASVK, c.Entries(snp.VCEK)[0].Data, nil) }},
		{name: "VEK of the ARK", check: "chain", vek: issue(func(v *VEK) { v.By = ARK })},
		{name: "VEK signed with PKCS #1 v1.5", check: "chain", vek: issue(func(v *VEK) { v.Algorithm = x509.SHA384WithRSA })},
		{name: "VEK signed with SHA-256", check: "chain", vek: issue(func(v *VEK) { v.Algorithm = x509.SHA256WithRSAPSS })},
		{name: "VLEK of the ASK", check: "profile", vek: issue(func(v *VEK) { v.Kind, v.By = snp.VLEK, ASK })},
		{name: "extension missing", check: "profile", vek: extensions(func(e []pkix.Extension) []pkix.Extension { return e[:len(e)-1] })},
		{name: "extension twice", check: "certificate", vek: extensions(func(e []pkix.Extension) []pkix.Extension { e[3] = e[2]; return e })},
		{name: "extension critical", check: "profile", vek: extensions(func(e []pkix.Extension) []pkix.Extension { e[0].Critical = true; return e })},
		{name: "hwID in an OCTET STRING", check: "profile", vek: extensions(func(e []pkix.Extension) []pkix.Extension {
			e[len(e)-1].Value = der.Encode(e[len(e)-1].Value)
			return e
		})},
		{name: "VCEK for a VLEK's signature", check: "signing-key", guest: Guest{Key: snp.VLEK}, vek: issue(func(*VEK) {})},
		{name: "processor of another line", check: "line", chip: func(c *Chip) { c.Model = 0x11 }},
		{name: "certificate for another TCB", check: "tcb", vek: issue(func(v *VEK) { v.TCB.Firmware-- })},
		{name: "report of another TCB", check: "tcb", guest: set(abi.ReportedTCB, 0)},
		{name: "certificate for another chip", check: "chip", vek: issue(func(v *VEK) { v.Chip[63] ^= 1 })},
		{name: "masked chip", check: "chip", chip: func(c *Chip) { c.MaskChipID = true }},
		{name: "VEK expired", check: "validity", vek: issue(func(v *VEK) { v.Before, v.After = clock.AddDate(-8, 0, 0), clock.AddDate(-1, 0, 0) })},
		{name: "VEK of tomorrow", check: "validity", vek: issue(func(v *VEK) { v.Before = clock.AddDate(0, 0, 1) })},
		{name: "no CRL", check: "revocation", crl: func() []byte { return nil }},
		{name: "ASK revoked", check: "revocation", crl: func() []byte { return amd.CRL(snp.Milan, snp.VCEK, clock, ask(amd.Anchors(snp.Milan)[0].ASK)) }},
		{name: "VEK revoked", check: "revocation", vek: issue(func(v *VEK) { v.Serial = big.NewInt(9) }), crl: func() []byte { return amd.CRL(snp.Milan, snp.VCEK, clock, big.NewInt(9)) }},
		{name: "CRL stale", check: "revocation", crl: func() []byte { return amd.CRL(snp.Milan, snp.VCEK, clock.AddDate(0, -2, 0)) }},
		{name: "CRL of tomorrow", check: "revocation", crl: func() []byte { return amd.CRL(snp.Milan, snp.VCEK, clock.AddDate(0, 0, 2)) }},
		{name: "CRL of the ASK", check: "revocation", crl: func() []byte { return amd.IssueCRL(CRL{Line: snp.Milan, By: ASK}) }},
		{name: "CRL of another line", check: "revocation", crl: func() []byte { return amd.CRL(snp.Genoa, snp.VCEK, clock) }},
		{name: "CRL signed by another key", check: "revocation", crl: func() []byte { return amd.Resign(snp.Milan, ASK, amd.CRL(snp.Milan, snp.VCEK, clock), nil) }},
		{name: "bit of the signature", check: "signature", guest: Guest{Fault: func(r []byte) []byte { r[abi.SignatureR] ^= 1; return r }}},
		{name: "bit of what is signed", check: "signature", guest: Guest{Fault: func(r []byte) []byte { r[abi.Measurement] ^= 1; return r }}},
		{name: "signed by another chip", check: "signature", vek: func(c *Chip) []byte {
			return amd.IssueVEK(amd.Chip(snp.Milan).Key(), VEK{TCB: c.Reported, Chip: c.ID()})
		}},
	}
}

// verifyWith verifies a report of a Milan with f. Without f it is accepted.
func verifyWith(t *testing.T, f fault) error {
	t.Helper()
	chip := amd.Chip(snp.Milan)
	if f.chip != nil {
		f.chip(chip)
	}
	signed := binding(t, 1)
	ev := chip.Report(f.guest, signed)
	entries := chip.Entries(f.guest.withDefaults().Key)
	if f.vek != nil {
		entries[0].Data = f.vek(chip)
	}
	ev.Items[0].Data = CertTable(entries...)
	if f.table != nil {
		ev.Items[0].Data = f.table(entries)
	}
	if f.ev != nil {
		f.ev(&ev)
	}
	list := amd.CRL(snp.Milan, snp.VCEK, clock)
	if f.crl != nil {
		list = f.crl()
	}
	want := signed
	if f.want != nil {
		want = binding(t, f.want...)
	}
	_, err := verify1(t, published{snp.CRLName(snp.Milan, snp.VCEK): list, snp.CRLName(snp.Milan, snp.VLEK): list}, ev, want)
	return err
}

func TestVerifierFindsEveryFault(t *testing.T) {
	if err := verifyWith(t, fault{}); err != nil {
		t.Fatalf("nothing is wrong: %v", err)
	}
	if err := verifyWith(t, fault{guest: Guest{Key: snp.VLEK}}); err != nil {
		t.Fatalf("nothing is wrong: %v", err)
	}
	found := map[string]bool{}
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			err := verifyWith(t, f)
			var e *evidence.Error
			if !errors.As(err, &e) || e.Check != f.check {
				t.Fatalf("got %v, want check %q to fail", err, f.check)
			}
			found[e.Check] = true
		})
	}
	for _, c := range snp.Checks() {
		if !found[c.Name] {
			t.Errorf("no fault for check %q", c.Name)
		}
	}
}

// Anchors that are no AMD hierarchy.
func TestVerifierRefusesAnchors(t *testing.T) {
	milan, genoa := amd.Anchors(snp.Milan)[0], amd.Anchors(snp.Genoa)[0]
	for name, change := range map[string]func(*snp.Anchors){
		"ASK of another line":        func(a *snp.Anchors) { a.ASK = genoa.ASK },
		"ASK signed by another line": func(a *snp.Anchors) { a.ASK = amd.Resign(snp.Genoa, ARK, a.ASK, nil) },
		"ASK signed by the ASVK":     func(a *snp.Anchors) { a.ASK = amd.Resign(snp.Milan, ASVK, a.ASK, nil) },
		"ARK signed by the ASK":      func(a *snp.Anchors) { a.ARK = amd.Resign(snp.Milan, ASK, a.ARK, nil) },
	} {
		bad := milan
		change(&bad)
		if _, err := snp.NewVerifier(snp.Config{Anchors: []snp.Anchors{bad}, Source: amd.Source()}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What a chip says of its floor holds for its reports, and for nothing less.
func TestFloorIsJustMet(t *testing.T) {
	data := binding(t, 1)
	for _, line := range lines {
		for _, version := range []uint32{2, 5} {
			chip := amd.Chip(line)
			rv := snp.Baseline([]snp.Floor{chip.Floor()}, [48]byte{1})
			rv.V2Floors = []snp.LineFloor{chip.V2Floor()}
			mismatches := func() []evidence.Mismatch {
				got, err := verify1(t, amd.Source(), chip.Report(Guest{Version: version, Measurement: [48]byte{1}}, data), data)
				if err != nil {
					t.Fatal(err)
				}
				return rv.Appraise(got)
			}
			if ms := mismatches(); len(ms) != 0 {
				t.Errorf("%v version %d: %v", line, version, ms)
			}
			chip.Reported.Microcode--
			if ms := mismatches(); len(ms) != 1 {
				t.Errorf("%v version %d, below its floor: %v", line, version, ms)
			}
		}
	}
}
