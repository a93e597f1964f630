package main

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// A tdxPlatform is what a simulated quote can come from, right or wrong.
type tdxPlatform struct {
	name  string
	p     *tdxtest.Platform
	chain []byte // instead of its own, if not nil
}

// tdxSerial is the serial number of the PCK certificates that a list can revoke.
const tdxSerial = 9

// tdxPlatforms returns the platforms. The first two are the right ones.
func tdxPlatforms(intel *tdxtest.Intel) ([]*tdxPlatform, error) {
	var made []*tdxPlatform
	var failed error
	issue := func(name string, ca tdx.CA, change func(*tdxtest.Platform), certificate func(*tdxtest.Certificate)) {
		p, err := loadPlatform(intel, ca.String(), ca)
		if err != nil {
			failed = err
			return
		}
		if change != nil {
			change(p)
		}
		tp := &tdxPlatform{name: fmt.Sprintf("%v, %s", ca, name), p: p}
		if certificate != nil {
			tp.chain = append(p.Chain(p.Certificate(certificate)), 0)
		} else {
			tp.chain = append(p.Chain(nil), 0)
		}
		made = append(made, tp)
	}
	cas := []tdx.CA{tdx.PlatformCA, tdx.ProcessorCA}
	for _, ca := range cas {
		issue("up to date", ca, nil, nil)
	}
	for _, ca := range cas {
		for i := range 8 {
			issue(fmt.Sprintf("component %d lower", i), ca, func(p *tdxtest.Platform) { p.PCK.Components[i] -= min(1, p.PCK.Components[i]) }, nil)
			issue(fmt.Sprintf("component %d above 127", i), ca, func(p *tdxtest.Platform) { p.PCK.Components[i] = 200 }, nil)
		}
		for _, x := range []struct {
			name   string
			change func(*tdxtest.Platform)
		}{
			{"out of date", func(p *tdxtest.Platform) { p.PCK.Components = [16]uint8{2, 2, 2, 2, 3, 1, 0, 5} }},
			{"no security versions", func(p *tdxtest.Platform) { p.PCK.Components = [16]uint8{} }},
			{"PCESVN lower", func(p *tdxtest.Platform) { p.PCK.PCESVN-- }},
			{"PCESVN of two bytes", func(p *tdxtest.Platform) { p.PCK.PCESVN = 0x1234 }},
			{"of another FMSPC", func(p *tdxtest.Platform) { p.PCK.FMSPC[5] = 7 }},
			{"of another PCEID", func(p *tdxtest.Platform) { p.PCK.PCEID[0] = 1 }},
			{"module lower", func(p *tdxtest.Platform) { p.Launched[0]-- }},
			{"module out of date", func(p *tdxtest.Platform) { p.Launched[0] = 4 }},
			{"module without level", func(p *tdxtest.Platform) { p.Launched[0] = 3 }},
			{"module of version 0", func(p *tdxtest.Platform) { p.Launched[1] = 0 }},
			{"module of version 3", func(p *tdxtest.Platform) { p.Launched[0], p.Launched[1] = 3, 3 }},
			{"module of version 10", func(p *tdxtest.Platform) { p.Launched[1] = 10 }},
			{"microcode lower", func(p *tdxtest.Platform) { p.Launched[2]-- }},
			{"QE lower", func(p *tdxtest.Platform) { p.QE.ISVSVN-- }},
			{"QE higher", func(p *tdxtest.Platform) { p.QE.ISVSVN = 0x100 }},
			{"QE of another product", func(p *tdxtest.Platform) { p.QE.ISVProdID = 1 }},
			{"QE of another signer", func(p *tdxtest.Platform) { p.QE.MRSIGNER[0] ^= 1 }},
			{"QE under debug", func(p *tdxtest.Platform) { p.QE.Attributes[0] |= 2 }},
			{"QE with MISCSELECT", func(p *tdxtest.Platform) { p.QE.MiscSelect[0] = 1 }},
			{"serial number that a list has", func(p *tdxtest.Platform) { p.PCK.Serial = []byte{tdxSerial} }},
			{"SGX type 2", func(p *tdxtest.Platform) { p.PCK.SGXType = tdx.SGXScalableWithIntegrity }},
		} {
			issue(x.name, ca, x.change, nil)
		}
		for _, x := range []struct {
			name   string
			change func(*tdxtest.Certificate)
		}{
			{"PCK certificate that expired", func(c *tdxtest.Certificate) { c.NotAfter = now().Add(-time.Second) }},
			{"PCK certificate not yet valid", func(c *tdxtest.Certificate) { c.NotBefore = now().Add(time.Second) }},
			{"PCK certificate valid for this second", func(c *tdxtest.Certificate) { c.NotBefore, c.NotAfter = now(), now() }},
			{"PCK certificate by the root", func(c *tdxtest.Certificate) { c.By = tdxtest.Root }},
			{"PCK certificate by and of the root", func(c *tdxtest.Certificate) { c.By, c.Issuer = tdxtest.Root, tdxtest.Name("Intel SGX Root CA") }},
			{"PCK certificate by TCB signing", func(c *tdxtest.Certificate) {
				c.By, c.Issuer = tdxtest.TCBSigning, tdxtest.Name("Intel SGX TCB Signing")
			}},
			{"PCK certificate of another name", func(c *tdxtest.Certificate) { c.Subject = tdxtest.Name("Intel SGX TCB Signing") }},
			{"PCK certificate without SGX extension", func(c *tdxtest.Certificate) { c.SGX = nil }},
			{"PCK certificate without FMSPC", func(c *tdxtest.Certificate) { c.SGX = slices.Delete(c.SGX, 3, 4) }},
			{"PCK certificate with FMSPC twice", func(c *tdxtest.Certificate) { c.SGX = append(c.SGX, c.SGX[3]) }},
			{"PCK certificate without SGX type", func(c *tdxtest.Certificate) { c.SGX = slices.Delete(c.SGX, 4, 5) }},
			{"PCK certificate with a member nobody knows", func(c *tdxtest.Certificate) {
				c.SGX = append(c.SGX, tdxtest.Member{ID: "1.2.840.113741.1.13.1.77", Value: []byte{5, 0}})
			}},
			{"PCK certificate with its members reversed", func(c *tdxtest.Certificate) { slices.Reverse(c.SGX) }},
			{"PCK certificate with a critical extension", func(c *tdxtest.Certificate) {
				c.Extensions = append(c.Extensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
			}},
			{"PCK certificate with an extension twice", func(c *tdxtest.Certificate) { c.Extensions = append(c.Extensions, c.Extensions[0]) }},
			{"PCK certificate without key usage", func(c *tdxtest.Certificate) { c.Extensions = slices.Delete(c.Extensions, 3, 4) }},
		} {
			issue(x.name, ca, nil, x.change)
		}
		for _, authority := range []tdxtest.Authority{tdxtest.PlatformCA, tdxtest.ProcessorCA, tdxtest.TCBSigning} {
			p := made[0].p
			if ca == tdx.ProcessorCA {
				p = made[1].p
			}
			chain := tdxtest.PEM(p.Certificate(nil), intel.Certificate(authority, nil), intel.Certificate(tdxtest.Root, nil))
			made = append(made, &tdxPlatform{fmt.Sprintf("%v, with CA %d", ca, authority), p, append(chain, 0)})
		}
		short := intel.Certificate(authorityOfCA(ca), func(c *tdxtest.Certificate) { c.NotAfter = now().Add(-time.Second) })
		p := made[int(ca)-1].p
		chain := tdxtest.PEM(p.Certificate(nil), short, intel.Certificate(tdxtest.Root, nil))
		made = append(made, &tdxPlatform{ca.String() + ", CA that expired", p, append(chain, 0)})
	}
	return made, failed
}

func authorityOfCA(ca tdx.CA) tdxtest.Authority {
	if ca == tdx.ProcessorCA {
		return tdxtest.ProcessorCA
	}
	return tdxtest.PlatformCA
}

// tdxSets returns the sets that a simulated case can have, the usual one first. Its
// TCB Infos have FMSPC in lower case, as Intel had at first.
func tdxSets(intel *tdxtest.Intel) []*tdxSet {
	kinds := []tdx.FMSPC{tdxtest.FMSPC(tdx.PlatformCA), tdxtest.FMSPC(tdx.ProcessorCA)}
	lower := func(f tdx.FMSPC) tdxtest.TCBInfo {
		i := intel.TCBInfo(f)
		i.FMSPC = f.String()
		return i
	}
	usual := &tdxSet{"usual", map[string]evidence.Collateral{}}
	for name, answers := range intel.Set(kinds...) {
		usual.files[name] = answers[0]
	}
	for _, f := range kinds {
		usual.files[tdx.TCBInfoName(f)] = intel.SignTCBInfo(lower(f))
	}
	sets := []*tdxSet{usual}
	add := func(name string, change func(files map[string]evidence.Collateral)) {
		files := maps.Clone(usual.files)
		change(files)
		sets = append(sets, &tdxSet{name, files})
	}
	info := func(name string, change func(*tdxtest.TCBInfo)) {
		add("TCB Info "+name, func(files map[string]evidence.Collateral) {
			for _, f := range kinds {
				i := lower(f)
				change(&i)
				files[tdx.TCBInfoName(f)] = intel.SignTCBInfo(i)
			}
		})
	}
	identity := func(name string, change func(*tdxtest.QEIdentity)) {
		add("QE identity "+name, func(files map[string]evidence.Collateral) {
			i := intel.QEIdentity()
			change(&i)
			files[tdx.QEIdentityName()] = intel.SignQEIdentity(i)
		})
	}
	list := func(name string, change func(*tdxtest.CRL)) {
		for _, by := range []tdxtest.Authority{tdxtest.Root, tdxtest.PlatformCA, tdxtest.ProcessorCA} {
			add(fmt.Sprintf("list %d %s", by, name), func(files map[string]evidence.Collateral) {
				c := tdxtest.CRL{By: by}
				change(&c)
				files[listName(by)] = intel.SignCRL(c)
			})
		}
	}
	tdxInfos(info)
	tdxIdentities(identity)
	tdxLists(intel, list)
	tdxSigners(intel, add)
	return sets
}

func listName(by tdxtest.Authority) string {
	switch by {
	case tdxtest.PlatformCA:
		return tdx.PCKCRLName(tdx.PlatformCA)
	case tdxtest.ProcessorCA:
		return tdx.PCKCRLName(tdx.ProcessorCA)
	}
	return tdx.RootCRLName()
}

func tdxInfos(info func(string, func(*tdxtest.TCBInfo))) {
	info("with FMSPC in capitals", func(i *tdxtest.TCBInfo) { i.FMSPC = strings.ToUpper(i.FMSPC) })
	info("of another FMSPC", func(i *tdxtest.TCBInfo) { i.FMSPC = "50806f000000" })
	info("of another PCEID", func(i *tdxtest.TCBInfo) { i.PCEID = "0001" })
	info("of id SGX", func(i *tdxtest.TCBInfo) { i.ID = "SGX" })
	info("of version 2", func(i *tdxtest.TCBInfo) { i.Version = 2 })
	info("of tcbType 1", func(i *tdxtest.TCBInfo) { i.TCBType = 1 })
	info("of the next evaluation", func(i *tdxtest.TCBInfo) { i.Number++ })
	info("expired", func(i *tdxtest.TCBInfo) { i.NextUpdate = now().Add(-time.Second) })
	info("that ends this second", func(i *tdxtest.TCBInfo) { i.NextUpdate = now() })
	info("of the next second", func(i *tdxtest.TCBInfo) { i.Issued = now().Add(time.Second) })
	info("of this second", func(i *tdxtest.TCBInfo) { i.Issued = now() })
	info("with levels the other way round", func(i *tdxtest.TCBInfo) { slices.Reverse(i.Levels) })
	info("with module levels the other way round", func(i *tdxtest.TCBInfo) { slices.Reverse(i.Modules[1].Levels) })
	info("without levels", func(i *tdxtest.TCBInfo) { i.Levels = nil })
	info("with a level twice", func(i *tdxtest.TCBInfo) { i.Levels = append(i.Levels, i.Levels[0]) })
	info("without modules", func(i *tdxtest.TCBInfo) { i.Modules = nil })
	info("with modules in small letters", func(i *tdxtest.TCBInfo) { i.Modules[1].ID = "tdx_01" })
	info("with an identity twice", func(i *tdxtest.TCBInfo) { i.Modules = append(i.Modules, i.Modules[1]) })
	info("with another signer of modules of version 0", func(i *tdxtest.TCBInfo) { i.Module.MRSIGNER = strings.Repeat("11", 48) })
	info("with another signer of modules of version 1", func(i *tdxtest.TCBInfo) { i.Modules[1].MRSIGNER = strings.Repeat("11", 48) })
	info("with attributes of modules of version 0", func(i *tdxtest.TCBInfo) { i.Module.Attributes = "0100000000000000" })
	info("with attributes of modules of version 1", func(i *tdxtest.TCBInfo) { i.Modules[1].Attributes = "0100000000000000" })
	info("with an attributes mask of zeros", func(i *tdxtest.TCBInfo) { i.Modules[1].AttributesMask = strings.Repeat("00", 8) })
	for _, s := range []tdx.Status{
		tdx.SWHardeningNeeded, tdx.ConfigurationNeeded, tdx.ConfigurationAndSWHardeningNeeded,
		tdx.OutOfDate, tdx.OutOfDateConfigurationNeeded, tdx.Revoked, "Fine", "",
	} {
		info("with a first level "+string(s), func(i *tdxtest.TCBInfo) { i.Levels[0].Status = s })
		info("with a second level "+string(s), func(i *tdxtest.TCBInfo) { i.Levels[1].Status = s })
		info("with a module level "+string(s), func(i *tdxtest.TCBInfo) { i.Modules[1].Levels[0].Status = s })
	}
	info("with a second level UpToDate", func(i *tdxtest.TCBInfo) { i.Levels[1].Status = tdx.UpToDate })
	info("with a second module level UpToDate", func(i *tdxtest.TCBInfo) { i.Modules[1].Levels[1].Status = tdx.UpToDate })
	info("with 15 components", func(i *tdxtest.TCBInfo) { i.Levels[0].TCB.SGX = i.Levels[0].TCB.SGX[:15] })
	info("with a level out of reach", func(i *tdxtest.TCBInfo) { i.Levels[0].TCB.TDX[2].SVN = 200 })
	info("with the module in a level", func(i *tdxtest.TCBInfo) { i.Levels[0].TCB.TDX[1].SVN = 9 })
}

func tdxIdentities(identity func(string, func(*tdxtest.QEIdentity))) {
	identity("of id QE", func(i *tdxtest.QEIdentity) { i.ID = "QE" })
	identity("of version 3", func(i *tdxtest.QEIdentity) { i.Version = 3 })
	identity("of the next evaluation", func(i *tdxtest.QEIdentity) { i.Number++ })
	identity("expired", func(i *tdxtest.QEIdentity) { i.NextUpdate = now().Add(-time.Second) })
	identity("that ends this second", func(i *tdxtest.QEIdentity) { i.NextUpdate = now() })
	identity("of the next second", func(i *tdxtest.QEIdentity) { i.Issued = now().Add(time.Second) })
	identity("of another signer", func(i *tdxtest.QEIdentity) { i.MRSIGNER = strings.Repeat("11", 32) })
	identity("of another product", func(i *tdxtest.QEIdentity) { i.ISVProdID++ })
	identity("with other attributes", func(i *tdxtest.QEIdentity) { i.Attributes = "13" + i.Attributes[2:] })
	identity("with an attributes mask of zeros", func(i *tdxtest.QEIdentity) {
		i.Attributes, i.AttributesMask = strings.Repeat("00", 16), strings.Repeat("00", 16)
	})
	identity("with MISCSELECT", func(i *tdxtest.QEIdentity) { i.MiscSelect = "01000000" })
	identity("without levels", func(i *tdxtest.QEIdentity) { i.Levels = nil })
	identity("with a lower level last", func(i *tdxtest.QEIdentity) { i.Levels = append(i.Levels, lowerLevel(i)) })
	identity("with a lower level first", func(i *tdxtest.QEIdentity) { i.Levels = append([]tdxtest.EnclaveLevel{lowerLevel(i)}, i.Levels...) })
	for _, s := range []tdx.Status{tdx.OutOfDate, tdx.Revoked, tdx.SWHardeningNeeded, "Fine"} {
		identity("with a level "+string(s), func(i *tdxtest.QEIdentity) { i.Levels[0].Status = s })
	}
}

// lowerLevel returns a level of i for an earlier enclave.
func lowerLevel(i *tdxtest.QEIdentity) tdxtest.EnclaveLevel {
	return tdxtest.EnclaveLevel{TCB: tdxtest.EnclaveTCB{ISVSVN: 1}, Date: i.Levels[0].Date, Status: tdx.OutOfDate}
}

func tdxLists(intel *tdxtest.Intel, list func(string, func(*tdxtest.CRL))) {
	var cas []*big.Int
	for a := tdxtest.Root; a <= tdxtest.TCBSigning; a++ {
		cas = append(cas, serialOf(intel.Certificate(a, nil)))
	}
	list("that revokes the root", func(c *tdxtest.CRL) { c.Revoked = cas[:1] })
	list("that revokes both CAs", func(c *tdxtest.CRL) { c.Revoked = cas[1:3] })
	list("that revokes TCB signing", func(c *tdxtest.CRL) { c.Revoked = cas[3:] })
	list("that revokes the serial number", func(c *tdxtest.CRL) { c.Revoked = []*big.Int{big.NewInt(tdxSerial)} })
	list("that revokes others", func(c *tdxtest.CRL) { c.Revoked = []*big.Int{big.NewInt(1), big.NewInt(2)} })
	list("expired", func(c *tdxtest.CRL) { c.NextUpdate = now().Add(-time.Second) })
	list("that ends this second", func(c *tdxtest.CRL) { c.NextUpdate = now() })
	list("of the next second", func(c *tdxtest.CRL) { c.ThisUpdate = now().Add(time.Second) })
	list("without end", func(c *tdxtest.CRL) { c.Edit = func(t *tdxtest.TBSCertList) { t.NextUpdate = time.Time{} } })
	list("of another issuer", func(c *tdxtest.CRL) {
		c.Edit = func(t *tdxtest.TBSCertList) { t.Issuer = tdxtest.Name("Intel SGX TCB Signing") }
	})
	list("with a critical extension", func(c *tdxtest.CRL) {
		c.Edit = func(t *tdxtest.TBSCertList) {
			t.Extensions = append(t.Extensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}})
		}
	})
}

