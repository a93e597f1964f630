package tdx_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// today is when everything of a fake is valid.
var today = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// authority is a key with its certificate.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// fake is a platform, its quoting enclave and Intel, all of a test's own: what no
// genuine vector has. A test edits it before it asks for evidence and collateral.
type fake struct {
	t testing.TB

	root, ca, pck, signer authority
	attestation           *ecdsa.PrivateKey

	kind     tdx.CA
	version  uint16
	bodyType uint16
	body     []byte // TD report 1.5; cut to 1.0
	header   []byte
	qe       []byte // report, but for REPORTDATA
	auth     []byte

	info, identity map[string]any
	items          []evidence.Item
	rootCRL        x509.RevocationList
	pckCRL         x509.RevocationList
}

// newFake returns a platform that is UpToDate, with a quote of version 5 and a TD
// report 1.5 of module 1.7.
func newFake(t testing.TB) *fake {
	f := &fake{t: t, kind: tdx.PlatformCA, version: abi.V5, bodyType: abi.BodyTD15, auth: []byte("auth")}
	f.setRoot(caTemplate(abi.NameRoot, 1))
	f.attestation = newKey(t)
	f.header = make([]byte, abi.HeaderSize)
	binary.LittleEndian.PutUint16(f.header[abi.KeyType:], abi.KeyTypeECDSAP256)
	binary.LittleEndian.PutUint32(f.header[abi.TEEType:], abi.TEETypeTDX)
	copy(f.header[abi.VendorID:], abi.IntelVendorID)
	f.body = make([]byte, abi.TD15Size)
	copy(f.body[abi.TEETCBSVN:], []byte{7, 1, 3})
	copy(f.body[abi.TEETCBSVN2:], []byte{7, 1, 3})
	copy(f.body[abi.ReportData:], "nonce and key")
	f.qe = make([]byte, abi.QEReportSize)
	copy(f.qe[abi.QEMRSigner:], mrsigner)
	f.qe[abi.QEAttributes] = 0x11
	f.qe[abi.QEISVProdID], f.qe[abi.QEISVSVN] = 2, 8
	f.info, f.identity = infoTemplate(), identityTemplate()
	f.rootCRL, f.pckCRL = crlTemplate(), crlTemplate()
	return f
}

const mrsigner = "the hash of the key of Intel QEs"

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// setRoot makes a root, and everything below it.
func (f *fake) setRoot(tmpl *x509.Certificate) {
	f.root = f.issue(authority{}, tmpl)
	f.signer = f.issue(f.root, leafTemplate(abi.NameTCBSigning))
	f.setCA(f.kind)
}

// setCA makes a CA of a kind, and a PCK certificate below it.
func (f *fake) setCA(kind tdx.CA) {
	f.kind = kind
	name := abi.NamePlatformCA
	if kind == tdx.ProcessorCA {
		name = abi.NameProcessorCA
	}
	f.ca = f.issue(f.root, caTemplate(name, 0))
	f.setPCK(pckExtension(kind))
}

// setPCK makes a PCK certificate with an extension.
func (f *fake) setPCK(ext []byte) {
	tmpl := leafTemplate(abi.NamePCK)
	if ext != nil {
		tmpl.ExtraExtensions = []pkix.Extension{{Id: oid(abi.SGXExtension), Value: ext}}
	}
	f.pck = f.issue(f.ca, tmpl)
}

func intelName(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{"Intel Corporation"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"}, Country: []string{"US"}}
}

var serials = int64(0x7000)

func caTemplate(cn string, pathLen int) *x509.Certificate {
	c := leafTemplate(cn)
	c.IsCA, c.MaxPathLen, c.MaxPathLenZero = true, pathLen, pathLen == 0
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return c
}

func leafTemplate(cn string) *x509.Certificate {
	serials++
	return &x509.Certificate{
		SerialNumber: big.NewInt(serials), Subject: intelName(cn),
		NotBefore: today.AddDate(-1, 0, 0), NotAfter: today.AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment, BasicConstraintsValid: true,
	}
}

func crlTemplate() x509.RevocationList {
	return x509.RevocationList{Number: big.NewInt(1), ThisUpdate: today.AddDate(0, 0, -1), NextUpdate: today.AddDate(0, 0, 29)}
}

// issue returns a new key with the certificate tmpl from by, or from itself.
func (f *fake) issue(by authority, tmpl *x509.Certificate) authority {
	f.t.Helper()
	return f.certify(newKey(f.t), by, tmpl)
}

// certify returns key with the certificate tmpl from by, or from itself.
func (f *fake) certify(key *ecdsa.PrivateKey, by authority, tmpl *x509.Certificate) authority {
	f.t.Helper()
	a := authority{key: key}
	if by.key == nil {
		by = authority{a.key, tmpl}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by.cert, &a.key.PublicKey, by.key)
	if err != nil {
		f.t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		f.t.Fatal(err)
	}
	return a
}

func pemOf(cs ...authority) []byte {
	var b []byte
	for _, c := range cs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})...)
	}
	return b
}

// member is one of the SGX extension: a value, or more members.
type member struct {
	id    string
	value any
}

