package tdx_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// broken is a Source that is out of order.
type broken struct{}

func (broken) Get(context.Context, string) ([]evidence.Collateral, error) {
	return nil, context.DeadlineExceeded
}

// revocationFaults are of both lists, and of what they revoke.
func revocationFaults() []fault {
	now := simulatedNow()
	fs := []fault{
		{"PCK revoked", evidence.Revoked, func(s *simulated) {
			s.list(s.listName(), tdxtest.CRL{By: tdxtest.PlatformCA, Revoked: []*big.Int{big.NewInt(7), new(big.Int).SetBytes(s.platform.PCK.Serial)}})
		}},
		{"CA revoked", evidence.Revoked, func(s *simulated) {
			s.list(tdx.RootCRLName(), tdxtest.CRL{Revoked: []*big.Int{serialOf(s.intel, tdxtest.PlatformCA)}})
		}},
		{"PCK revoked by the newer of two lists", evidence.Revoked, func(s *simulated) {
			s.set[s.listName()] = append(s.set[s.listName()], s.intel.SignCRL(tdxtest.CRL{
				By: tdxtest.PlatformCA, ThisUpdate: now, Revoked: []*big.Int{new(big.Int).SetBytes(s.platform.PCK.Serial)},
			}))
		}},
		{"lists swapped", evidence.Unavailable, func(s *simulated) {
			s.set[s.listName()], s.set[tdx.RootCRLName()] = s.set[tdx.RootCRLName()], s.set[s.listName()]
		}},
		{"list of the other CA", evidence.Unavailable, func(s *simulated) { s.set[s.listName()] = s.set[tdx.PCKCRLName(tdx.ProcessorCA)] }},
		{"list of the CA by the root", evidence.Unavailable, func(s *simulated) { s.set[s.listName()] = s.set[tdx.RootCRLName()] }},
		{"the Source is out of order", evidence.Unavailable, func(s *simulated) { s.source = broken{} }},
	}
	for _, by := range []tdxtest.Authority{tdxtest.Root, tdxtest.PlatformCA} {
		part, name := "root list ", tdx.RootCRLName()
		if by == tdxtest.PlatformCA {
			part, name = "PCK list ", tdx.PCKCRLName(tdx.PlatformCA)
		}
		add := func(what string, reason evidence.Reason, change func(*simulated)) {
			fs = append(fs, fault{part + what, reason, change})
		}
		list := func(c tdxtest.CRL) func(*simulated) {
			c.By = by
			return func(s *simulated) { s.list(name, c) }
		}
		add("dropped", evidence.Unavailable, func(s *simulated) { delete(s.set, name) })
		add("of no answers", evidence.Unavailable, func(s *simulated) { s.set[name] = nil })
		add("empty", evidence.Unavailable, func(s *simulated) { s.set[name] = []evidence.Collateral{{}} })
		add("expired", evidence.Stale, list(tdxtest.CRL{ThisUpdate: now.Add(-hours(2)), NextUpdate: now.Add(-time.Second)}))
		add("expired before the grace", evidence.Stale, func(s *simulated) {
			s.cfg.StaleGrace = hours(1)
			list(tdxtest.CRL{ThisUpdate: now.Add(-hours(2)), NextUpdate: now.Add(-hours(1) - time.Second)})(s)
		})
		add("of the future", evidence.Stale, list(tdxtest.CRL{ThisUpdate: now.Add(time.Second)}))
		add("without nextUpdate", evidence.Unavailable, list(tdxtest.CRL{Edit: func(l *tdxtest.TBSCertList) { l.NextUpdate = time.Time{} }}))
		add("with a critical extension", evidence.Unavailable, list(tdxtest.CRL{Edit: func(l *tdxtest.TBSCertList) {
			l.Extensions = append(l.Extensions, der.Extension("2.5.29.28", true, []byte{0x30, 0})) // issuingDistributionPoint
		}}))
		add("of another Intel", evidence.Unavailable, func(s *simulated) { s.set[name] = newSimulatedIntel().Set()[name] })
		add("signed by the TCB signer", evidence.Unavailable, func(s *simulated) { s.resign(name, tdxtest.TCBSigning, nil) })
		add("changed after signing", evidence.Unavailable, func(s *simulated) {
			d := s.set[name][0].Data
			s.set[name][0].Data = bytes.Replace(d, []byte("260531"), []byte("270531"), 1)
		})
		add("that is none", evidence.Unavailable, func(s *simulated) { s.set[name][0].Data = []byte("garbage") })
		add("that is PEM cut short", evidence.Unavailable, func(s *simulated) { s.set[name][0].Data = []byte("-----BEGIN X509 CRL-----\n") })
		add("that is too long", evidence.Unavailable, func(s *simulated) {
			text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: s.set[name][0].Data})
			s.set[name][0].Data = append(text, bytes.Repeat([]byte(" "), 1<<20)...)
		})
		add("behind too many that are none", evidence.Unavailable, func(s *simulated) {
			s.set[name] = append(make([]evidence.Collateral, 16), s.set[name]...)
		})
		add("followed by something", evidence.Unavailable, func(s *simulated) { s.set[name][0].Data = append(s.set[name][0].Data, 0) })
	}
	return fs
}

