package snp_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// refusal is one thing that a strict verifier refuses.
type refusal struct {
	claim  string
	edit   func(*simulated)
	reason evidence.Reason
	check  string
	field  string
}

func testRefusals(t *testing.T, line snp.Line, cases []refusal) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.claim, func(t *testing.T) {
			s := simulate(line)
			c.edit(s)
			got, err := s.verify(t)
			if e := wantRefused(t, got, err, c.reason, c.check); e.Field != c.field {
				t.Errorf("field %q, want %q: %v", e.Field, c.field, err)
			}
		})
	}
}

// put returns an edit of the report before it is signed.
func put(at int, bs ...byte) func(*simulated) {
	return func(s *simulated) { s.guest.Edit = func(b []byte) { copy(b[at:], bs) } }
}

func TestStrictReport(t *testing.T) {
	fault := func(f func([]byte) []byte) func(*simulated) {
		return func(s *simulated) { s.guest.Fault = f }
	}
	testRefusals(t, snp.Genoa, []refusal{
		{"a byte short", fault(func(b []byte) []byte { return b[:len(b)-1] }), evidence.Malformed, "size", "ATTESTATION_REPORT"},
		{"a byte more", fault(func(b []byte) []byte { return append(b, 0) }), evidence.Malformed, "size", "ATTESTATION_REPORT"},
		{"version 1, signed", func(s *simulated) { s.guest.Version = 1 }, evidence.Unsupported, "version", "VERSION"},
		{"version 6, signed", func(s *simulated) { s.guest.Version = 6 }, evidence.Unsupported, "version", "VERSION"},
		{"an unknown processor, signed", func(s *simulated) { s.chip.Family = 0x1B }, evidence.Unsupported, "processor", "CPUID_FAM_ID"},
		{"reserved bytes, signed", put(0x220, 1), evidence.Malformed, "reserved", "RESERVED_0x208"},
		{"POLICY without bit 17, signed", put(0x00A, 1), evidence.Malformed, "reserved", "POLICY"},
		{"an unknown POLICY bit, signed", put(0x00F, 0x80), evidence.Malformed, "reserved", "POLICY"},
		{"another algorithm, signed", put(0x034, 2), evidence.Unsupported, "enumerations", "SIGNATURE_ALGO"},
		{"a report for the host, signed", func(s *simulated) { s.guest.VMPL = 0xFFFFFFFF }, evidence.Unsupported, "enumerations", "VMPL"},
		{"reported above committed, signed", func(s *simulated) { s.chip.Committed.Microcode-- }, evidence.Malformed, "tcb-order", "REPORTED_TCB"},
		{"committed above current, signed", func(s *simulated) { s.chip.Current.Firmware-- }, evidence.Malformed, "tcb-order", "COMMITTED_TCB"},
		{"other report data", put(0x050, 1), evidence.NotBound, "binding", "REPORT_DATA"},
		{"report data after the binding", put(0x08F, 1), evidence.NotBound, "binding", "REPORT_DATA"},
		{"no key to sign with", func(s *simulated) { s.chip.MaskChipKey = true }, evidence.BadSignature, "signed", "MASK_CHIP_KEY"},
		{"MASK_CHIP_KEY and a signature", put(0x048, 2), evidence.BadSignature, "signed", "MASK_CHIP_KEY"},
		{"SIGNING_KEY none", put(0x048, 7<<2), evidence.BadSignature, "signed", "SIGNING_KEY"},
		{"a signature of zeros", fault(func(b []byte) []byte { clear(b[0x2A0:]); return b }), evidence.BadSignature, "signed", "SIGNATURE"},
		{"S zero", fault(func(b []byte) []byte { clear(b[0x2E8:]); return b }), evidence.BadSignature, "signed", "SIGNATURE"},
		{"R of 384 ones", fault(func(b []byte) []byte { copy(b[0x2A0:], bytes.Repeat([]byte{0xFF}, 48)); return b }), evidence.BadSignature, "signature", "SIGNATURE"},
		{"another measurement after signing", fault(func(b []byte) []byte { b[0x090]++; return b }), evidence.BadSignature, "signature", "SIGNATURE"},
		{"R and S big-endian", fault(func(b []byte) []byte { slices.Reverse(b[0x2A0:0x2D0]); slices.Reverse(b[0x2E8:0x318]); return b }), evidence.BadSignature, "signature", "SIGNATURE"},
	})
}

