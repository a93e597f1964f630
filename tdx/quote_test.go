package tdx_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

func TestParseGenuineQuotes(t *testing.T) {
	for _, g := range genuineQuotes(t) {
		t.Run(g.Name, func(t *testing.T) {
			q, err := tdx.ParseQuote(g.raw(t))
			if err != nil {
				t.Fatal(err)
			}
			if g.BodyType == 0 { // of version 4, which does not name it
				g.BodyType = tdx.TD10
			}
			little := func(n uint64) string { return hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, n)) }
			svn2, has2 := q.TEETCBSVN2()
			if has2 != (g.SVN2 != "") {
				t.Errorf("TEE_TCB_SVN_2: %v", has2)
			}
			if !has2 {
				svn2 = tdx.SVN{}
				g.SVN2 = fmt.Sprintf("%x", svn2)
			}
			for _, c := range []struct{ name, got, want string }{
				{"version", fmt.Sprint(q.Version()), fmt.Sprint(g.Version)},
				{"body", fmt.Sprint(q.BodyType()), fmt.Sprint(g.BodyType)},
				{"SVN", fmt.Sprintf("%x", q.TEETCBSVN()), g.SVN},
				{"SVN 2", fmt.Sprintf("%x", svn2), g.SVN2},
				{"attributes", little(uint64(q.Attributes())), g.Attributes},
				{"XFAM", little(q.XFAM()), g.XFAM},
				{"MRSEAM", fmt.Sprintf("%x", q.MRSEAM()), g.MRSEAM},
			} {
				if c.got != c.want {
					t.Errorf("%s is %s, want %s", c.name, c.got, c.want)
				}
			}
		})
	}
}

// The quote of go-tdx-guest has a text appended, which somebody else could have
// done. Without it the quote is genuine, as far as is known without collateral.
func TestQuoteOfGoTdxGuest(t *testing.T) {
	quote, ok := bytes.CutSuffix(testdata.RawQuote, []byte("\nextra bytes(only for testing purpose)\n"))
	if !ok {
		t.Fatal("another quote")
	}
	cfg := tdx.Config{Anchors: tdx.Intel(), Source: files{}, Time: at(time.Date(2023, 7, 1, 0, 0, 0, 0, time.UTC)), SkipRevocationUnsafe: true, SkipTCBUnsafe: true}
	v := newVerifier(t, cfg)
	got, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: testdata.RawQuote}, bound(t, quote))
	wantRefused(t, got, err, evidence.Malformed, "padding")
	if _, err = v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: quote}, bound(t, quote)); err != nil {
		t.Error(err)
	}
	cfg.SkipRevocationUnsafe = false
	got, err = newVerifier(t, cfg).Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: quote}, bound(t, quote))
	wantRefused(t, got, err, evidence.Unavailable, "revocation")
}