// resign makes the list called name be signed by another key.
func (s *simulated) resign(name string, by tdxtest.Authority, edit func([]byte) []byte) {
	s.set[name] = []evidence.Collateral{{Data: s.intel.Resign(by, s.set[name][0].Data, edit)}}
}

// serialOf returns the serial number of the certificate of a.
func serialOf(n *tdxtest.Intel, a tdxtest.Authority) *big.Int {
	var serial *big.Int
	n.Certificate(a, func(c *tdxtest.Certificate) { serial = c.Serial })
	return serial
}

// signedDocument is one of the two documents of a simulated Intel.
type signedDocument struct {
	kind   string
	member string
	name   func(*simulated) string
	body   func(*simulated) []byte
	head   func(s *simulated, edit func(issued, next *time.Time, number *uint32))
}

func signedDocuments() []signedDocument {
	return []signedDocument{
		{
			"TCB Info ", tdxtest.MemberTCBInfo, (*simulated).infoName,
			func(s *simulated) []byte { return s.intel.TCBInfo(s.platform.PCK.FMSPC).JSON() },
			func(s *simulated, edit func(_, _ *time.Time, _ *uint32)) {
				s.info(func(i *tdxtest.TCBInfo) { edit(&i.Issued, &i.NextUpdate, &i.Number) })
			},
		},
		{
			"QE identity ", tdxtest.MemberQEIdentity, func(*simulated) string { return tdx.QEIdentityName() },
			func(s *simulated) []byte { return s.intel.QEIdentity().JSON() },
			func(s *simulated, edit func(_, _ *time.Time, _ *uint32)) {
				s.identity(func(q *tdxtest.QEIdentity) { edit(&q.Issued, &q.NextUpdate, &q.Number) })
			},
		},
	}
}

// text replaces old in the document before it is signed. old is there.
func (d signedDocument) text(old, new string) func(*simulated) {
	return func(s *simulated) {
		body := d.body(s)
		if !bytes.Contains(body, []byte(old)) {
			panic("no " + old + " in " + d.kind)
		}
		s.set[d.name(s)] = []evidence.Collateral{s.intel.Sign(d.member, bytes.Replace(body, []byte(old), []byte(new), 1))}
	}
}

// after changes the document after it is signed.
func (d signedDocument) after(change func(*evidence.Collateral)) func(*simulated) {
	return func(s *simulated) { change(&s.set[d.name(s)][0]) }
}

// signer makes the document come with another certificate of its signer.
func (d signedDocument) signer(edit func(*tdxtest.Certificate)) func(*simulated) {
	return func(s *simulated) {
		signer := s.intel.Certificate(tdxtest.TCBSigning, edit)
		s.set[d.name(s)][0].Issuer = tdxtest.PEM(signer, s.intel.Certificate(tdxtest.Root, nil))
	}
}

