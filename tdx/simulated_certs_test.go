package tdx_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

func hours(n int) time.Duration { return time.Duration(n) * time.Hour }

// certificateFaults are of what is no chain of certificates.
func certificateFaults() []fault {
	chain := func(change func(chain []byte) []byte) func(*simulated) {
		return data(func(d *tdxtest.SignatureData) { d.Chain = change(bytes.TrimSuffix(d.Chain, []byte{0})) })
	}
	end := []byte("-----END CERTIFICATE-----\n")
	return []fault{
		{"none", evidence.Malformed, chain(func([]byte) []byte { return nil })},
		{"two", evidence.Malformed, chain(func(c []byte) []byte { return c[:bytes.LastIndex(c, []byte("-----BEGIN"))] })},
		{"four", evidence.Malformed, chain(func(c []byte) []byte { return append(c, c[bytes.LastIndex(c, []byte("-----BEGIN")):]...) })},
		{"a malformed one before", evidence.Malformed, chain(func(c []byte) []byte {
			return append([]byte("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), c...)
		})},
		{"text before", evidence.Malformed, chain(func(c []byte) []byte { return append([]byte("x\n"), c...) })},
		{"text between", evidence.Malformed, chain(func(c []byte) []byte { return bytes.Replace(c, end, append(slices.Clone(end), "x\n"...), 1) })},
		{"text after", evidence.Malformed, chain(func(c []byte) []byte { return append(c, 'x') })},
		{"two zero bytes", evidence.Malformed, chain(func(c []byte) []byte { return append(c, 0, 0) })},
		{"too long", evidence.Malformed, chain(func(c []byte) []byte { return append(c, bytes.Repeat([]byte("\n"), 16<<10)...) })},
		{"another type", evidence.Malformed, chain(func(c []byte) []byte { return bytes.ReplaceAll(c, []byte("CERTIFICATE"), []byte("X509 CRL")) })},
		{"with a header", evidence.Malformed, func(s *simulated) {
			leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: s.platform.Certificate(nil)})
			chain(func(c []byte) []byte { return append(leaf, c[bytes.Index(c, end)+len(end):]...) })(s)
		}},
		{"a PCK certificate that is none", evidence.Malformed, func(s *simulated) {
			s.chain([]byte("x"), s.intel.Certificate(tdxtest.PlatformCA, nil), s.intel.Certificate(tdxtest.Root, nil))
		}},
		{"a CA certificate that is none", evidence.Malformed, func(s *simulated) {
			s.chain(s.platform.Certificate(nil), []byte("x"), s.intel.Certificate(tdxtest.Root, nil))
		}},
		{"an extension twice", evidence.Malformed, func(s *simulated) {
			s.leaf(func(c *tdxtest.Certificate) { c.Extensions = append(c.Extensions, c.Extensions[0]) })
		}},
	}
}