// tdxSigners adds sets that somebody else signed, or that come otherwise.
func tdxSigners(intel *tdxtest.Intel, add func(string, func(map[string]evidence.Collateral))) {
	root := intel.Certificate(tdxtest.Root, nil)
	each := func(name string, change func(name string, c *evidence.Collateral)) {
		add(name, func(files map[string]evidence.Collateral) {
			for name, c := range files {
				change(name, &c)
				files[name] = c
			}
		})
	}
	documents := func(name string, edit func(*tdxtest.Certificate)) {
		signer := intel.Certificate(tdxtest.TCBSigning, edit)
		each("TCB signing certificate "+name, func(name string, c *evidence.Collateral) {
			if len(c.Issuer) > 0 && !isList(name) {
				c.Issuer = tdxtest.PEM(signer, root)
			}
		})
	}
	documents("that expired", func(c *tdxtest.Certificate) { c.NotAfter = now().Add(-time.Second) })
	documents("not yet valid", func(c *tdxtest.Certificate) { c.NotBefore = now().Add(time.Second) })
	documents("of another name", func(c *tdxtest.Certificate) { c.Subject = tdxtest.Name("Intel SGX PCK Certificate") })
	documents("by a CA", func(c *tdxtest.Certificate) {
		c.By, c.Issuer = tdxtest.PlatformCA, tdxtest.Name("Intel SGX PCK Platform CA")
	})
	documents("of another key", func(c *tdxtest.Certificate) { c.Key = &deriveP256("other").PublicKey })
	other := tdxtest.NewIntel()
	other.Time = now
	each("chains of another Intel", func(_ string, c *evidence.Collateral) {
		if len(c.Issuer) > 0 {
			c.Issuer = tdxtest.PEM(other.Certificate(tdxtest.TCBSigning, nil), other.Certificate(tdxtest.Root, nil))
		}
	})
	add("all of another Intel", func(files map[string]evidence.Collateral) {
		for name, answers := range other.Set(tdxtest.FMSPC(tdx.PlatformCA), tdxtest.FMSPC(tdx.ProcessorCA)) {
			files[name] = answers[0]
		}
	})
	each("lists in PEM", func(name string, c *evidence.Collateral) {
		if isList(name) {
			c.Data = toPEM("X509 CRL", c.Data)
		}
	})
	each("lists without chain", func(name string, c *evidence.Collateral) {
		if isList(name) {
			c.Issuer = nil
		}
	})
	each("lists signed by TCB signing", func(name string, c *evidence.Collateral) {
		if isList(name) {
			c.Data = intel.Resign(tdxtest.TCBSigning, c.Data, nil)
		}
	})
	each("documents with white space", func(name string, c *evidence.Collateral) {
		if !isList(name) {
			c.Data = append(bytes.Clone(c.Data), " \n"...)
		}
	})
}

func isList(name string) bool {
	return slices.Contains([]string{tdx.RootCRLName(), tdx.PCKCRLName(tdx.PlatformCA), tdx.PCKCRLName(tdx.ProcessorCA)}, name)
}
