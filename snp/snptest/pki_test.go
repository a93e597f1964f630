package snptest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// clock is the time of every test here.
var clock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// amd is the vendor of every test here: its keys are made once.
var amd = &AMD{Time: func() time.Time { return clock }}

var lines = []snp.Line{snp.Milan, snp.Genoa, snp.Turin}

// Certificates of CAs are AMD's but for keys, time and key identifiers.
func TestCAsAreShapedLikeAMDs(t *testing.T) {
	for _, line := range lines {
		vcek, vlek := map[snp.Line][]byte{
			snp.Milan: trust.AskArkMilanVcekBytes, snp.Genoa: trust.AskArkGenoaVcekBytes, snp.Turin: trust.AskArkTurinVcekBytes,
		}[line], map[snp.Line][]byte{
			snp.Milan: trust.AskArkMilanVlekBytes, snp.Genoa: trust.AskArkGenoaVlekBytes, snp.Turin: trust.AskArkTurinVlekBytes,
		}[line]
		ask, rest := pem.Decode(vcek)
		ark, _ := pem.Decode(rest)
		asvk, _ := pem.Decode(vlek)
		made := amd.Anchors(line)[0]
		for _, tt := range []struct {
			name            string
			made, genuine   []byte
			signedBy        []byte
			exactExtensions int
		}{
			{"ARK", made.ARK, ark.Bytes, made.ARK, 3},
			{"ASK", made.ASK, ask.Bytes, made.ARK, 3},
			{"ASVK", made.ASVK, asvk.Bytes, made.ARK, 3},
		} {
			t.Run(line.String()+"/"+tt.name, func(t *testing.T) {
				got, want := parse(t, tt.made), parse(t, tt.genuine)
				sameNames(t, got, want)
				sameAlgorithm(t, tt.made, tt.genuine)
				if got.SerialNumber.Cmp(want.SerialNumber) != 0 {
					t.Errorf("serial %x, want %x", got.SerialNumber, want.SerialNumber)
				}
				if years := got.NotAfter.Year() - got.NotBefore.Year(); years != 25 || !got.NotBefore.Before(clock) {
					t.Errorf("valid from %v to %v", got.NotBefore, got.NotAfter)
				}
				if pub := got.PublicKey.(*rsa.PublicKey); pub.N.BitLen() != 4096 || pub.E != 65537 {
					t.Error("key is not of RSA-4096 with exponent 65537")
				}
				if exact := sameExtensions(t, got, want); exact != tt.exactExtensions {
					t.Errorf("%d extensions are exactly AMD's, want %d", exact, tt.exactExtensions)
				}
				if err := got.CheckSignatureFrom(parse(t, tt.signedBy)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Without arguments, Anchors are of all Lines used, in order; and they are the caller's.
func TestAnchors(t *testing.T) {
	for _, line := range []snp.Line{snp.Turin, snp.Milan, snp.Genoa} {
		clear(amd.Anchors(line)[0].ASK)
	}
	var got []snp.Line
	for _, a := range amd.Anchors() {
		parse(t, a.ASK)
		got = append(got, a.Line)
	}
	if !slices.Equal(got, lines) {
		t.Errorf("of lines %v", got)
	}
}

// sameExtensions compares ids, order and criticality, and lengths of key
// identifiers. It returns how many extensions are the same byte by byte.
func sameExtensions(t *testing.T, got, want *x509.Certificate) (exact int) {
	t.Helper()
	if len(got.Extensions) != len(want.Extensions) {
		t.Fatalf("%d extensions, want %d", len(got.Extensions), len(want.Extensions))
	}
	for i, g := range got.Extensions {
		w := want.Extensions[i]
		if !g.Id.Equal(w.Id) || g.Critical != w.Critical || len(g.Value) != len(w.Value) {
			t.Errorf("extension %d is %v %v, %d bytes; want %v %v, %d bytes", i, g.Id, g.Critical, len(g.Value), w.Id, w.Critical, len(w.Value))
		}
		if bytes.Equal(g.Value, w.Value) {
			exact++
		}
	}
	return exact
}

func sameNames(t *testing.T, got, want *x509.Certificate) {
	t.Helper()
	if !bytes.Equal(got.RawSubject, want.RawSubject) || !bytes.Equal(got.RawIssuer, want.RawIssuer) {
		t.Errorf("%v by %v, want %v by %v", got.Subject, got.Issuer, want.Subject, want.Issuer)
	}
}

// sameAlgorithm compares the encoding of the signature algorithm.
func sameAlgorithm(t *testing.T, got, want []byte) {
	t.Helper()
	var g, w der.Signed
	if _, err := asn1.Unmarshal(got, &g); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g.Algorithm.FullBytes, w.Algorithm.FullBytes) {
		t.Errorf("algorithm %x, want %x", g.Algorithm.FullBytes, w.Algorithm.FullBytes)
	}
}

// For the claims of a genuine certificate, its key and its time, we sign the
// same bytes that AMD signed.
func TestVEKsAreAMDs(t *testing.T) {
	var manifest struct {
		Vectors []struct {
			Name        string
			ReportedTCB string `json:"reported_tcb"`
			ReportFile  string `json:"report_file"`
			VEKFile     string `json:"vek_file"`
		}
	}
	vectors.JSON(t, "snp/manifest.json", &manifest)
	cases := map[string]struct {
		line    snp.Line
		kind    snp.KeyKind
		trailer bool // an older form of the algorithm, that of the CAs
	}{
		"gosev-milan-v2-vcek":  {snp.Milan, snp.VCEK, true},
		"trustee-vcek":         {snp.Milan, snp.VCEK, true},
		"trustee-vlek":         {snp.Milan, snp.VLEK, false},
		"trustee-azvtpm-genoa": {snp.Genoa, snp.VCEK, false},
		"veraison-tsm-vcek":    {snp.Genoa, snp.VCEK, false},
		"lunal-genoa-v5":       {snp.Genoa, snp.VCEK, false},
		"oak-turin-oc":         {snp.Turin, snp.VCEK, false},
	}
	for _, v := range manifest.Vectors {
		c, ok := cases[v.Name]
		if !ok {
			continue
		}
		delete(cases, v.Name)
		t.Run(v.Name, func(t *testing.T) {
			report := vectors.Read(t, "snp/"+v.ReportFile)
			want := parse(t, vectors.Read(t, "snp/"+v.VEKFile))
			der := amd.IssueVEK(want.PublicKey.(*ecdsa.PublicKey), VEK{
				Kind: c.kind, TCB: tcbOf(t, c.line, v.ReportedTCB), Chip: snp.ChipID(report[abi.ChipID:]), CSP: "CN=cc-us-east-2.amazonaws.com",
				Before: want.NotBefore, After: want.NotAfter,
			})
			if got := normal(t, der); c.trailer && !bytes.Equal(got, normal(t, want.Raw)) {
				t.Errorf("we sign\n%x, AMD\n%x", got, normal(t, want.Raw))
			}
			if got := parse(t, der); !c.trailer && !bytes.Equal(got.RawTBSCertificate, want.RawTBSCertificate) {
				t.Errorf("we sign\n%x, AMD\n%x", got.RawTBSCertificate, want.RawTBSCertificate)
			}
		})
	}
	if len(cases) != 0 {
		t.Errorf("no vectors %v", cases)
	}
}

// normal returns the TBS of a certificate without its signature algorithm.
func normal(t *testing.T, cert []byte) []byte {
	t.Helper()
	var s der.Signed
	var tbs der.Certificate
	if _, err := asn1.Unmarshal(cert, &s); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(s.TBS.FullBytes, &tbs); err != nil {
		t.Fatal(err)
	}
	tbs.Algorithm = asn1.NullRawValue
	return der.Encode(tbs)
}

// tcbOf decodes a TCB_VERSION as the manifest writes it: most significant byte last.
func tcbOf(t *testing.T, line snp.Line, s string) snp.TCB {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	order := abi.OrderMilan
	if line == snp.Turin {
		order = abi.OrderTurin
	}
	tcb, ok := order.Unpack([8]byte(b))
	if !ok {
		t.Fatalf("%s is no TCB of %v", s, line)
	}
	return snp.TCB{Line: line, FMC: tcb.FMC, Bootloader: tcb.Bootloader, TEE: tcb.TEE, Firmware: tcb.Firmware, Microcode: tcb.Microcode}
}

func TestVEKFields(t *testing.T) {
	chip := amd.Chip(snp.Milan)
	anchors := amd.Anchors(snp.Milan)[0]
	for _, tt := range []struct {
		name   string
		vek    VEK
		issuer []byte
		says   func(*x509.Certificate) bool
	}{
		{"default window of a VCEK", VEK{}, anchors.ASK, func(c *x509.Certificate) bool {
			return c.NotBefore.Equal(clock.AddDate(0, 0, -1)) && c.NotAfter.Equal(clock.AddDate(7, 0, 0))
		}},
		{"default window of a VLEK", VEK{Kind: snp.VLEK}, anchors.ASVK, func(c *x509.Certificate) bool { return c.NotAfter.Equal(clock.AddDate(1, 0, 0)) }},
		{"window", VEK{Before: clock.AddDate(1, 0, 0), After: clock.AddDate(2, 0, 0)}, anchors.ASK, func(c *x509.Certificate) bool {
			return c.NotBefore.Equal(clock.AddDate(1, 0, 0)) && c.NotAfter.Equal(clock.AddDate(2, 0, 0))
		}},
		{"serial", VEK{Serial: big.NewInt(77)}, anchors.ASK, func(c *x509.Certificate) bool { return c.SerialNumber.Int64() == 77 }},
		{"VLEK by the ASK", VEK{Kind: snp.VLEK, By: ASK}, anchors.ASK, func(c *x509.Certificate) bool { return c.Subject.CommonName == "SEV-VLEK" }},
		{"VCEK by the ASVK", VEK{By: ASVK}, anchors.ASVK, func(c *x509.Certificate) bool { return c.Subject.CommonName == "SEV-VCEK" }},
		{"VCEK by the ARK", VEK{By: ARK}, anchors.ARK, func(c *x509.Certificate) bool { return c.Issuer.CommonName == "ARK-Milan" }},
		{"PSS of SHA-256", VEK{Algorithm: x509.SHA256WithRSAPSS}, anchors.ASK, func(c *x509.Certificate) bool { return c.SignatureAlgorithm == x509.SHA256WithRSAPSS }},
		{"PKCS #1 v1.5", VEK{Algorithm: x509.SHA384WithRSA}, anchors.ASK, func(c *x509.Certificate) bool { return c.SignatureAlgorithm == x509.SHA384WithRSA }},
		{"extension left out", VEK{Extensions: func(e []pkix.Extension) []pkix.Extension { return e[1:] }}, anchors.ASK, func(c *x509.Certificate) bool { return len(c.Extensions) == 10 }},
		{"edited", VEK{Edit: func(tbs []byte) { copy(tbs[bytes.Index(tbs, []byte("SEV-VCEK")):], "SEV-XXXX") }}, anchors.ASK, func(c *x509.Certificate) bool { return c.Subject.CommonName == "SEV-XXXX" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.vek.TCB = chip.Reported
			cert := parse(t, amd.IssueVEK(chip.Key(), tt.vek))
			issuer := parse(t, tt.issuer)
			if err := issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
				t.Errorf("issuer %v, want %v", cert.Issuer, issuer.Subject)
			}
			if !tt.says(cert) {
				t.Error("the certificate does not say so")
			}
		})
	}
}

func TestCRL(t *testing.T) {
	ark, ask := parse(t, amd.Anchors(snp.Genoa)[0].ARK), parse(t, amd.Anchors(snp.Genoa)[0].ASK)
	from, to := clock.AddDate(0, -2, 0), clock.AddDate(0, -1, 0)
	for _, tt := range []struct {
		name     string
		der      []byte
		signer   *x509.Certificate
		from, to time.Time
		revoked  int
	}{
		{"of nothing", amd.CRL(snp.Genoa, snp.VCEK, clock), ark, clock.AddDate(0, 0, -1), clock.AddDate(0, 0, 30), 0},
		{"of two at another time", amd.CRL(snp.Genoa, snp.VLEK, from, ask.SerialNumber, big.NewInt(7)), ark, from.AddDate(0, 0, -1), from.AddDate(0, 0, 30), 2},
		{"defaults", amd.IssueCRL(CRL{Line: snp.Genoa}), ark, clock.AddDate(0, 0, -1), clock.AddDate(0, 0, 30), 0},
		{"stale", amd.IssueCRL(CRL{Line: snp.Genoa, ThisUpdate: from, NextUpdate: to}), ark, from, to, 0},
		{"by the ASK", amd.IssueCRL(CRL{Line: snp.Genoa, By: ASK, ThisUpdate: from, NextUpdate: to}), ask, from, to, 0},
		{"without nextUpdate", amd.IssueCRL(CRL{Line: snp.Genoa, ThisUpdate: from, Edit: func(l *TBSCertList) { l.NextUpdate = time.Time{} }}), ark, from, time.Time{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			crl, err := x509.ParseRevocationList(tt.der)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.signer.CheckSignature(crl.SignatureAlgorithm, crl.RawTBSRevocationList, crl.Signature); err != nil {
				t.Error(err)
			}
			if !crl.ThisUpdate.Equal(tt.from) || !crl.NextUpdate.Equal(tt.to) || len(crl.RevokedCertificateEntries) != tt.revoked {
				t.Errorf("from %v to %v, %d revoked", crl.ThisUpdate, crl.NextUpdate, len(crl.RevokedCertificateEntries))
			}
			if !bytes.Equal(crl.AuthorityKeyId, tt.signer.SubjectKeyId) || !bytes.Equal(crl.RawIssuer, tt.signer.RawSubject) {
				t.Error("the issuer is not the signer")
			}
		})
	}
}

func TestResign(t *testing.T) {
	milan, genoa := amd.Anchors(snp.Milan)[0], amd.Anchors(snp.Genoa)[0]
	drop := func(tbs []byte) []byte { return bytes.Replace(tbs, []byte("ARK-Milan"), []byte("ARK-Genoa"), 1) }
	cert := parse(t, amd.Resign(snp.Genoa, ARK, milan.ASK, drop))
	if err := cert.CheckSignatureFrom(parse(t, genoa.ARK)); err != nil {
		t.Error(err)
	}
	if cert.Subject.CommonName != "SEV-Milan" {
		t.Error("more was changed than edit did")
	}
	if same := parse(t, amd.Resign(snp.Milan, ASVK, milan.ASK, nil)); !bytes.Equal(same.RawTBSCertificate, parse(t, milan.ASK).RawTBSCertificate) {
		t.Error("changed without edit")
	}
}

func TestSource(t *testing.T) {
	source, milan, turin := amd.Source(), amd.Chip(snp.Milan), amd.Chip(snp.Turin)
	old := turin.Reported
	old.Firmware--
	strange := snp.TCB{Line: snp.Turin, Bootloader: 255}
	for name, want := range map[string]*ecdsa.PublicKey{
		snp.VCEKName(milan.ID(), milan.Reported): milan.Key(),
		snp.VCEKName(turin.ID(), turin.Reported): turin.Key(),
		snp.VCEKName(turin.ID(), old):            &turin.vek(snp.VCEK, old).key.PublicKey,
		snp.VCEKName(turin.ID(), strange):        &turin.vek(snp.VCEK, strange).key.PublicKey,
	} {
		got, err := source.Get(t.Context(), name)
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %d, %v", name, len(got), err)
			continue
		}
		if !want.Equal(parse(t, got[0].Data).PublicKey) {
			t.Errorf("%s: certificate of another key", name)
		}
		clear(got[0].Data) // it is the caller's
		if again, err := source.Get(t.Context(), name); err != nil || !want.Equal(parse(t, again[0].Data).PublicKey) {
			t.Errorf("%s: the second answer is another: %v", name, err)
		}
	}
	for _, line := range lines {
		for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
			amd.Anchors(line)
			got, err := source.Get(t.Context(), snp.CRLName(line, kind))
			if err != nil || len(got) != 1 {
				t.Fatal(line, kind, err)
			}
			crl, err := x509.ParseRevocationList(got[0].Data)
			if err != nil || len(crl.RevokedCertificateEntries) != 0 || !crl.NextUpdate.After(clock) {
				t.Error(line, kind, err)
			}
			clear(got[0].Data)
		}
	}
	unknown := amd.Chip(snp.Turin).ID()
	unknown[0] ^= 1
	for _, name := range []string{
		"", "/", "%", "/vcek/v1/Turin/crl?", "/vcek/v1/None/crl",
		snp.VCEKName(unknown, turin.Reported),
		snp.VCEKName(turin.ID(), turin.Reported) + "&x=1",
		snp.VCEKName(turin.ID(), turin.Reported) + "0",
		snp.VLEKName(turin.Reported),
	} {
		if _, err := source.Get(t.Context(), name); !errors.Is(err, evidence.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Whatever the clock of the vendor says, what it makes then is valid then.
func TestTime(t *testing.T) {
	now := clock
	amd.Anchors(snp.Turin)
	later, err := LoadAMD(amd.MarshalPEM())
	if err != nil {
		t.Fatal(err)
	}
	later.Time = func() time.Time { return now }
	chip := later.Chip(snp.Turin)
	key := chip.Key()
	for _, at := range []time.Time{clock, clock.AddDate(3, 0, 0), clock.AddDate(-1, 0, 0), clock.Add(10 * time.Minute)} {
		now = at
		cert := parse(t, chip.Entries(snp.VCEK)[0].Data)
		got, err := later.Source().Get(t.Context(), snp.CRLName(snp.Turin, snp.VCEK))
		if err != nil {
			t.Fatal(err)
		}
		crl, err := x509.ParseRevocationList(got[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		if at.Before(cert.NotBefore) || at.After(cert.NotAfter) || at.Before(crl.ThisUpdate) || at.After(crl.NextUpdate) {
			t.Errorf("at %v: certificate from %v, CRL from %v", at, cert.NotBefore, crl.ThisUpdate)
		}
		if !key.Equal(cert.PublicKey) {
			t.Error("the key changed")
		}
	}
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