// A report of version 2 tells its line only by its certificate.
func TestStrictVersion2(t *testing.T) {
	testRefusals(t, snp.Genoa, []refusal{
		{"a reserved byte of CURRENT_TCB", func(s *simulated) { s.guest.Version = 2; put(0x03B, 1)(s) }, evidence.Malformed, "tcb", "CURRENT_TCB"},
		{"a reserved byte of LAUNCH_TCB", func(s *simulated) { s.guest.Version = 2; put(0x1F4, 1)(s) }, evidence.Malformed, "tcb", "LAUNCH_TCB"},
	})
}

// vekOf returns the VEK that endorses s, to be changed.
func (s *simulated) vekOf() snptest.VEK {
	return snptest.VEK{Kind: s.guest.Key, TCB: s.chip.Reported, Chip: s.chip.ID(), CSP: s.chip.CSP}
}

// issue makes the Evidence have the VEK of s, changed, and the Source none.
func issue(edit func(*snptest.VEK)) func(*simulated) {
	return func(s *simulated) {
		v := s.vekOf()
		edit(&v)
		s.onlyItems()
		s.item(simulatedAMD().IssueVEK(s.chip.Key(), v))
	}
}

func TestStrictChain(t *testing.T) {
	a := simulatedAMD()
	resigned := func(by snptest.CA) func(*simulated) {
		return func(s *simulated) {
			s.onlyItems()
			s.item(a.Resign(s.line(), by, a.IssueVEK(s.chip.Key(), s.vekOf()), nil))
		}
	}
	testRefusals(t, snp.Genoa, []refusal{
		{"roots that are not configured", func(s *simulated) { s.cfg.Anchors = snp.AMD() }, evidence.Untrusted, "chain", "VCEK"},
		{"signed by the ARK, with its name", issue(func(v *snptest.VEK) { v.By = snptest.ARK }), evidence.Untrusted, "chain", "VCEK"},
		{"signed by the ARK, in the name of the ASK", resigned(snptest.ARK), evidence.Untrusted, "chain", "VCEK"},
		{"signed by the ASVK, in the name of the ASK", resigned(snptest.ASVK), evidence.Untrusted, "chain", "VCEK"},
		{"a VCEK signed by the ASVK, with its name", issue(func(v *snptest.VEK) { v.By = snptest.ASVK }), evidence.Untrusted, "profile", "VCEK"},
		{"SHA-256", issue(func(v *snptest.VEK) { v.Algorithm = x509.SHA256WithRSAPSS }), evidence.Untrusted, "chain", "VCEK"},
		{"PKCS #1 v1.5", issue(func(v *snptest.VEK) { v.Algorithm = x509.SHA384WithRSA }), evidence.Untrusted, "chain", "VCEK"},
		{"changed after signing", func(s *simulated) {
			der := a.IssueVEK(s.chip.Key(), s.vekOf())
			der[len(der)-1] ^= 1
			s.onlyItems()
			s.item(der)
		}, evidence.Untrusted, "chain", "VCEK"},
		{"no certificate", func(s *simulated) { s.onlyItems(); s.item([]byte("x")) }, evidence.Malformed, "certificate", "VCEK"},
		{"an empty Item", func(s *simulated) { s.onlyItems(); s.item([]byte{}) }, evidence.Malformed, "certificate", "VCEK"},
		{"data after the certificate", func(s *simulated) {
			s.onlyItems()
			s.item(append(a.IssueVEK(s.chip.Key(), s.vekOf()), 0))
		}, evidence.Malformed, "certificate", "VCEK"},
		{"more than 16 KiB", func(s *simulated) {
			der := a.IssueVEK(s.chip.Key(), s.vekOf())
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			s.onlyItems()
			s.item(append(text, bytes.Repeat([]byte("\n"), 16<<10)...))
		}, evidence.Malformed, "certificate", "VCEK"},
		{"PEM of two certificates", func(s *simulated) {
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.IssueVEK(s.chip.Key(), s.vekOf())})
			s.onlyItems()
			s.item(append(text, text...))
		}, evidence.Malformed, "certificate", "VCEK"},
		{"PEM of something else", func(s *simulated) {
			s.onlyItems()
			s.item(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: a.IssueVEK(s.chip.Key(), s.vekOf())}))
		}, evidence.Malformed, "certificate", "VCEK"},
		{"an extension twice, signed by the ASK", issue(func(v *snptest.VEK) {
			v.Extensions = func(exts []pkix.Extension) []pkix.Extension { return append(exts, exts[extensionOf(exts, 3, 1)]) }
		}), evidence.Malformed, "certificate", "VCEK"},
		{"expired", issue(func(v *snptest.VEK) { v.After = simulatedNow().Add(-time.Second) }), evidence.Stale, "validity", "VCEK"},
		{"not yet valid", issue(func(v *snptest.VEK) { v.Before = simulatedNow().Add(time.Second) }), evidence.Stale, "validity", "VCEK"},
		{"another kind of key", func(s *simulated) {
			s.onlyItems()
			v := s.vekOf()
			v.Kind = snp.VLEK
			s.item(a.IssueVEK(s.chip.Key(), v))
		}, evidence.Untrusted, "signing-key", "SIGNING_KEY"},
		{"a VCEK for a report that says VLEK", func(s *simulated) {
			s.onlyItems()
			s.item(a.IssueVEK(s.chip.Key(), s.vekOf()))
			s.guest.Key = snp.VLEK
		}, evidence.Untrusted, "signing-key", "SIGNING_KEY"},
		{"another line", func(s *simulated) { s.chip.Model = 0x01 }, evidence.Untrusted, "line", "CPUID_FAM_ID"},
		{"another key", func(s *simulated) {
			s.onlyItems()
			s.item(a.IssueVEK(a.Chip(snp.Genoa).Key(), s.vekOf()))
		}, evidence.BadSignature, "signature", "SIGNATURE"},
		{"another chip", issue(func(v *snptest.VEK) { v.Chip[63]++ }), evidence.Untrusted, "chip", "CHIP_ID"},
		{"a masked chip", func(s *simulated) { s.chip.MaskChipID = true }, evidence.Untrusted, "chip", "CHIP_ID"},
		{"no certificate of a masked chip", func(s *simulated) {
			s.chip.MaskChipID = true
			s.cfg.AllowMaskedChipID = true
			s.ev = func(ev *evidence.Evidence) { ev.Items = nil }
		}, evidence.Unavailable, "endorsement", "VCEK"},
		{"no certificate of a VLEK", func(s *simulated) {
			s.guest.Key = snp.VLEK
			s.ev = func(ev *evidence.Evidence) { ev.Items = nil }
		}, evidence.Unavailable, "endorsement", "VLEK"},
		{"no certificate and a Source out of order", func(s *simulated) {
			s.cfg.Source = broken{}
			s.ev = func(ev *evidence.Evidence) { ev.Items = nil }
		}, evidence.Unavailable, "endorsement", "VCEK"},
		{"a wrong certificate and a Source out of order", func(s *simulated) {
			s.cfg.Source = broken{}
			s.item([]byte("x"))
		}, evidence.Unavailable, "endorsement", "VCEK"},
		{"no certificate but a Source's answer that is none", func(s *simulated) {
			name := snp.VCEKName(s.chip.ID(), s.chip.Reported)
			s.cfg.Source = overlay{files{name: {{Data: []byte("<html>")}}}, s.cfg.Source}
			s.ev = func(ev *evidence.Evidence) { ev.Items = nil }
		}, evidence.Unavailable, "endorsement", "VCEK"},
		{"bootloader", issue(func(v *snptest.VEK) { v.TCB.Bootloader++ }), evidence.Untrusted, "tcb", "REPORTED_TCB"},
		{"TEE", issue(func(v *snptest.VEK) { v.TCB.TEE++ }), evidence.Untrusted, "tcb", "REPORTED_TCB"},
		{"firmware", issue(func(v *snptest.VEK) { v.TCB.Firmware-- }), evidence.Untrusted, "tcb", "REPORTED_TCB"},
		{"microcode", issue(func(v *snptest.VEK) { v.TCB.Microcode-- }), evidence.Untrusted, "tcb", "REPORTED_TCB"},
	})
	testRefusals(t, snp.Turin, []refusal{
		{"FMC", issue(func(v *snptest.VEK) { v.TCB.FMC++ }), evidence.Untrusted, "tcb", "REPORTED_TCB"},
		{"another chip of 8 bytes", issue(func(v *snptest.VEK) { v.Chip[7]++ }), evidence.Untrusted, "chip", "CHIP_ID"},
		{"bytes after a chip of 8", put(0x1A0+8, 1), evidence.Untrusted, "chip", "CHIP_ID"},
	})
}

