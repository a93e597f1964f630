package tdx_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// fault is something that is wrong on a platform of the Platform CA.
type fault struct {
	name   string
	reason evidence.Reason
	make   func(*simulated)
}

// faults are those that each check has to find, and that nothing before finds.
func faults(t *testing.T) map[string][]fault {
	return map[string][]fault{
		"format": {
			{"another format", evidence.Unsupported, func(s *simulated) { s.ev = func(ev *evidence.Evidence) { ev.Format = "x" } }},
			{"layers", evidence.Malformed, func(s *simulated) { s.ev = func(ev *evidence.Evidence) { ev.Layers = []evidence.Evidence{*ev} } }},
		},
		"items": {
			{"a log that is none", evidence.Malformed, func(s *simulated) {
				s.ev = func(ev *evidence.Evidence) { ev.Items = []evidence.Item{{Type: tdx.CCEL, Data: []byte("x")}} }
			}},
			{"an item of no type", evidence.Malformed, func(s *simulated) { s.ev = func(ev *evidence.Evidence) { ev.Items = []evidence.Item{{}} } }},
			{"two logs of a type", evidence.Malformed, along(tdx.CCEL, ccelOf(), ccelOf())},
			{"half a log", evidence.Malformed, along(tdx.CCEL, ccelOf()[:32])},
			{"a log of other algorithms", evidence.Unsupported, along(tdx.CCEL, bytes.Replace(ccelOf(), []byte{0x0C, 0, 48, 0}, []byte{0x0B, 0, 32, 0}, 1))},
			{"a runtime log that is none", evidence.Malformed, along(tdx.RuntimeLog, []byte("{}"))},
		},
		"event-log": {
			{"an event that no register was extended with", evidence.BadSignature, along(tdx.RuntimeLog, runtimeLog(tdxtest.Event{RTMR: 3, Name: "app"}))},
			{"an event dropped", evidence.BadSignature, func(s *simulated) {
				s.td.Log = append(measured(), measured()...)
				s.td.Items = func([]evidence.Item) []evidence.Item { return measured().Items() }
			}},
		},
		"size": {
			{"nothing", evidence.Malformed, after(func([]byte) []byte { return nil })},
			{"half a header", evidence.Malformed, after(func(q []byte) []byte { return q[:abi.HeaderSize/2] })},
			{"more than a quote may have", evidence.Malformed, after(func(q []byte) []byte { return append(q, make([]byte, tdx.MaxQuoteSize+1-len(q))...) })},
		},
		"version": {
			{"version 3", evidence.Unsupported, func(s *simulated) { s.td.Version = 3 }},
			{"version 6", evidence.Unsupported, func(s *simulated) { s.td.Version = 6 }},
		},
		"header": {
			{"another key type", evidence.Unsupported, before(abi.KeyType, 3)},
			{"a quote of an SGX enclave", evidence.Unsupported, before(abi.TEEType, 0)},
			{"a reserved byte", evidence.Malformed, before(abi.HeaderReserved, 1)},
			{"the last reserved byte", evidence.Malformed, before(abi.VendorID-1, 1)},
		},
		"qe-vendor": {
			{"another vendor", evidence.Unsupported, before(abi.VendorID, 0)},
			{"the last byte of another", evidence.Unsupported, before(abi.UserData-1, 0)},
		},
		"body":           bodyFaults(),
		"signature-data": dataFaults(),
		"padding": {
			{"a byte", evidence.Malformed, after(func(q []byte) []byte { return append(q, 1) })},
			{"a byte after zeros", evidence.Malformed, after(func(q []byte) []byte { return append(append(q, make([]byte, 70)...), 1) })},
		},
		"binding": {
			{"another one", evidence.NotBound, func(s *simulated) {
				s.want = func() evidence.Binding { b, _ := evidence.NewBinding([]byte("nonce and kez")); return b }
			}},
			{"none", evidence.NotBound, func(s *simulated) { s.want = func() evidence.Binding { return evidence.Binding{} } }},
			{"more behind it", evidence.NotBound, before(abi.BodyV4+abi.ReportData+63, 1)},
		},
		"certificate": certificateFaults(),
		"chain":       chainFaults(),
		"profile":     profileFaults(t),
		"qe-report": {
			{"an enclave that the PCK did not sign for", evidence.BadSignature, data(func(d *tdxtest.SignatureData) { d.QEReport[abi.QEISVSVN]++ })},
			{"a bit of the signature", evidence.BadSignature, data(func(d *tdxtest.SignatureData) { d.QESignature[63] ^= 1 })},
			{"another platform's signature", evidence.BadSignature, func(s *simulated) {
				other := s.intel.Platform(tdx.PlatformCA)
				data(func(d *tdxtest.SignatureData) { d.Chain = other.Chain(nil) })(s)
			}},
		},
		"attestation-key": {
			{"another key", evidence.Untrusted, data(func(d *tdxtest.SignatureData) { d.Key[0] ^= 1 })},
			{"other authentication data", evidence.Untrusted, data(func(d *tdxtest.SignatureData) { d.QEAuth[0] ^= 1 })},
			{"no authentication data", evidence.Untrusted, data(func(d *tdxtest.SignatureData) { d.QEAuth = nil })},
			{"an enclave that reported another", evidence.Untrusted, func(s *simulated) { s.td.QE = func(r []byte) { r[abi.QEReportData] ^= 1 } }},
			{"an enclave that reported more", evidence.Untrusted, func(s *simulated) { s.td.QE = func(r []byte) { r[abi.QEReportData+63] = 1 } }},
		},
		"validity": validityFaults(),
		"signature": {
			{"a bit of the header", evidence.BadSignature, after(func(q []byte) []byte { q[abi.UserData] ^= 1; return q })},
			{"a bit of the body", evidence.BadSignature, after(func(q []byte) []byte { q[abi.BodyV4+abi.RTMR0] ^= 1; return q })},
			{"a bit of the signature", evidence.BadSignature, data(func(d *tdxtest.SignatureData) { d.Signature[0] ^= 1 })},
			{"zeros", evidence.BadSignature, data(func(d *tdxtest.SignatureData) { clear(d.Signature) })},
			{"by another platform", evidence.BadSignature, func(s *simulated) {
				var sig []byte
				s.intel.Platform(tdx.PlatformCA).Quote(tdxtest.TD{Data: func(d *tdxtest.SignatureData) { sig = d.Signature }}, simulatedBinding(t))
				data(func(d *tdxtest.SignatureData) { d.Signature = sig })(s)
			}},
			{"by the PCK", evidence.BadSignature, data(func(d *tdxtest.SignatureData) { d.Signature = d.QESignature })},
			{"of another version", evidence.BadSignature, func(s *simulated) {
				var sig []byte
				s.platform.Quote(tdxtest.TD{Data: func(d *tdxtest.SignatureData) { sig = d.Signature }}, simulatedBinding(t))
				s.td.Version = abi.V5
				data(func(d *tdxtest.SignatureData) { d.Signature = sig })(s)
			}},
		},
		"revocation": revocationFaults(),
		"tcb":        slices.Concat(documentFaults(), foreignFaults()),
	}
}