// chainFaults are of certificates that do not lead to a pinned root.
func chainFaults() []fault {
	pck := func(s *simulated) []byte { return s.platform.Certificate(nil) }
	ca := func(n *tdxtest.Intel) []byte { return n.Certificate(tdxtest.PlatformCA, nil) }
	root := func(n *tdxtest.Intel) []byte { return n.Certificate(tdxtest.Root, nil) }
	return []fault{
		{"another Intel", evidence.Untrusted, func(s *simulated) {
			other := newSimulatedIntel()
			s.platform, s.set = other.Platform(tdx.PlatformCA), other.Set(tdxtest.FMSPC(tdx.PlatformCA))
		}},
		{"another Intel's root above", evidence.Untrusted, func(s *simulated) { s.chain(pck(s), ca(s.intel), root(newSimulatedIntel())) }},
		{"the root's key, certified anew", evidence.Untrusted, func(s *simulated) {
			s.chain(pck(s), ca(s.intel), s.intel.Certificate(tdxtest.Root, func(c *tdxtest.Certificate) { c.Serial = big.NewInt(1) }))
		}},
		{"another Intel's CA", evidence.Untrusted, func(s *simulated) { s.chain(pck(s), ca(newSimulatedIntel()), root(s.intel)) }},
		{"a CA that another root signed", evidence.Untrusted, func(s *simulated) {
			s.chain(pck(s), newSimulatedIntel().Resign(tdxtest.Root, ca(s.intel), nil), root(s.intel))
		}},
		{"a CA that names another issuer", evidence.Untrusted, func(s *simulated) {
			s.ca(func(c *tdxtest.Certificate) { c.Issuer = tdxtest.Name("Intel SGX Another CA") })
		}},
		{"the other CA", evidence.Untrusted, func(s *simulated) {
			s.chain(pck(s), s.intel.Certificate(tdxtest.ProcessorCA, nil), root(s.intel))
		}},
		{"out of order", evidence.Untrusted, func(s *simulated) { s.chain(ca(s.intel), pck(s), root(s.intel)) }},
		{"a PCK that another Intel signed", evidence.Untrusted, func(s *simulated) {
			s.chain(newSimulatedIntel().Resign(tdxtest.PlatformCA, pck(s), nil), ca(s.intel), root(s.intel))
		}},
		{"a PCK that the other CA signed", evidence.Untrusted, func(s *simulated) {
			s.leaf(func(c *tdxtest.Certificate) { c.By = tdxtest.ProcessorCA })
		}},
		{"a PCK that the root signed", evidence.Untrusted, func(s *simulated) {
			s.leaf(func(c *tdxtest.Certificate) { c.Issuer, c.By = tdxtest.Name(abi.NameRoot), tdxtest.Root })
		}},
		{"a PCK that names another issuer", evidence.Untrusted, func(s *simulated) {
			s.leaf(func(c *tdxtest.Certificate) { c.Issuer = tdxtest.Name(abi.NameProcessorCA) })
		}},
		{"a PCK that was changed", evidence.Untrusted, func(s *simulated) {
			bad := bytes.Replace(pck(s), s.platform.PCK.PPID[:], make([]byte, 16), 1)
			s.chain(bad, ca(s.intel), root(s.intel))
		}},
	}
}