func oid(id string) asn1.ObjectIdentifier {
	var o asn1.ObjectIdentifier
	for part := range strings.SplitSeq(id, ".") {
		n, _ := new(big.Int).SetString(part, 10)
		o = append(o, int(n.Int64()))
	}
	return o
}

// derOf encodes members as the extension has them.
func derOf(ms []member) []byte {
	var inner []byte
	for _, m := range ms {
		value, ok := m.value.(asn1.RawValue)
		if !ok {
			var der []byte
			if sub, ok := m.value.([]member); ok {
				der = derOf(sub)
			} else {
				der, _ = asn1.Marshal(m.value)
			}
			value = asn1.RawValue{FullBytes: der}
		}
		der, err := asn1.Marshal(struct{ ID, Value asn1.RawValue }{asn1.RawValue{Tag: asn1.TagOID, Bytes: []byte(m.id)}, value})
		if err != nil {
			panic(err)
		}
		inner = append(inner, der...)
	}
	der, _ := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: inner})
	return der
}

var fakeFMSPC = tdx.FMSPC{0x90, 0xC0, 0x6F, 1, 2, 3}

// pckMembers are the members of the SGX extension of a platform that is UpToDate.
func pckMembers(kind tdx.CA) []member {
	var tcb []member
	for i, svn := range []int{3, 3, 2, 2, 4, 1, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0} {
		tcb = append(tcb, member{abi.OIDComponent(i), svn})
	}
	tcb = append(tcb, member{abi.OIDPCESVN, 0x1234}, member{abi.OIDCPUSVN, make([]byte, 16)})
	ms := []member{
		{abi.OIDPPID, bytes.Repeat([]byte{0xAA}, 16)},
		{abi.OIDTCB, tcb},
		{abi.OIDPCEID, []byte{0, 0}},
		{abi.OIDFMSPC, fakeFMSPC[:]},
		{abi.OIDSGXType, asn1.Enumerated(1)},
	}
	if kind == tdx.PlatformCA {
		ms = append(ms, member{abi.OIDInstanceID, bytes.Repeat([]byte{0xBB}, 16)}, member{abi.OIDConfiguration, []member{
			{abi.OIDDynamicPlatform, true}, {abi.OIDCachedKeys, false}, {abi.OIDSMTEnabled, true},
		}})
	}
	return ms
}

func pckExtension(kind tdx.CA) []byte { return derOf(pckMembers(kind)) }

type object = map[string]any

func svns(b ...int) []any {
	var list []any
	for i := range 16 {
		svn := 0
		if i < len(b) {
			svn = b[i]
		}
		list = append(list, object{"svn": svn, "category": "BIOS"})
	}
	return list
}

func level(status, date string, tcb object) object {
	return object{"tcb": tcb, "tcbDate": date + "T00:00:00Z", "tcbStatus": status}
}

// infoTemplate is the TCB Info by which the fake is UpToDate.
func infoTemplate() object {
	module := func() object {
		return object{"mrsigner": strings.Repeat("00", 48), "attributes": strings.Repeat("00", 8), "attributesMask": strings.Repeat("FF", 8)}
	}
	v1 := module()
	v1["id"] = "TDX_01"
	v1["tcbLevels"] = []any{level("OutOfDate", "2024-01-01", object{"isvsvn": 2}), level("UpToDate", "2025-06-01", object{"isvsvn": 5})}
	old := level("OutOfDate", "2023-01-01", object{"sgxtcbcomponents": svns(1, 1), "pcesvn": 5, "tdxtcbcomponents": svns(3, 0, 1)})
	old["advisoryIDs"] = []any{"INTEL-SA-00002", "INTEL-SA-00001"}
	return object{
		"id": "TDX", "version": 3, "issueDate": "2026-02-20T00:00:00Z", "nextUpdate": "2026-03-20T00:00:00Z",
		"fmspc": hex.EncodeToString(fakeFMSPC[:]), "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 18,
		"tdxModule": module(), "tdxModuleIdentities": []any{v1},
		"tcbLevels": []any{
			old, // lower than the next: the order means nothing
			level("UpToDate", "2025-03-01", object{"sgxtcbcomponents": svns(3, 3, 2, 2, 4, 1, 0, 5), "pcesvn": 0x1234, "tdxtcbcomponents": svns(5, 0, 3)}),
		},
	}
}

// identityTemplate is the QE identity by which the fake is UpToDate.
func identityTemplate() object {
	return object{
		"id": "TD_QE", "version": 2, "issueDate": "2026-02-21T00:00:00Z", "nextUpdate": "2026-03-21T00:00:00Z", "tcbEvaluationDataNumber": 18,
		"miscselect": "00000000", "miscselectMask": "FFFFFFFF",
		"attributes": "11000000000000000000000000000000", "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
		"mrsigner": strings.ToUpper(hex.EncodeToString([]byte(mrsigner))), "isvprodid": 2,
		"tcbLevels": []any{level("Revoked", "2023-01-01", object{"isvsvn": 1}), level("UpToDate", "2025-04-01", object{"isvsvn": 6}), level("OutOfDate", "2024-04-01", object{"isvsvn": 4})},
	}
}

