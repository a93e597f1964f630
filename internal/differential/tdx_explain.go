package main

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/tdx"
)

// tdxExplanations are why go-tdx-guest refuses what we accept.
func tdxExplanations() []explanation[*tdxCase] {
	return []explanation[*tdxCase]{
		{"Processor CA", ofProcessorCA},
		{"FMSPC in capitals", fmspcInCapitals},
		{"order of levels", orderOfLevels},
		{"name of a module", nameOfModule},
		{"identity of a module", identityOfModule},
		{"TD attributes", unknownAttributes},
		{"XFAM", unknownXFAM},
		{"end of a chain", endOfChain},
		{"chain of a list", chainOfList},
		{"CRL in PEM", crlInPEM},
	}
}

// certificates returns the certificates of c, of which there are three.
func (c *tdxCase) certificates() []*x509.Certificate {
	var cs []*x509.Certificate
	for _, der := range blocks(chainOf(c.raw)) {
		if cert, err := x509.ParseCertificate(der); err == nil {
			cs = append(cs, cert)
		}
	}
	if len(cs) != 3 {
		return nil
	}
	return cs
}

// ofProcessorCA: it knows the name of the Platform CA.
func ofProcessorCA(c *tdxCase, err error) bool {
	cs := c.certificates()
	return cs != nil && cs[1].Subject.CommonName == "Intel SGX PCK Processor CA" &&
		says(err, `unable to validate Intermediate CA certificate: "Intel SGX PCK Processor CA" is not expected`)
}

// tdxLevels is what of TCB Info and QE identity explanations look at.
type (
	tdxLevel struct {
		TCB struct {
			SGX    []struct{ SVN int } `json:"sgxtcbcomponents"`
			PCESVN int
			TDX    []struct{ SVN int } `json:"tdxtcbcomponents"`
			ISVSVN int
		}
	}
	tdxModule struct {
		ID         string
		MRSIGNER   string
		Attributes string
		Levels     []tdxLevel `json:"tcbLevels"`
	}
	tdxInfo struct {
		FMSPC   string
		Module  tdxModule   `json:"tdxModule"`
		Modules []tdxModule `json:"tdxModuleIdentities"`
		Levels  []tdxLevel  `json:"tcbLevels"`
	}
)

// fmspc returns the FMSPC in the PCK certificate of c.
func (c *tdxCase) fmspc() string {
	cs := c.certificates()
	oid := []byte{0x06, 0x0A, 0x2A, 0x86, 0x48, 0x86, 0xF8, 0x4D, 0x01, 0x0D, 0x01, 0x04, 0x04, 0x06}
	if cs == nil {
		return ""
	}
	at := bytes.Index(cs[0].Raw, oid)
	if at < 0 || at+len(oid)+6 > len(cs[0].Raw) {
		return ""
	}
	return hex.EncodeToString(cs[0].Raw[at+len(oid):][:6])
}

// info returns the TCB Info of the platform, as far as it can be read.
func (c *tdxCase) info() tdxInfo {
	var doc struct {
		Info tdxInfo `json:"tcbInfo"`
	}
	id, err := hex.DecodeString(c.fmspc())
	if err != nil || len(id) != 6 {
		return tdxInfo{}
	}
	_ = json.Unmarshal(c.set.files[tdx.TCBInfoName(tdx.FMSPC(id))].Data, &doc) // no document has no property
	return doc.Info
}

// identity returns the levels of the QE identity.
func (c *tdxCase) identity() []tdxLevel {
	var doc struct {
		Identity tdxModule `json:"enclaveIdentity"`
	}
	_ = json.Unmarshal(c.set.files[tdx.QEIdentityName()].Data, &doc)
	return doc.Identity.Levels
}

// fmspcInCapitals: it compares the text of FMSPC with its own in small letters.
func fmspcInCapitals(c *tdxCase, err error) bool {
	text := c.info().FMSPC
	return text != c.fmspc() && strings.EqualFold(text, c.fmspc()) && says(err, "FMSPC from PCK Certificate(")
}

// compare orders levels as the highest is meant.
func (l tdxLevel) compare(m tdxLevel) int {
	numbers := func(l tdxLevel) []int {
		var ns []int
		for _, s := range l.TCB.SGX {
			ns = append(ns, s.SVN)
		}
		ns = append(ns, l.TCB.PCESVN)
		for _, s := range l.TCB.TDX {
			ns = append(ns, s.SVN)
		}
		return append(ns, l.TCB.ISVSVN)
	}
	return slices.Compare(numbers(l), numbers(m))
}

// orderOfLevels: it takes the first level of a document that is reached.
func orderOfLevels(c *tdxCase, err error) bool {
	falls := func(ls []tdxLevel) bool {
		return slices.IsSortedFunc(ls, func(a, b tdxLevel) int { return b.compare(a) })
	}
	if says(err, "QE Identity reported by Intel PCS failed TCB status check: TCB Status is not") {
		return !falls(c.identity())
	}
	info := c.info()
	if says(err, "TDX Module TCB Status is not") {
		m, ok := info.module(c.moduleVersion())
		return ok && !falls(m.Levels)
	}
	return says(err, "failed TCB status check: TCB Status is not") && !falls(info.Levels)
}