func TestMaskedChipIsKnownFromTheCertificate(t *testing.T) {
	s := simulate(snp.Turin)
	s.chip.MaskChipID = true
	s.cfg.AllowMaskedChipID = true
	got, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := snp.ClaimsOf(got); c.Chip != s.chip.ID() || c.ChipID() != (snp.ChipID{}) {
		t.Errorf("chip %x, CHIP_ID %x", c.Chip, c.ChipID())
	}
	t.Run("and another chip is still refused", func(t *testing.T) {
		s := simulate(snp.Turin)
		s.cfg.AllowMaskedChipID = true
		issue(func(v *snptest.VEK) { v.Chip[0]++ })(s)
		got, err := s.verify(t)
		wantRefused(t, got, err, evidence.Untrusted, "chip")
	})
}

// A VLEK belongs to no chip: whether the host masks CHIP_ID is no matter, and
// no chip is claimed.
func TestVLEKReportMayHaveAChipID(t *testing.T) {
	s := simulate(snp.Milan)
	s.guest.Key = snp.VLEK
	put(0x1A0, 1, 2, 3)(s)
	got, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := snp.ClaimsOf(got); c.Chip != (snp.ChipID{}) || c.ChipID() == (snp.ChipID{}) {
		t.Errorf("chip %x, CHIP_ID %x", c.Chip, c.ChipID())
	}
}