// profileFaults are of certificates that Intel would not issue, signed by Intel.
func profileFaults(t *testing.T) []fault {
	leaf := func(edit func(*tdxtest.Certificate)) func(*simulated) {
		return func(s *simulated) { s.leaf(edit) }
	}
	ca := func(edit func(*tdxtest.Certificate)) func(*simulated) {
		return func(s *simulated) { s.ca(edit) }
	}
	// Extensions of all certificates, in their order.
	const keyUsage, basicConstraints = 3, 4
	isCA := der.Encode(struct{ IsCA bool }{true})
	odd, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	fs := []fault{
		{"the TCB signer for a CA", evidence.Untrusted, func(s *simulated) {
			pck := s.platform.Certificate(func(c *tdxtest.Certificate) { c.Issuer, c.By = tdxtest.Name(abi.NameTCBSigning), tdxtest.TCBSigning })
			s.chain(pck, s.intel.Certificate(tdxtest.TCBSigning, nil), s.intel.Certificate(tdxtest.Root, nil))
		}},
		{"a CA of another name", evidence.Untrusted, func(s *simulated) {
			pck := s.platform.Certificate(func(c *tdxtest.Certificate) { c.Issuer = tdxtest.Name("Intel SGX PCK CA") })
			other := s.intel.Certificate(tdxtest.PlatformCA, func(c *tdxtest.Certificate) { c.Subject = tdxtest.Name("Intel SGX PCK CA") })
			s.chain(pck, other, s.intel.Certificate(tdxtest.Root, nil))
		}},
		{"a CA that is none", evidence.Untrusted, ca(func(c *tdxtest.Certificate) { c.Extensions[basicConstraints].Value = []byte{0x30, 0} })},
		{"a CA that may not sign lists", evidence.Untrusted, ca(func(c *tdxtest.Certificate) { c.Extensions[keyUsage] = der.KeyUsage(0x04) })},
		{"a CA with a critical extension", evidence.Untrusted, ca(func(c *tdxtest.Certificate) {
			c.Extensions = append(c.Extensions, der.Extension("1.2.3", true, []byte{5, 0}))
		})},
		{"a PCK of another name", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.Subject = tdxtest.Name(abi.NameTCBSigning) })},
		{"a PCK of another organisation", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) {
			c.Subject[1] = pkix.RelativeDistinguishedNameSET{{Type: c.Subject[1][0].Type, Value: "Another"}}
		})},
		{"a name with a part less", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.Subject = c.Subject[:4] })},
		{"a name with a part more", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.Subject = append(c.Subject, c.Subject[0]) })},
		{"a PCK that is a CA", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.Extensions[basicConstraints].Value = isCA })},
		{"a PCK without basic constraints", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.Extensions = c.Extensions[:basicConstraints] })},
		{"a PCK that may sign certificates", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.Extensions[keyUsage] = der.KeyUsage(0x84) })},
		{"a PCK that may not sign", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.Extensions[keyUsage] = der.KeyUsage(0x40) })},
		{"a PCK on another curve", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.Key = &odd.PublicKey })},
		{"a critical extension", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) {
			c.Extensions = append(c.Extensions, der.Extension("1.2.3", true, []byte{5, 0}))
		})},
		{"no SGX extension", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.SGX = nil })},
		{"an SGX extension that is none", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) {
			c.SGX, c.Extensions = nil, append(c.Extensions, der.Extension(abi.SGXExtension, false, []byte{5, 0}))
		})},
		{"data behind the SGX extension", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) {
			c.SGX, c.Extensions = nil, append(c.Extensions, der.Extension(abi.SGXExtension, false, []byte{0x30, 0, 5, 0}))
		})},
		{"an SGX extension of no bytes", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) {
			c.SGX, c.Extensions = nil, append(c.Extensions, der.Extension(abi.SGXExtension, false, nil))
		})},
		{"an SGX extension cut short", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) {
			c.SGX, c.Extensions = nil, append(c.Extensions, der.Extension(abi.SGXExtension, false, []byte{0x30, 0x81, 0x80, 0x30, 0}))
		})},
		{"of the Platform CA without a platform instance", evidence.Untrusted, leaf(func(c *tdxtest.Certificate) { c.SGX = c.SGX[:5] })},
		{"of the Processor CA with one", evidence.Untrusted, func(s *simulated) {
			sgx := tdxtest.Members(s.platform.PCK)
			s.platform.PCK.CA = tdx.ProcessorCA
			pck := s.platform.Certificate(func(c *tdxtest.Certificate) { c.SGX = sgx })
			data(func(d *tdxtest.SignatureData) { d.Chain = s.platform.Chain(pck) })(s)
		}},
	}
	return append(fs, memberFaults()...)
}