// documentFaults are those that both documents may have.
func documentFaults() []fault {
	fs := []fault{
		{"documents swapped", evidence.Unavailable, func(s *simulated) {
			one, two := s.infoName(), tdx.QEIdentityName()
			s.set[one], s.set[two] = s.set[two], s.set[one]
		}},
		{"TCB Info of an earlier evaluation than the QE identity", evidence.Stale, func(s *simulated) {
			s.info(func(i *tdxtest.TCBInfo) { i.Number-- })
		}},
		{"QE identity of an earlier evaluation than the TCB Info", evidence.Stale, func(s *simulated) {
			s.identity(func(q *tdxtest.QEIdentity) { q.Number-- })
		}},
		{"both rolled back", evidence.Stale, func(s *simulated) {
			s.cfg.MinEvaluationDataNumber = tdxtest.EvaluationDataNumber
			s.number(tdxtest.EvaluationDataNumber - 1)
		}},
		{"nothing for this kind of platform", evidence.Unavailable, func(s *simulated) { s.source = s.intel.Set() }},
	}
	for _, d := range signedDocuments() {
		for _, f := range slices.Concat(currencyFaults(d), originFaults(d), textFaults(d)) {
			f.name = d.kind + f.name
			fs = append(fs, f)
		}
	}
	return fs
}

// currencyFaults are of a document that is not there or not to be relied on now.
func currencyFaults(d signedDocument) []fault {
	now := simulatedNow()
	head := func(edit func(issued, next *time.Time, number *uint32)) func(*simulated) {
		return func(s *simulated) { d.head(s, edit) }
	}
	return []fault{
		{"dropped", evidence.Unavailable, func(s *simulated) { delete(s.set, d.name(s)) }},
		{"of no answers", evidence.Unavailable, func(s *simulated) { s.set[d.name(s)] = nil }},
		{"empty", evidence.Unavailable, d.after(func(c *evidence.Collateral) { c.Data = nil })},
		{"behind too many that are none", evidence.Unavailable, func(s *simulated) {
			s.set[d.name(s)] = append(make([]evidence.Collateral, 16), s.set[d.name(s)]...)
		}},
		{"expired", evidence.Stale, head(func(_, next *time.Time, _ *uint32) { *next = now.Add(-time.Second) })},
		{"expired before the grace", evidence.Stale, func(s *simulated) {
			s.cfg.StaleGrace = hours(1)
			d.head(s, func(_, next *time.Time, _ *uint32) { *next = now.Add(-hours(1) - time.Second) })
		}},
		{"of the future", evidence.Stale, head(func(issued, _ *time.Time, _ *uint32) { *issued = now.Add(time.Second) })},
		{"of the future, whatever the grace", evidence.Stale, func(s *simulated) {
			s.cfg.StaleGrace = hours(1000)
			d.head(s, func(issued, _ *time.Time, _ *uint32) { *issued = now.Add(time.Second) })
		}},
		{"replaced before it was issued", evidence.Unavailable, head(func(issued, next *time.Time, _ *uint32) { *next = *issued })},
		{"without a time", evidence.Unavailable, head(func(issued, _ *time.Time, _ *uint32) { *issued = time.Time{} })},
		{"rolled back", evidence.Stale, func(s *simulated) {
			s.cfg.MinEvaluationDataNumber = tdxtest.EvaluationDataNumber
			d.head(s, func(_, _ *time.Time, number *uint32) { *number-- })
		}},
		{"by an expired signer", evidence.Stale, d.signer(func(c *tdxtest.Certificate) { c.NotAfter = now.Add(-time.Second) })},
		{"by a signer of the future", evidence.Stale, d.signer(func(c *tdxtest.Certificate) { c.NotBefore = now.Add(time.Second) })},
		{"issued before its signer was valid", evidence.Stale, d.signer(func(c *tdxtest.Certificate) { c.NotBefore = now.Add(-time.Hour) })},
		{"by a revoked signer", evidence.Revoked, func(s *simulated) {
			s.list(tdx.RootCRLName(), tdxtest.CRL{Revoked: []*big.Int{big.NewInt(99)}})
			d.signer(func(c *tdxtest.Certificate) { c.Serial = big.NewInt(99) })(s)
		}},
	}
}