// along sends logs of a type along with the quote.
func along(kind string, logs ...[]byte) func(*simulated) {
	return func(s *simulated) {
		s.ev = func(ev *evidence.Evidence) {
			for _, l := range logs {
				ev.Items = append(ev.Items, evidence.Item{Type: kind, Data: l})
			}
		}
	}
}

// before writes a byte before the quote is signed.
func before(at int, b byte) func(*simulated) {
	return func(s *simulated) { s.td.Edit = func(signed []byte) { signed[at] = b } }
}

// after changes the quote after all is signed.
func after(change func([]byte) []byte) func(*simulated) {
	return func(s *simulated) { s.td.Fault = change }
}

// data changes the signature data after all is signed.
func data(change func(*tdxtest.SignatureData)) func(*simulated) {
	return func(s *simulated) { s.td.Data = change }
}

func bodyFaults() []fault {
	five := func(then func(*simulated)) func(*simulated) {
		return func(s *simulated) { s.td.Version = abi.V5; then(s) }
	}
	return []fault{
		{"of an SGX enclave", evidence.Unsupported, five(func(s *simulated) { s.td.Body = abi.BodySGX })},
		{"of a type to come", evidence.Unsupported, five(func(s *simulated) { s.td.Body = abi.BodyTD15 + 1 })},
		{"of no type", evidence.Unsupported, five(before(abi.BodyType, 0))},
		{"one byte too long", evidence.Malformed, five(before(abi.BodySize, abi.TD15Size&0xFF+1))},
		{"1.0 said to be 1.5", evidence.Malformed, five(func(s *simulated) {
			s.td.Body = tdx.TD10
			before(abi.BodyType, abi.BodyTD15)(s)
		})},
		{"cut in the descriptor", evidence.Malformed, five(after(func(q []byte) []byte { return q[:abi.BodyV5-1] }))},
		{"cut", evidence.Malformed, five(after(func(q []byte) []byte { return q[:abi.BodyV5+abi.TD15Size-1] }))},
		{"cut in version 4", evidence.Malformed, after(func(q []byte) []byte { return q[:abi.BodyV4+abi.TD10Size-1] })},
	}
}