func TestParseQuoteRefuses(t *testing.T) {
	f := newFake(t)
	put := func(at int, bs ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], bs); return b }
	}
	n := abi.BodyV5 + abi.TD15Size // where the size of the signature data is
	cert := n + 4 + 64 + 64        // type and size of the certification data
	auth := cert + 6 + 384 + 64    // size of the authentication data
	inner := auth + 2 + 32         // type and size of the inner certification data
	const m, u = evidence.Malformed, evidence.Unsupported
	for _, c := range []struct {
		claim        string
		edit         func([]byte) []byte
		reason       evidence.Reason
		check, field string
	}{
		{"nothing", func([]byte) []byte { return nil }, m, "size", "Quote"},
		{"half a header", func(b []byte) []byte { return b[:47] }, m, "size", "Quote"},
		{"too long", func(b []byte) []byte { return append(b, make([]byte, tdx.MaxQuoteSize)...) }, m, "size", "Quote"},
		{"version 3", put(0, 3), u, "version", "Version"},
		{"version 6", put(0, 6), u, "version", "Version"},
		{"version 0x0105", put(1, 1), u, "version", "Version"},
		{"ECDSA P-384", put(2, 3), u, "header", "Attestation Key Type"},
		{"SGX", put(4, 0), u, "header", "TEE Type"},
		{"a TEE type of three bytes", put(6, 1), u, "header", "TEE Type"},
		{"reserved", put(8, 1), m, "header", "Reserved"},
		{"reserved, last byte", put(11, 1), m, "header", "Reserved"},
		{"an enclave of another vendor", put(12, 0), u, "qe-vendor", "QE Vendor ID"},
		{"an enclave of another vendor, last byte", put(27, 0), u, "qe-vendor", "QE Vendor ID"},
		{"no descriptor", func(b []byte) []byte { return b[:53] }, m, "body", "TD Quote Body Descriptor"},
		{"body of an enclave", put(48, 1), u, "body", "TD Quote Body Type"},
		{"body type 4", put(48, 4), u, "body", "TD Quote Body Type"},
		{"body type 0x0103", put(49, 1), u, "body", "TD Quote Body Type"},
		{"size of a TD report 1.0", put(50, 0x48, 0x02), m, "body", "Size"},
		{"type of a TD report 1.0", put(48, 2), m, "body", "Size"},
		{"body cut short", func(b []byte) []byte { return b[:n-1] }, m, "body", "TD Quote Body"},
		{"no signature data", func(b []byte) []byte { return b[:n] }, m, "signature-data", "Quote Signature Data Len"},
		{"signature data cut short", func(b []byte) []byte { return b[:len(b)-1] }, m, "signature-data", "Quote Signature Data Len"},
		{"signature data of no size", put(n, 0, 0, 0, 0), m, "signature-data", "Quote Signature Data"},
		{"signature data of a signature", put(n, 64, 0, 0, 0), m, "signature-data", "Quote Signature Data"},
		{"certification data without enclave", put(cert, 5), u, "signature-data", "Certification Data Type"},
		{"certification data too short", put(cert+2, 1), m, "signature-data", "Size of Certification Data"},
		{"certification data too long", put(cert+5, 0xFF), m, "signature-data", "Size of Certification Data"},
		{"authentication data longer than all", put(auth, 0xFF, 0xFF), m, "signature-data", "QE Report Certification Data"},
		{"an encrypted PPID", put(inner, 3), u, "signature-data", "QE Certification Data Type"},
		{"chain too short", put(inner+2, 1), m, "signature-data", "Size of QE Certification Data"},
		{"chain too long", put(inner+5, 0x80), m, "signature-data", "Size of QE Certification Data"},
		{"padding", func(b []byte) []byte { return append(b, 0, 0, 1, 0) }, m, "padding", "Quote"},
		{"padding that starts", func(b []byte) []byte { return append(b, 1) }, m, "padding", "Quote"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			q, err := tdx.ParseQuote(c.edit(f.quote()))
			var e *evidence.Error
			if !errors.As(err, &e) || e.Reason != c.reason || e.Check != c.check || e.Field != c.field || e.Format != tdx.Format {
				t.Errorf("got %#v, want %s of check %s, field %s", err, c.reason, c.check, c.field)
			}
			if q.Version() != 0 || q.MRTD() != [48]byte{} {
				t.Error("a quote comes with the error")
			}
		})
	}
	if _, err := tdx.ParseQuote(append(f.quote(), make([]byte, 3000)...)); err != nil {
		t.Errorf("zero padding: %v", err)
	}
}