// module returns the identity of the modules of a version.
func (i tdxInfo) module(version byte) (tdxModule, bool) {
	for _, m := range i.Modules {
		if strings.EqualFold(m.ID, "TDX_"+hex.EncodeToString([]byte{version})) {
			return m, true
		}
	}
	return tdxModule{}, false
}

func (c *tdxCase) moduleVersion() byte { return c.raw[offsetTDXBody+1] }

// nameOfModule: it knows identities as TDX_ and the version in small letters.
func nameOfModule(c *tdxCase, err error) bool {
	m, ok := c.info().module(c.moduleVersion())
	return ok && m.ID != "TDX_"+hex.EncodeToString([]byte{c.moduleVersion()}) &&
		says(err, "could not find a TDX Module Identity (")
}

// identityOfModule: it holds each module to tdxModule, which is about version 0.
func identityOfModule(c *tdxCase, err error) bool {
	info := c.info()
	m, ok := info.module(c.moduleVersion())
	return ok && c.moduleVersion() > 0 &&
		(m.MRSIGNER != info.Module.MRSIGNER && says(err, "MRSIGNERSEAM value from TD Quote Body") ||
			m.Attributes != info.Module.Attributes && says(err, "is not equal to TdxModule.Attributes field"))
}

// What it takes in TDATTRIBUTES and XFAM.
const (
	itsAttributes = 1<<0 | 1<<28 | 1<<30 | 1<<63
	itsXFAM       = 0x6DBE7
)

func (c *tdxCase) number(at int) uint64 { return binary.LittleEndian.Uint64(c.raw[at:]) }

// unknownAttributes: it takes four bits of TDATTRIBUTES.
func unknownAttributes(c *tdxCase, err error) bool {
	return c.number(offsetTDAttributes)&^itsAttributes != 0 && says(err, "unauthorized tdAttributes")
}

// unknownXFAM: it takes bits that it knows and demands bits 0 and 1.
func unknownXFAM(c *tdxCase, err error) bool {
	x := c.number(offsetXFAM)
	return (x&^itsXFAM != 0 || x&3 != 3) && says(err, "unauthorized xfam")
}

// endOfChain: it takes one zero byte after the last certificate, or nothing; after
// those of a document nothing.
func endOfChain(c *tdxCase, err error) bool {
	behind := func(text []byte) bool {
		return bytes.HasSuffix(text, []byte("\n\n")) || bytes.HasSuffix(text, []byte("\n\x00")) ||
			len(text) > 0 && strings.ContainsRune(" \t\r", rune(text[len(text)-1]))
	}
	if says(err, "unexpected trailing bytes were found in PCK Certificate Chain") {
		text := bytes.TrimSuffix(chainOf(c.raw), []byte{0})
		return !bytes.HasSuffix(text, []byte("-----\n")) && !bytes.HasSuffix(text, []byte("-----")) && bytes.HasSuffix(bytes.TrimRight(text, " \t\r\n"), []byte("-----"))
	}
	return says(err, "could not parse PEM formatted root certificate in") &&
		(says(err, "Tcb-Info-Issuer-Chain") && c.anyFile(isTCBInfo, behind) ||
			says(err, "Sgx-Enclave-Identity-Issuer-Chain") && behind(c.set.files[tdx.QEIdentityName()].Issuer))
}

func isTCBInfo(name string) bool { return !isList(name) && name != tdx.QEIdentityName() }

// anyFile reports whether the chain of a file of c with such a name is such.
func (c *tdxCase) anyFile(named func(string) bool, such func([]byte) bool) bool {
	for name, f := range c.set.files {
		if named(name) && such(f.Issuer) {
			return true
		}
	}
	return false
}

// chainOfList: it reads the chain that comes with the list of a CA. To us the list
// is one of the CA that issued the PCK certificate, which came with the quote.
func chainOfList(c *tdxCase, err error) bool {
	cs := c.certificates()
	if cs == nil {
		return false
	}
	list := c.set.files[tdx.PCKCRLName(tdx.PlatformCA)]
	want := blocks(list.Issuer)
	right := len(want) == 2 && bytes.Equal(want[0], cs[1].Raw) && bytes.Equal(want[1], cs[2].Raw) && bytes.HasSuffix(list.Issuer, []byte("-----\n"))
	return !right && says(err, "Sgx-Pck-Crl-Issuer-Chain")
}

// crlInPEM: it takes lists in DER.
func crlInPEM(c *tdxCase, err error) bool {
	for name, f := range c.set.files {
		if isList(name) && bytes.HasPrefix(f.Data, []byte("-----BEGIN ")) && says(err, "unable to parse DER bytes of CRL") {
			return true
		}
	}
	return false
}