func TestIssuersExpire(t *testing.T) {
	s := simulate(snp.Genoa)
	s.onlyItems()
	issue(func(v *snptest.VEK) { v.After = simulatedNow().AddDate(40, 0, 0) })(s)
	ark, err := x509.ParseCertificate(s.cfg.Anchors[0].ARK)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{ark.NotAfter.Add(time.Second), ark.NotBefore.Add(-time.Second)} {
		s.cfg.Time = func() time.Time { return at }
		got, err := s.verify(t)
		if e := wantRefused(t, got, err, evidence.Stale, "validity"); e.Field != "ARK" {
			t.Errorf("field %s", e.Field)
		}
	}
}

// extensionOf is the place of the extension 1.3.6.1.4.1.3704.1.<arc> in exts.
func extensionOf(exts []pkix.Extension, arc ...int) int {
	id := append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...)
	return slices.IndexFunc(exts, func(e pkix.Extension) bool { return e.Id.Equal(id) })
}

func TestStrictProfile(t *testing.T) {
	value := func(v []byte, arc ...int) func(*snptest.VEK) {
		return func(k *snptest.VEK) {
			k.Extensions = func(exts []pkix.Extension) []pkix.Extension {
				exts[extensionOf(exts, arc...)].Value = v
				return exts
			}
		}
	}
	add := func(e pkix.Extension) func(*snptest.VEK) {
		return func(k *snptest.VEK) {
			k.Extensions = func(exts []pkix.Extension) []pkix.Extension { return append(exts, e) }
		}
	}
	own := func(arc ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...)
	}
	var cases []refusal
	refuse := func(claim string, edit func(*snptest.VEK)) {
		cases = append(cases, refusal{claim, issue(edit), evidence.Untrusted, "profile", "VCEK"})
	}
	for name, arc := range map[string][]int{
		"structVersion": {1}, "productName": {2}, "bl": {3, 1}, "tee": {3, 2}, "snp": {3, 3}, "spl4": {3, 4},
		"spl5": {3, 5}, "spl6": {3, 6}, "spl7": {3, 7}, "ucode": {3, 8}, "hwID": {4},
	} {
		refuse("without "+name, func(k *snptest.VEK) {
			k.Extensions = func(exts []pkix.Extension) []pkix.Extension {
				i := extensionOf(exts, arc...)
				return slices.Delete(exts, i, i+1)
			}
		})
		refuse(name+" critical", func(k *snptest.VEK) {
			k.Extensions = func(exts []pkix.Extension) []pkix.Extension {
				exts[extensionOf(exts, arc...)].Critical = true
				return exts
			}
		})
	}
	refuse("structVersion of Turin", value([]byte{2, 1, 1}, 1))
	refuse("productName of Milan", value([]byte("\x16\x05Milan"), 2))
	refuse("productName that begins as Genoa", value([]byte("\x16\x06Genoax"), 2))
	refuse("productName with more than a stepping", value([]byte("\x16\x09Genoa-B0x"), 2))
	refuse("productName as UTF8String", value([]byte("\x0C\x05Genoa"), 2))
	refuse("productName with a byte more", value([]byte("\x16\x05Genoax"), 2))
	refuse("productName with a byte less", value([]byte("\x16\x06Genoa"), 2))
	refuse("productName that does not print", value([]byte("\x16\x07Genoa-\x01"), 2))
	refuse("productName empty", value([]byte("\x16\x00"), 2))
	refuse("INTEGER not canonical", value([]byte{2, 2, 0, 10}, 3, 1))
	refuse("INTEGER with a byte more", value([]byte{2, 1, 10, 0}, 3, 1))
	refuse("INTEGER of 9 bits", value([]byte{2, 2, 1, 10}, 3, 1))
	refuse("INTEGER below zero", value([]byte{2, 1, 0xFF}, 3, 2))
	refuse("an INTEGER that is none", value([]byte{1, 1, 0}, 3, 2))
	refuse("spl4 not zero", value([]byte{2, 1, 1}, 3, 4))
	refuse("spl7 not zero", value([]byte{2, 1, 1}, 3, 7))
	refuse("hwID of 63 bytes", value(bytes.Repeat([]byte{4}, 63), 4))
	refuse("hwID of 8 bytes", value(bytes.Repeat([]byte{4}, 8), 4))
	refuse("hwID in an OCTET STRING", value(append([]byte{4, 64}, bytes.Repeat([]byte{4}, 64)...), 4))
	refuse("hwID zero", value(make([]byte, 64), 4))
	refuse("fmc", add(pkix.Extension{Id: own(3, 9), Value: []byte{2, 1, 0}}))
	refuse("CSP_ID", add(pkix.Extension{Id: own(5), Value: []byte("\x16\x04CN=x")}))
	refuse("key usage", add(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 0x80}}))
	refuse("another subject", func(k *snptest.VEK) {
		k.Edit = func(tbs []byte) { copy(tbs[bytes.Index(tbs, []byte("SEV-VCEK")):], "SEV-VLEK") }
	})
	refuse("another organization of the subject", func(k *snptest.VEK) {
		k.Edit = func(tbs []byte) { copy(tbs[bytes.LastIndex(tbs, []byte("Advanced Micro")):], "Advanced Macro") }
	})
	refuse("version 2 of X.509", func(k *snptest.VEK) {
		k.Edit = func(tbs []byte) { tbs[bytes.Index(tbs, []byte{0xA0, 3, 2, 1, 2})+4] = 1 }
	})
	testRefusals(t, snp.Genoa, cases)
}

func TestStrictProfileOfTheKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	testRefusals(t, snp.Genoa, []refusal{{"P-256", func(s *simulated) {
		s.onlyItems()
		s.item(simulatedAMD().IssueVEK(&key.PublicKey, s.vekOf()))
	}, evidence.Untrusted, "profile", "VCEK"}})
}

func TestStrictProfileOfTurinAndVLEK(t *testing.T) {
	own := func(arc ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...)
	}
	add := func(e pkix.Extension) func(*snptest.VEK) {
		return func(k *snptest.VEK) {
			k.Extensions = func(exts []pkix.Extension) []pkix.Extension { return append(exts, e) }
		}
	}
	drop := func(arc ...int) func(*snptest.VEK) {
		return func(k *snptest.VEK) {
			k.Extensions = func(exts []pkix.Extension) []pkix.Extension {
				i := extensionOf(exts, arc...)
				return slices.Delete(exts, i, i+1)
			}
		}
	}
	testRefusals(t, snp.Turin, []refusal{
		{"Turin with spl4", issue(add(pkix.Extension{Id: own(3, 4), Value: []byte{2, 1, 0}})), evidence.Untrusted, "profile", "VCEK"},
		{"Turin without fmc", issue(drop(3, 9)), evidence.Untrusted, "profile", "VCEK"},
		{"Turin with an hwID of 64 bytes", issue(func(k *snptest.VEK) {
			k.Extensions = func(exts []pkix.Extension) []pkix.Extension {
				i := extensionOf(exts, 4)
				exts[i].Value = append(exts[i].Value[:8:8], make([]byte, 56)...)
				return exts
			}
		}), evidence.Untrusted, "profile", "VCEK"},
	})
	vlek := func(edit func(*snptest.VEK)) func(*simulated) {
		return func(s *simulated) { s.guest.Key = snp.VLEK; issue(edit)(s) }
	}
	testRefusals(t, snp.Milan, []refusal{
		{"VLEK with hwID", vlek(add(pkix.Extension{Id: own(4), Value: bytes.Repeat([]byte{4}, 64)})), evidence.Untrusted, "profile", "VLEK"},
		{"VLEK without CSP_ID", vlek(drop(5)), evidence.Untrusted, "profile", "VLEK"},
		{"VLEK signed by the ASK", vlek(func(k *snptest.VEK) { k.By = snptest.ASK }), evidence.Untrusted, "profile", "VLEK"},
	})
}