// originFaults are of a document that the TCB signer did not sign as it is.
func originFaults(d signedDocument) []fault {
	data := func(change func([]byte) []byte) func(*simulated) {
		return d.after(func(c *evidence.Collateral) { c.Data = change(c.Data) })
	}
	issuer := func(chain func(*simulated) []byte) func(*simulated) {
		return func(s *simulated) { s.set[d.name(s)][0].Issuer = chain(s) }
	}
	swap := func(old, new string) func(*simulated) {
		return data(func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) })
	}
	root := func(s *simulated) []byte { return s.intel.Certificate(tdxtest.Root, nil) }
	return []fault{
		{"of another Intel", evidence.Unavailable, func(s *simulated) {
			s.set[d.name(s)] = newSimulatedIntel().Set(s.platform.PCK.FMSPC)[d.name(s)]
		}},
		{"of another Intel, under our chain", evidence.Unavailable, func(s *simulated) {
			s.set[d.name(s)][0].Data = newSimulatedIntel().Sign(d.member, d.body(s)).Data
		}},
		{"changed after signing", evidence.Unavailable, swap(`"UpToDate"`, `"OutOfDate"`)},
		{"with a space more", evidence.Unavailable, swap(`"version":`, `"version": `)},
		{"with the signature of another", evidence.Unavailable, func(s *simulated) {
			other := s.intel.Sign(d.member, []byte("{}"))
			s.set[d.name(s)][0].Data = append(s.intel.Sign(d.member, d.body(s)).Data[:len(d.body(s))+len(d.member)+4], other.Data[len(`{"":{}`)+len(d.member):]...)
		}},
		{"without signature", evidence.Unavailable, data(func(b []byte) []byte { return append(b[:bytes.LastIndex(b, []byte(`,"sig`))], '}') })},
		{"with half a signature", evidence.Unavailable, data(func(b []byte) []byte { return append(b[:len(b)-66], `"}`...) })},
		{"without chain", evidence.Unavailable, issuer(func(*simulated) []byte { return nil })},
		{"without root", evidence.Unavailable, issuer(func(s *simulated) []byte { return tdxtest.PEM(s.intel.Certificate(tdxtest.TCBSigning, nil)) })},
		{"with three certificates", evidence.Unavailable, issuer(func(s *simulated) []byte {
			return tdxtest.PEM(s.intel.Certificate(tdxtest.TCBSigning, nil), root(s), root(s))
		})},
		{"with a chain that is too long", evidence.Unavailable, issuer(func(s *simulated) []byte {
			return slices.Concat(tdxtest.PEM(s.intel.Certificate(tdxtest.TCBSigning, nil)), bytes.Repeat([]byte("\n"), 16<<10), tdxtest.PEM(root(s)))
		})},
		{"with a chain that is none", evidence.Unavailable, issuer(func(*simulated) []byte { return []byte("-----BEGIN CERTIFICATE-----\n") })},
		{"under another root", evidence.Unavailable, issuer(func(s *simulated) []byte {
			return tdxtest.PEM(s.intel.Certificate(tdxtest.TCBSigning, nil), newSimulatedIntel().Certificate(tdxtest.Root, nil))
		})},
		{"by a signer of another root", evidence.Unavailable, issuer(func(s *simulated) []byte {
			signer := newSimulatedIntel().Resign(tdxtest.Root, s.intel.Certificate(tdxtest.TCBSigning, nil), nil)
			return tdxtest.PEM(signer, root(s))
		})},
		{"by a CA", evidence.Unavailable, issuer(func(s *simulated) []byte { return tdxtest.PEM(s.intel.Certificate(tdxtest.PlatformCA, nil), root(s)) })},
		{"by a platform", evidence.Unavailable, issuer(func(s *simulated) []byte { return tdxtest.PEM(s.platform.Certificate(nil), root(s)) })},
		{"by a signer of another name", evidence.Unavailable, d.signer(func(c *tdxtest.Certificate) { c.Subject = tdxtest.Name(abi.NamePCK) })},
		{"by a signer that is a CA", evidence.Unavailable, d.signer(func(c *tdxtest.Certificate) {
			c.Extensions[4].Value = der.Encode(struct{ IsCA bool }{true})
		})},
	}
}