// sign returns r and s of 32 bytes each.
func (f *fake) sign(key *ecdsa.PrivateKey, message []byte) []byte {
	f.t.Helper()
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		f.t.Fatal(err)
	}
	size := (key.Params().BitSize + 7) / 8
	sig := make([]byte, 2*size)
	r.FillBytes(sig[:size])
	s.FillBytes(sig[size:])
	return sig[:64] // all of it on P-256, and elsewhere no signature is wanted
}

func keyBytes(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	b, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b[1:]
}

// signed returns the part of the quote that is signed.
func (f *fake) signed() []byte {
	b := bytes.Clone(f.header)
	binary.LittleEndian.PutUint16(b[abi.Version:], f.version)
	body := f.body
	if f.version == abi.V4 || f.bodyType == abi.BodyTD10 {
		body = body[:abi.TD10Size]
	}
	if f.version != abi.V4 {
		b = binary.LittleEndian.AppendUint16(b, f.bodyType)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	}
	return append(b, body...)
}

// quote returns the quote, signed by everyone.
func (f *fake) quote() []byte {
	key := keyBytes(f.t, f.attestation)
	qe := bytes.Clone(f.qe)
	sum := sha256.Sum256(append(bytes.Clone(key), f.auth...))
	copy(qe[abi.QEReportData:], sum[:])
	return f.quoteWith(qe, f.sign(f.pck.key, qe), pemOf(f.pck, f.ca, f.root))
}

// quoteWith returns a quote, signed by the attestation key, with whatever is to
// stand behind that.
func (f *fake) quoteWith(qe, qeSig, chain []byte) []byte {
	inner := append(bytes.Clone(qe), qeSig...)
	inner = binary.LittleEndian.AppendUint16(inner, uint16(len(f.auth)))
	inner = append(inner, f.auth...)
	inner = binary.LittleEndian.AppendUint16(inner, abi.CertPCKChain)
	inner = binary.LittleEndian.AppendUint32(inner, uint32(len(chain)))
	inner = append(inner, chain...)

	signed := f.signed()
	data := append(f.sign(f.attestation, signed), keyBytes(f.t, f.attestation)...)
	data = binary.LittleEndian.AppendUint16(data, abi.CertQEReport)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(inner)))
	data = append(data, inner...)
	return append(binary.LittleEndian.AppendUint32(signed, uint32(len(data))), data...)
}

// document returns body as Intel publishes it, signed by the TCB signer.
func (f *fake) document(member string, body any) evidence.Collateral {
	f.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.rawDocument(member, b)
}

func (f *fake) rawDocument(member string, body []byte) evidence.Collateral {
	sig := hex.EncodeToString(f.sign(f.signer.key, body))
	data := append([]byte(`{"`+member+`":`), body...)
	return evidence.Collateral{Data: append(data, `,"signature":"`+sig+`"}`...), Issuer: pemOf(f.signer, f.root)}
}

// list returns tmpl signed by a.
func (f *fake) list(a authority, tmpl x509.RevocationList) evidence.Collateral {
	f.t.Helper()
	issuer := *a.cert // which may be one that must not sign lists
	issuer.KeyUsage |= x509.KeyUsageCRLSign
	issuer.SubjectKeyId = []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, &tmpl, &issuer, a.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return evidence.Collateral{Data: der}
}

func revoke(a authority) []x509.RevocationListEntry {
	return []x509.RevocationListEntry{{SerialNumber: a.cert.SerialNumber, RevocationTime: today}}
}

// source returns all collateral.
func (f *fake) source() files {
	return files{
		tdx.TCBInfoName(fakeFMSPC): {f.document("tcbInfo", f.info)},
		tdx.QEIdentityName():       {f.document("enclaveIdentity", f.identity)},
		tdx.RootCRLName():          {f.list(f.root, f.rootCRL)},
		tdx.PCKCRLName(f.kind):     {f.list(f.ca, f.pckCRL)},
	}
}

// config returns the configuration that trusts the fake.
func (f *fake) config() tdx.Config {
	return tdx.Config{Anchors: [][]byte{f.root.cert.Raw}, Source: f.source(), Time: at(today)}
}

// verify verifies the quote of the fake, with everything the fake has.
func (f *fake) verify() (*evidence.Verified, error) { return f.verifyQuote(f.config(), f.quote()) }

func (f *fake) verifyQuote(cfg tdx.Config, raw []byte) (*evidence.Verified, error) {
	f.t.Helper()
	want, err := evidence.NewBinding([]byte("nonce and key"))
	if err != nil {
		f.t.Fatal(err)
	}
	return newVerifier(f.t, cfg).Verify(f.t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw, Items: f.items}, want)
}

// claims returns the claims of the quote of the fake.
func (f *fake) claims() *tdx.Claims {
	f.t.Helper()
	got, err := f.verify()
	if err != nil {
		f.t.Fatal(err)
	}
	c, ok := tdx.ClaimsOf(got)
	if !ok {
		f.t.Fatal("no claims")
	}
	return c
}