// memberFaults are of every member of the SGX extension.
func memberFaults() []fault {
	var fs []fault
	add := func(name, id string, with ...tdxtest.Member) {
		fs = append(fs, fault{id[len(abi.SGXExtension):] + " " + name, evidence.Untrusted, func(s *simulated) {
			s.leaf(func(c *tdxtest.Certificate) { c.SGX = replace(c.SGX, id, with) })
		}})
	}
	for _, m := range flatten(tdxtest.Members(tdx.PCK{CA: tdx.PlatformCA})) {
		as := func(value ...byte) tdxtest.Member { return tdxtest.Member{ID: m.ID, Value: value} }
		add("missing", m.ID)
		add("twice", m.ID, m, m)
		add("null", m.ID, as(0x05, 0))
		add("under another name", m.ID, tdxtest.Member{ID: m.ID + ".1", Value: m.Value, Members: m.Members})
		switch {
		case m.Members != nil:
			add("with a member more", m.ID, tdxtest.Member{ID: m.ID, Members: append(slices.Clone(m.Members), tdxtest.Member{ID: m.ID + ".99", Value: []byte{5, 0}})})
			add("empty", m.ID, as(0x30, 0))
			add("as OCTET STRING", m.ID, as(0x04, 0))
		case m.Value[0] == 0x04: // OCTET STRING
			n := m.Value[1]
			add("one byte less", m.ID, as(append([]byte{4, n - 1}, make([]byte, n-1)...)...))
			add("one byte more", m.ID, as(append([]byte{4, n + 1}, make([]byte, n+1)...)...))
			add("as UTF8String", m.ID, as(append([]byte{12}, m.Value[1:]...)...))
		case m.Value[0] == 0x02: // INTEGER
			add("negative", m.ID, as(2, 1, 0x80))
			add("out of range", m.ID, as(2, 3, 1, 0, 0))
			add("with a zero byte too many", m.ID, as(2, 2, 0, 1))
			add("as ENUMERATED", m.ID, as(10, 1, 1))
			add("huge", m.ID, as(2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 1))
			add("of no bytes", m.ID, as(2, 0))
			add("of a class of its own", m.ID, as(0x82, 1, 1))
			if !strings.HasSuffix(m.ID, ".2.17") { // PCESVN, which has two bytes
				add("256", m.ID, as(2, 2, 1, 0))
			}
		case m.Value[0] == 0x0A: // ENUMERATED
			add("not defined", m.ID, as(10, 1, 3))
			add("as INTEGER", m.ID, as(2, 1, 1))
		case m.Value[0] == 0x01: // BOOLEAN
			add("neither true nor false", m.ID, as(1, 1, 1))
			add("of two bytes", m.ID, as(1, 2, 0, 0xFF))
			add("as INTEGER", m.ID, as(2, 1, 1))
		}
	}
	return fs
}

// flatten returns ms and all members in them.
func flatten(ms []tdxtest.Member) []tdxtest.Member {
	var all []tdxtest.Member
	for _, m := range ms {
		all = append(append(all, m), flatten(m.Members)...)
	}
	return all
}

// replace returns ms with others instead of the member id, wherever that is.
func replace(ms []tdxtest.Member, id string, with []tdxtest.Member) []tdxtest.Member {
	var all []tdxtest.Member
	for _, m := range ms {
		if m.ID == id {
			all = append(all, with...)
			continue
		}
		if m.Members != nil {
			m.Members = replace(m.Members, id, with)
		}
		all = append(all, m)
	}
	return all
}

// validityFaults are of certificates outside of their time.
func validityFaults() []fault {
	now := simulatedNow()
	past := func(c *tdxtest.Certificate) { c.NotAfter = now.Add(-time.Second) }
	future := func(c *tdxtest.Certificate) { c.NotBefore = now.Add(time.Second) }
	root := func(edit func(*tdxtest.Certificate)) func(*simulated) {
		return func(s *simulated) {
			cert := s.intel.Certificate(tdxtest.Root, edit)
			s.cfg.Anchors = [][]byte{cert}
			s.chain(s.platform.Certificate(nil), s.intel.Certificate(tdxtest.PlatformCA, nil), cert)
		}
	}
	return []fault{
		{"PCK expired", evidence.Stale, func(s *simulated) { s.leaf(past) }},
		{"PCK of the future", evidence.Stale, func(s *simulated) { s.leaf(future) }},
		{"CA expired", evidence.Stale, func(s *simulated) { s.ca(past) }},
		{"CA of the future", evidence.Stale, func(s *simulated) { s.ca(future) }},
		{"root expired", evidence.Stale, root(past)},
		{"root of the future", evidence.Stale, root(future)},
		{"PCK expired, whatever the grace", evidence.Stale, func(s *simulated) { s.leaf(past); s.cfg.StaleGrace = hours(1000) }},
	}
}