// dataFaults are wrong types and sizes of the signature data of a quote of version 4.
func dataFaults() []fault {
	const (
		size      = abi.BodyV4 + abi.TD10Size
		certSize  = size + 4 + abi.SignatureSize + abi.KeySize + 2
		authSize  = certSize + 4 + abi.QEReportSize + abi.SignatureSize
		chainSize = authSize + 2 + 32 + 2
	)
	add := func(at int, n uint32) func(*simulated) {
		return after(func(q []byte) []byte {
			binary.LittleEndian.PutUint32(q[at:], binary.LittleEndian.Uint32(q[at:])+n)
			return q
		})
	}
	fs := []fault{
		{"not even a size", evidence.Malformed, after(func(q []byte) []byte { return q[:size+3] })},
		{"cut", evidence.Malformed, after(func(q []byte) []byte { return q[:len(q)-1] })},
		{"another type", evidence.Unsupported, data(func(d *tdxtest.SignatureData) { d.Type = abi.CertPCKChain })},
		{"more authentication data than there is", evidence.Malformed, after(func(q []byte) []byte {
			binary.LittleEndian.PutUint16(q[authSize:], 0xFFFF)
			return q
		})},
	}
	for kind := range uint16(abi.CertQEReport + 2) {
		if kind != abi.CertPCKChain {
			fs = append(fs, fault{fmt.Sprintf("no chain but type %d", kind), evidence.Unsupported, data(func(d *tdxtest.SignatureData) { d.QEType = kind })})
		}
	}
	for at, name := range map[int]string{size: "all", certSize: "certification data", chainSize: "chain"} {
		fs = append(fs,
			fault{name + " larger by one", evidence.Malformed, add(at, 1)},
			fault{name + " smaller by one", evidence.Malformed, add(at, 1<<32-1)},
			fault{name + " as large as can be", evidence.Malformed, after(func(q []byte) []byte {
				binary.LittleEndian.PutUint32(q[at:], 1<<32-1)
				return q
			})},
		)
	}
	return fs
}

// panics is a Source that must not be asked.
type panics struct{}

func (panics) Get(context.Context, string) ([]evidence.Collateral, error) {
	panic("the Source is asked about evidence that is refused")
}

// Every check finds its faults, for the right reason, and has some. The Source is
// asked only about evidence that is authentic.
func TestEveryFaultIsRefused(t *testing.T) {
	n := newSimulatedIntel()
	all, asked := faults(t), false
	for _, c := range tdx.Checks() {
		asked = asked || c.Name == "revocation"
		if len(all[c.Name]) == 0 {
			t.Errorf("no fault for check %q", c.Name)
		}
		for _, f := range all[c.Name] {
			t.Run(c.Name+"/"+f.name, func(t *testing.T) {
				s := simulate(n, tdx.PlatformCA)
				if f.make(s); !asked {
					s.source = panics{}
				}
				got, err := s.verify(t)
				wantRefused(t, got, err, f.reason, c.Name)
			})
		}
		delete(all, c.Name)
	}
	for name := range all {
		t.Errorf("faults for %q, which is no check", name)
	}
}

// What differs from a simulated platform's but is right all the same.
func TestHarmlessIsAccepted(t *testing.T) {
	n := newSimulatedIntel()
	for _, f := range harmless() {
		t.Run(f.name, func(t *testing.T) {
			s := simulate(n, tdx.PlatformCA)
			f.make(s)
			got, err := s.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if c, _ := tdx.ClaimsOf(got); c.TCB.Status != tdx.UpToDate {
				t.Errorf("status %s", c.TCB.Status)
			}
		})
	}
}

// authentication makes the quoting enclave report the key with other authentication
// data.
func (s *simulated) authentication(auth []byte) {
	var key []byte
	s.platform.Quote(tdxtest.TD{Data: func(d *tdxtest.SignatureData) { key = d.Key }}, evidence.UncheckedBindingUnsafe())
	sum := sha256.Sum256(slices.Concat(key, auth))
	s.td.QE = func(report []byte) { copy(report[abi.QEReportData:], sum[:]) }
	data(func(d *tdxtest.SignatureData) { d.QEAuth = auth })(s)
}