func TestItemThatDoesNotFitIsReplacedBySource(t *testing.T) {
	for claim, edit := range map[string]func(*snptest.VEK){
		"another TCB":  func(v *snptest.VEK) { v.TCB.Microcode-- },
		"another chip": func(v *snptest.VEK) { v.Chip[0]++ },
		"expired":      func(v *snptest.VEK) { v.After = simulatedNow().Add(-time.Second) },
		"by the ARK":   func(v *snptest.VEK) { v.By = snptest.ARK },
	} {
		s := simulate(snp.Genoa)
		v := s.vekOf()
		edit(&v)
		s.item(simulatedAMD().IssueVEK(s.chip.Key(), v))
		if _, err := s.verify(t); err != nil {
			t.Errorf("%s: %v", claim, err)
		}
	}
}

// Who sorts out why none of many certificates fits is told of the one that nearly does.
func TestClosestCertificateIsReported(t *testing.T) {
	a := simulatedAMD()
	for _, first := range []bool{true, false} {
		s := simulate(snp.Genoa)
		expired, other := s.vekOf(), s.vekOf()
		expired.After = simulatedNow().Add(-time.Second)
		other.Chip[0]++
		ders := [][]byte{a.IssueVEK(s.chip.Key(), expired), a.IssueVEK(s.chip.Key(), other)}
		if first {
			slices.Reverse(ders)
		}
		s.item(ders[0])
		s.cfg.Source = overlay{files{snp.VCEKName(s.chip.ID(), s.chip.Reported): {{Data: ders[1]}}}, s.cfg.Source}
		got, err := s.verify(t)
		wantRefused(t, got, err, evidence.Stale, "validity")
	}
}