// textFaults are of a document that Intel signed but would not have written.
func textFaults(d signedDocument) []fault {
	outer := func(old, new string) func(*simulated) {
		return d.after(func(c *evidence.Collateral) { c.Data = bytes.Replace(c.Data, []byte(old), []byte(new), 1) })
	}
	return []fault{
		{"with a member twice", evidence.Unavailable, d.text(`"tcbEvaluationDataNumber":18`, `"tcbEvaluationDataNumber":18,"tcbEvaluationDataNumber":18`)},
		{"with a member twice in another case", evidence.Unavailable, d.text(`"tcbEvaluationDataNumber":18`, `"tcbEvaluationDataNumber":18,"tcbEvaluationDatanumber":18`)},
		{"with a member of a level twice", evidence.Unavailable, d.text(`"tcbStatus":"UpToDate"`, `"tcbStatus":"OutOfDate","tcbStatus":"UpToDate"`)},
		{"without a number", evidence.Unavailable, d.text(`"tcbEvaluationDataNumber":18,`, ``)},
		{"with a negative number", evidence.Unavailable, d.text(`"tcbEvaluationDataNumber":18`, `"tcbEvaluationDataNumber":-1`)},
		{"of an unknown status", evidence.Unavailable, d.text(`"tcbStatus":"UpToDate"`, `"tcbStatus":"UptoDate"`)},
		{"of a status that is none of a level", evidence.Unavailable, d.text(`"tcbStatus":"UpToDate"`, `"tcbStatus":"RelaunchAdvised"`)},
		{"of no status", evidence.Unavailable, d.text(`"tcbStatus":"UpToDate"`, `"tcbStatus":""`)},
		{"of another version", evidence.Unavailable, d.text(`"version":`, `"version":1`)},
		{"with a date that is none", evidence.Unavailable, d.text(`"tcbDate":"2024-11-13T`, `"tcbDate":"2024-13-13T`)},
		{"without a date", evidence.Unavailable, d.text(`"tcbDate":"2024-11-13T00:00:00Z",`, ``)},
		{"that is no object", evidence.Unavailable, func(s *simulated) {
			s.set[d.name(s)] = []evidence.Collateral{s.intel.Sign(d.member, []byte(`null`))}
		}},
		{"that is no JSON", evidence.Unavailable, func(s *simulated) {
			s.set[d.name(s)] = []evidence.Collateral{s.intel.Sign(d.member, d.body(s)[1:])}
		}},
		{"under another name", evidence.Unavailable, func(s *simulated) {
			s.set[d.name(s)] = []evidence.Collateral{s.intel.Sign(strings.ToUpper(d.member), d.body(s))}
		}},
		{"beside another member", evidence.Unavailable, outer(`{`, `{"x":0,`)},
		{"beside another of its name", evidence.Unavailable, outer(`{`, `{"`+d.member+`":{},`)},
		{"beside another signature", evidence.Unavailable, outer(`{`, `{"signature":"00",`)},
		{"followed by something", evidence.Unavailable, d.after(func(c *evidence.Collateral) { c.Data = append(c.Data, '{') })},
		{"that is too long", evidence.Unavailable, d.after(func(c *evidence.Collateral) { c.Data = append(c.Data, bytes.Repeat([]byte(" "), 1<<20)...) })},
	}
}

// foreignFaults are of an enclave or module that is not Intel's.
func foreignFaults() []fault {
	return []fault{
		{"a QE with MISCSELECT", evidence.Untrusted, func(s *simulated) { s.platform.QE.MiscSelect[3] = 0x80 }},
		{"a QE under debug", evidence.Untrusted, func(s *simulated) { s.platform.QE.Attributes[0] |= 2 }},
		{"a QE that is not initialised", evidence.Untrusted, func(s *simulated) { s.platform.QE.Attributes[0] &^= 1 }},
		{"a QE of another signer", evidence.Untrusted, func(s *simulated) { s.platform.QE.MRSIGNER[31] ^= 1 }},
		{"another enclave of Intel's", evidence.Untrusted, func(s *simulated) { s.platform.QE.ISVProdID = 1 }},
		{"a module of another signer", evidence.Untrusted, before(abi.BodyV4+abi.MRSignerSEAM+47, 1)},
		{"a module with attributes", evidence.Untrusted, before(abi.BodyV4+abi.SEAMAttributes+7, 0x80)},
		{"a module with attributes that Intel leaves open", evidence.Untrusted, func(s *simulated) {
			s.info(func(i *tdxtest.TCBInfo) { i.Modules[1].AttributesMask = "0000000000000000" })
			before(abi.BodyV4+abi.SEAMAttributes, 1)(s)
		}},
		{"a module of version 0 of another signer", evidence.Untrusted, func(s *simulated) {
			s.platform.Launched = tdx.SVN{5, 0, 3}
			s.info(func(i *tdxtest.TCBInfo) { i.Module.MRSIGNER = strings.Repeat("01", 48) })
		}},
		{"a module of another signer than its version has", evidence.Untrusted, func(s *simulated) {
			s.info(func(i *tdxtest.TCBInfo) { i.Modules[1].MRSIGNER = strings.Repeat("01", 48) })
		}},
	}
}