func harmless() []fault {
	now := simulatedNow()
	return []fault{
		{name: "nothing", make: func(*simulated) {}},
		{name: "padding", make: after(func(q []byte) []byte { return append(q, make([]byte, 8000-len(q)%8000)...) })},
		{name: "a chain without a zero byte", make: data(func(d *tdxtest.SignatureData) { d.Chain = bytes.TrimSuffix(d.Chain, []byte{0}) })},
		{name: "a PCK certificate from this second", make: func(s *simulated) { s.leaf(func(c *tdxtest.Certificate) { c.NotBefore = now }) }},
		{name: "a PCK certificate to this second", make: func(s *simulated) { s.leaf(func(c *tdxtest.Certificate) { c.NotAfter = now }) }},
		{name: "a version of 255, in two bytes", make: func(s *simulated) { s.platform.PCK.Components[15] = 0xFF }},
		{name: "the list of the other CA dropped", make: func(s *simulated) { delete(s.set, tdx.PCKCRLName(tdx.ProcessorCA)) }},
		{name: "another certificate revoked", make: func(s *simulated) {
			s.list(s.listName(), tdxtest.CRL{By: tdxtest.PlatformCA, Revoked: []*big.Int{big.NewInt(7)}})
		}},
		{name: "levels in another order", make: func(s *simulated) {
			s.info(func(i *tdxtest.TCBInfo) {
				slices.Reverse(i.Levels)
				slices.Reverse(i.Modules)
				slices.Reverse(i.Modules[0].Levels)
			})
		}},
		{name: "a stale set within the grace", make: func(s *simulated) {
			s.cfg.StaleGrace = hours(2)
			s.info(func(i *tdxtest.TCBInfo) { i.NextUpdate = now.Add(-hours(1)) })
			s.identity(func(q *tdxtest.QEIdentity) { q.NextUpdate = now.Add(-hours(2)) })
			s.list(s.listName(), tdxtest.CRL{By: tdxtest.PlatformCA, NextUpdate: now.Add(-hours(2))})
			s.list(tdx.RootCRLName(), tdxtest.CRL{NextUpdate: now.Add(-hours(2))})
		}},
		{name: "no authentication data", make: func(s *simulated) { s.authentication(nil) }},
		{name: "much authentication data", make: func(s *simulated) { s.authentication(make([]byte, 65535)) }},
		{name: "FMSPC in lower case", make: func(s *simulated) {
			s.info(func(i *tdxtest.TCBInfo) { i.FMSPC = strings.ToLower(i.FMSPC) })
		}},
		{name: "members that Intel adds", make: func(s *simulated) {
			for _, d := range signedDocuments() {
				d.text(`"version":`, `"more":{"x":[1,null]},"version":`)(s)
			}
		}},
		{name: "documents with white space", make: func(s *simulated) {
			for _, d := range signedDocuments() {
				d.text(`"version":`, " \t\"version\"\r\n:")(s)
				s.set[d.name(s)][0].Data = append(s.set[d.name(s)][0].Data, " \r\n"...)
			}
		}},
		{name: "lists in PEM", make: func(s *simulated) {
			for _, name := range []string{s.listName(), tdx.RootCRLName()} {
				text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: s.set[name][0].Data})
				s.set[name][0].Data = append(text, "  \n"...)
			}
		}},
		{name: "the least evaluation number", make: func(s *simulated) { s.cfg.MinEvaluationDataNumber = tdxtest.EvaluationDataNumber }},
		{name: "an earlier set, without a floor", make: func(s *simulated) { s.number(1) }},
		{name: "a later set", make: func(s *simulated) { s.cfg.MinEvaluationDataNumber = 18; s.number(20) }},
		{name: "behind as much rubbish as can be", make: func(s *simulated) {
			for name, c := range s.set {
				s.set[name] = append(make([]evidence.Collateral, 15), c...)
			}
		}},
		{name: "rubbish beside what is right", make: func(s *simulated) {
			for name, c := range s.set {
				rubbish := []evidence.Collateral{{Data: []byte("{")}, {Data: []byte{0x30}, Issuer: []byte("x")}}
				s.set[name] = slices.Concat(rubbish, c, rubbish)
			}
		}},
	}
}