// Several VLEKs may be for one TCB: of two providers, or of two years. Only the
// signature tells which of them is meant.
func TestVLEKsOfOneTCB(t *testing.T) {
	a := simulatedAMD()
	for _, tt := range []struct {
		claim  string
		item   int // which VLEK comes along, if any: 1 signed, 2 is another
		source []int
		want   error
	}{
		{"the right one first", 0, []int{1, 2}, nil},
		{"the right one second", 0, []int{2, 1}, nil},
		{"another came along", 2, []int{1}, nil},
		{"another came along, and the Source has none", 2, nil, evidence.BadSignature},
		{"others only", 2, []int{2, 2}, evidence.BadSignature},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			s := simulate(snp.Milan)
			s.guest.Key = snp.VLEK
			mine := s.evidence(t).Items[0].Data
			veks, err := snp.TableVEKs(mine)
			if err != nil || len(veks) != 1 {
				t.Fatal(veks, err)
			}
			other := s.vekOf()
			other.CSP = "CN=another.example.com"
			ders := [][]byte{1: veks[0], 2: a.IssueVEK(a.Chip(snp.Milan).Key(), other)}
			var answers []evidence.Collateral
			for _, i := range tt.source {
				answers = append(answers, evidence.Collateral{Data: ders[i]})
			}
			s.cfg.Source = overlay{files{snp.VLEKName(s.chip.Reported): answers}, s.cfg.Source}
			s.ev = func(ev *evidence.Evidence) { ev.Items = nil }
			if tt.item != 0 {
				s.item(ders[tt.item])
			}
			got, err := s.verify(t)
			if tt.want != nil {
				wantRefused(t, got, err, evidence.BadSignature, "signature")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c, _ := snp.ClaimsOf(got); c.CSP != s.chip.CSP {
				t.Errorf("CSP %q did not sign", c.CSP)
			}
		})
	}
}

// An error tells how long the evidence is, not how much of it was looked at.
func TestErrorTellsTheLength(t *testing.T) {
	s := simulate(snp.Genoa)
	s.guest.Fault = func(b []byte) []byte { return append(b, make([]byte, 1416)...) }
	got, err := s.verify(t)
	wantRefused(t, got, err, evidence.Malformed, "size")
	if !strings.Contains(err.Error(), "2600 bytes") {
		t.Error(err)
	}
}

// crypto/x509 quotes what it can't parse.
func TestErrorsDoNotQuoteCertificates(t *testing.T) {
	s := simulate(snp.Genoa)
	issue(func(v *snptest.VEK) {
		v.Extensions = func(exts []pkix.Extension) []pkix.Extension {
			return append(exts, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: []byte("\x30\x0F\x86\x0Dhttp://\x00quote")})
		}
	})(s)
	got, err := s.verify(t)
	wantRefused(t, got, err, evidence.Malformed, "certificate")
	if strings.Contains(err.Error(), "quote") {
		t.Error(err)
	}
}

// counting is a Source that counts what it is asked and refuses if ctx is done.
type counting struct {
	evidence.Source
	asked map[string]int
}

func (c counting) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	c.asked[name]++
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.Source.Get(ctx, name)
}