// Each field is read from where it is, and every other byte left alone.
func TestQuoteFields(t *testing.T) {
	f := newFake(t)
	var body []byte
	f.td.Edit = func(signed []byte) {
		copy(signed[abi.UserData:], "twenty bytes of user")
		body = signed[abi.BodyV5:]
		for i := range body {
			body[i] = byte(i*7 + i>>8)
		}
		body = bytes.Clone(body)
	}
	q, err := tdx.ParseQuote(f.quote())
	if err != nil {
		t.Fatal(err)
	}
	is := func(name string, got []byte, at int) {
		t.Helper()
		if !bytes.Equal(got, body[at:at+len(got)]) {
			t.Errorf("%s is %x", name, got)
		}
	}
	svn, svn2, ok := q.TEETCBSVN(), tdx.SVN{}, false
	if svn2, ok = q.TEETCBSVN2(); !ok {
		t.Error("no TEE_TCB_SVN_2")
	}
	td, ok := q.MRServiceTD()
	if !ok {
		t.Error("no MRSERVICETD")
	}
	seam, signer, mrtd, config, owner, ownerConfig, data := q.MRSEAM(), q.MRSignerSEAM(), q.MRTD(), q.MRConfigID(), q.MROwner(), q.MROwnerConfig(), q.ReportData()
	is("TEE_TCB_SVN", svn[:], 0)
	is("MRSEAM", seam[:], 16)
	is("MRSIGNERSEAM", signer[:], 64)
	is("SEAMATTRIBUTES", binary.LittleEndian.AppendUint64(nil, q.SEAMAttributes()), 112)
	is("TDATTRIBUTES", binary.LittleEndian.AppendUint64(nil, uint64(q.Attributes())), 120)
	is("XFAM", binary.LittleEndian.AppendUint64(nil, q.XFAM()), 128)
	is("MRTD", mrtd[:], 136)
	is("MRCONFIGID", config[:], 184)
	is("MROWNER", owner[:], 232)
	is("MROWNERCONFIG", ownerConfig[:], 280)
	for i, r := range q.RTMRs() {
		is(fmt.Sprintf("RTMR%d", i), r[:], 328+48*i)
	}
	is("REPORTDATA", data[:], 520)
	is("TEE_TCB_SVN_2", svn2[:], 584)
	is("MRSERVICETD", td[:], 600)
	if user := q.UserData(); string(user[:]) != "twenty bytes of user" {
		t.Errorf("user data %q", user)
	}
	if svn.Module() != svn[0] || svn.ModuleVersion() != svn[1] {
		t.Error("module")
	}
}

func TestZeroQuoteClaimsZeros(t *testing.T) {
	var q tdx.Quote
	if _, ok := q.TEETCBSVN2(); ok {
		t.Error("TEE_TCB_SVN_2")
	}
	if _, ok := q.MRServiceTD(); ok {
		t.Error("MRSERVICETD")
	}
	if q.Version() != 0 || q.BodyType() != 0 || q.MRTD() != [48]byte{} || q.Attributes() != 0 || q.UserData() != [20]byte{} {
		t.Error("not zeros")
	}
	for name, value := range (&tdx.Claims{}).All() {
		if value.IsZero() {
			t.Errorf("claim %s of nothing", name)
		}
	}
}

func TestQuoteIsAView(t *testing.T) {
	raw := newFake(t).quote()
	before := bytes.Clone(raw)
	q, err := tdx.ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, before) {
		t.Error("ParseQuote modified its input")
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = tdx.ParseQuote(raw) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	raw[54+abi.MRTD] = 7
	if m := q.MRTD(); m[0] != 7 {
		t.Error("the Quote does not share memory with what it was parsed from")
	}
}

func FuzzParseQuote(f *testing.F) {
	k := newFake(f)
	f.Add(k.quote())
	k.td.Version = abi.V4
	f.Add(append(k.quote(), 0, 0, 0))
	f.Add(testdata.RawQuote)
	f.Add([]byte{})
	v := newVerifier(f, k.config())
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := tdx.ParseQuote(b)
		if err == nil && (q.Version() < 4 || q.Version() > 5 || q.BodyType() != tdx.TD10 && q.BodyType() != tdx.TD15 || q.Version() == 4 && q.BodyType() != tdx.TD10) {
			t.Error("parsed what is no quote")
		}
		if err != nil && !errors.Is(err, evidence.Malformed) && !errors.Is(err, evidence.Unsupported) {
			t.Errorf("neither malformed nor unsupported: %v", err)
		}
		for name, value := range q.All() {
			if name == "" || value.IsZero() {
				t.Errorf("claim %q: %v", name, value)
			}
		}
		got, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: b}, evidence.UncheckedBindingUnsafe())
		if (got == nil) == (err == nil) {
			t.Errorf("%v beside %v", got, err)
		}
	})
}