func TestContextReachesTheSource(t *testing.T) {
	s := simulate(snp.Genoa)
	s.ev = func(ev *evidence.Evidence) { ev.Items = nil }
	s.cfg.Source = counting{s.cfg.Source, map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := newVerifier(t, s.cfg).Verify(ctx, s.evidence(t), bindingOf(t, "nonce and key"))
	wantRefused(t, got, err, evidence.Unavailable, "endorsement")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not the cause", err)
	}
}

// Nobody is asked, and nothing is paid, for evidence that is not bound.
func TestBindingIsComparedFirst(t *testing.T) {
	s := simulate(snp.Genoa)
	asked := map[string]int{}
	s.cfg.Source = counting{s.cfg.Source, asked}
	s.item([]byte("x"))
	s.guest.Fault = func(b []byte) []byte { b[0x050]++; return b }
	got, err := s.verify(t)
	wantRefused(t, got, err, evidence.NotBound, "binding")
	if len(asked) != 0 {
		t.Errorf("asked for %v", asked)
	}
}

// A chip without an id has no certificate to ask for.
func TestNobodyIsAskedForAMaskedChip(t *testing.T) {
	s := simulate(snp.Genoa)
	s.chip.MaskChipID = true
	s.cfg.AllowMaskedChipID = true
	asked := map[string]int{}
	s.cfg.Source = counting{s.cfg.Source, asked}
	s.ev = func(ev *evidence.Evidence) { ev.Items = nil }
	got, err := s.verify(t)
	wantRefused(t, got, err, evidence.Unavailable, "endorsement")
	if len(asked) != 0 {
		t.Errorf("asked for %v", asked)
	}
}

func TestOnlySixteenCandidatesAreTried(t *testing.T) {
	for n, want := range map[int]bool{15: true, 16: false} {
		s := simulate(snp.Genoa)
		name := snp.VCEKName(s.chip.ID(), s.chip.Reported)
		right, err := s.cfg.Source.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		many := append(slices.Repeat([]evidence.Collateral{{Data: []byte("x")}}, n), right...)
		s.cfg.Source = overlay{files{name: many}, s.cfg.Source}
		s.ev = func(ev *evidence.Evidence) { ev.Items = nil }
		if _, err := s.verify(t); (err == nil) != want {
			t.Errorf("%d wrong ones before the right one: %v", n, err)
		}
	}
}

// Of a table with both certificates the one for the key that signed is judged
// first, and so the error is about it.
func TestErrorIsAboutTheCertificateOfThatKind(t *testing.T) {
	for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
		s := simulate(snp.Milan)
		s.onlyItems()
		s.guest.Key = kind
		der := map[snp.KeyKind][]byte{}
		for _, k := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
			v := s.vekOf()
			v.Kind, v.After = k, simulatedNow().Add(-time.Second)
			der[k] = simulatedAMD().IssueVEK(s.chip.Key(), v)
		}
		s.ev = func(ev *evidence.Evidence) {
			ev.Items[0].Data = certTable(entry{vcekGUID, der[snp.VCEK]}, entry{vlekGUID, der[snp.VLEK]})
		}
		got, err := s.verify(t)
		if e := wantRefused(t, got, err, evidence.Stale, "validity"); e.Field != kind.String() {
			t.Errorf("field %s, want %v", e.Field, kind)
		}
	}
}

func TestProfileTakesTheLargestAndTheSmallest(t *testing.T) {
	for claim, edit := range map[string]func(*simulated){
		"a security version of 255": func(s *simulated) {
			for _, tcb := range []*snp.TCB{&s.chip.Reported, &s.chip.Committed, &s.chip.Current} {
				tcb.Microcode = 255
			}
		},
		"a CSP_ID of one character":  func(s *simulated) { s.guest.Key, s.chip.CSP = snp.VLEK, " " },
		"a CSP_ID of 127 characters": func(s *simulated) { s.guest.Key, s.chip.CSP = snp.VLEK, strings.Repeat("~", 127) },
	} {
		s := simulate(snp.Milan)
		edit(s)
		if _, err := s.verify(t); err != nil {
			t.Errorf("%s: %v", claim, err)
		}
	}
}
