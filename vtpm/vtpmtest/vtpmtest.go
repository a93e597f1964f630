// Package vtpmtest is a software TPM below which there is a simulated TEE: that of
// an SVSM on SEV-SNP, or that of Azure's paravisor. It is for tests, simulations
// and examples. What it makes proves nothing to anyone who does not choose the
// roots of snptest or tdxtest.
//
// What it makes without being asked otherwise is meant to be accepted. Each fault
// that a verifier has to find can be made:
//
//   - in a quote: every field of [Quote], any byte or the length before signing
//     with Quote.Edit and after it with Quote.Fault;
//   - in a key: its attributes and all else of its public area, with [Template];
//   - in a manifest, a table of services or runtime data: any byte or the length
//     before the report is made of it, with SVSM.Manifest, Azure.Runtime and
//     Azure.Blob, so that the hardware vouches for the fault;
//   - in what comes along: SVSM.Items and Azure.Items;
//   - in a log: every field of [Event] and [IMAEntry], an event dropped, added or
//     swapped, and any byte of what EventLog and IMAList return.
//
// [TPM] is pure Go. [Swtpm] is the same of a TPM that others wrote, where swtpm is
// installed. Functions that return no error panic if they are asked for what can't
// be made.
package vtpmtest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
)

// A Device is a TPM with an endorsement key and an attestation key in it.
type Device interface {
	EK() []byte // TPM2B_PUBLIC
	AK() []byte // TPM2B_PUBLIC

	// Extend extends a PCR of every bank with the digest of data.
	Extend(index int, data []byte)

	// Quote returns what TPM2_Quote returns for data and the values of the PCRs
	// selected, as the item vtpm.PCRs has them. Of q only Selection and Extra
	// mean something to a TPM that is not ours.
	Quote(q Quote, data evidence.Binding) (raw, pcrs []byte)

	// Activate answers a blob of vtpm.MakeCredential, or errs.
	Activate(blob []byte) ([]byte, error)
}

// Quote says what is quoted. The zero Quote is of PCR 0 to 10 of SHA-256.
type Quote struct {
	Selection []vtpm.BankSelection
	Extra     []byte // instead of the Binding

	Clock vtpm.Clock // of a TPM of ours; if zero, one that is safe

	Edit  func(attest []byte) []byte // before signing
	Fault func(raw []byte) []byte    // after signing
}

func (q Quote) selection() []vtpm.BankSelection {
	if q.Selection != nil {
		return q.Selection
	}
	return []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}}
}

func (q Quote) extra(data evidence.Binding) []byte {
	if q.Extra != nil {
		return q.Extra
	}
	return data.Bytes()
}

// Kind is the kind of a TPM's keys.
type Kind uint8

// The Kinds.
const (
	RSA Kind = 1 + iota // 2048 bits; making one takes a while
	ECC                 // P-256
)

// TPM is a TPM made of Go. It is safe for concurrent use as long as nobody extends
// its PCRs or writes its fields.
type TPM struct {
	// ResetCount and RestartCount are what quotes say.
	ResetCount, RestartCount uint32

	ek, ak             crypto.Signer
	ekPublic, akPublic []byte // TPMT_PUBLIC
	pcrs               map[vtpm.Alg]*[24][]byte
}

// Template changes the public area of a key before anything is made of it.
type Template func(*tpm2.TPMTPublic)

// NewTPM returns a TPM with keys of its own, of kind, whose public areas are as the
// EK templates and the attributes of attestation keys want them. ek and ak, unless
// nil, may change them.
func NewTPM(kind Kind, ek, ak Template) *TPM {
	t := &TPM{ek: newKey(kind), ak: newKey(kind), pcrs: map[vtpm.Alg]*[24][]byte{}}
	for _, bank := range []vtpm.Alg{vtpm.SHA256, vtpm.SHA384} {
		t.pcrs[bank] = new([24][]byte)
		for i := range t.pcrs[bank] {
			t.pcrs[bank][i] = make([]byte, hashOf(bank).Size())
		}
	}
	t.ekPublic = area(EKTemplate(kind), t.ek, ek)
	t.akPublic = area(AKTemplate(kind), t.ak, ak)
	return t
}

func newKey(kind Kind) crypto.Signer {
	if kind == RSA {
		return must(rsa.GenerateKey(rand.Reader, 2048))
	}
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func must[T any](t T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("vtpmtest: %v", err))
	}
	return t
}

// EKTemplate returns the EK template L-1 or L-2.
func EKTemplate(kind Kind) tpm2.TPMTPublic {
	if kind == RSA {
		return tpm2.RSAEKTemplate
	}
	return tpm2.ECCEKTemplate
}

// AKTemplate returns the template of a restricted signing key with SHA-256.
func AKTemplate(kind Kind) tpm2.TPMTPublic {
	p := tpm2.TPMTPublic{
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true,
		},
	}
	if kind == RSA {
		p.Type = tpm2.TPMAlgRSA
		p.Parameters = tpm2.NewTPMUPublicParms(p.Type, &tpm2.TPMSRSAParms{
			Scheme: tpm2.TPMTRSAScheme{
				Scheme:  tpm2.TPMAlgRSASSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			KeyBits: 2048,
		})
		return p
	}
	p.Type = tpm2.TPMAlgECC
	p.Parameters = tpm2.NewTPMUPublicParms(p.Type, &tpm2.TPMSECCParms{
		Scheme: tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
		CurveID: tpm2.TPMECCNistP256,
	})
	return p
}

// area returns template with the public key of key in it, as edit changed it.
func area(template tpm2.TPMTPublic, key crypto.Signer, edit Template) []byte {
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: pub.N.Bytes()})
	case *ecdsa.PublicKey:
		point := must(pub.Bytes())
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
		})
	}
	if edit != nil {
		edit(&template)
	}
	return tpm2.Marshal(template)
}

func hashOf(a vtpm.Alg) crypto.Hash {
	switch a {
	case vtpm.SHA256:
		return crypto.SHA256
	case vtpm.SHA384:
		return crypto.SHA384
	}
	panic(fmt.Sprintf("vtpmtest: no bank of %v", a))
}

func digest(a vtpm.Alg, parts ...[]byte) []byte {
	h := hashOf(a).New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// EK implements [Device].
func (t *TPM) EK() []byte { return sized(t.ekPublic) }

// AK implements [Device].
func (t *TPM) AK() []byte { return sized(t.akPublic) }

// AKKey returns the public key of the AK.
func (t *TPM) AKKey() crypto.PublicKey { return t.ak.Public() }

// EKKey returns the public key of the EK.
func (t *TPM) EKKey() crypto.PublicKey { return t.ek.Public() }

// Extend implements [Device].
func (t *TPM) Extend(index int, data []byte) {
	for bank := range t.pcrs {
		t.ExtendDigest(bank, index, digest(bank, data))
	}
}

// ExtendDigest extends a PCR of one bank with d.
func (t *TPM) ExtendDigest(bank vtpm.Alg, index int, d []byte) {
	t.pcrs[bank][index] = digest(bank, t.pcrs[bank][index], d)
}

// ReadPCR returns the value of p, as proof.TPM asks for it.
func (t *TPM) ReadPCR(p vtpm.PCR) ([]byte, error) { return bytes.Clone(t.pcrs[p.Bank][p.Index]), nil }

// ExtendPCR extends p, as proof.TPM asks for it.
func (t *TPM) ExtendPCR(p vtpm.PCR, d []byte) error {
	t.ExtendDigest(p.Bank, p.Index, d)
	return nil
}

// SetPCR makes the value of a PCR what it is told to be.
func (t *TPM) SetPCR(bank vtpm.Alg, index int, value []byte) { t.pcrs[bank][index] = value }

// PCR returns the value of a PCR.
func (t *TPM) PCR(bank vtpm.Alg, index int) []byte { return t.pcrs[bank][index] }

// Quote implements [Device].
func (t *TPM) Quote(q Quote, data evidence.Binding) (raw, pcrs []byte) {
	b := binary.BigEndian.AppendUint32(nil, 0xFF544347)
	b = binary.BigEndian.AppendUint16(b, 0x8018)
	signer := sha256.Sum256(t.akPublic)
	b = append(b, sized(append([]byte{0, 0x0B}, signer[:]...))...)
	b = append(b, sized(q.extra(data))...)
	clock := q.Clock
	if clock == (vtpm.Clock{}) {
		clock = vtpm.Clock{Time: 1000, ResetCount: t.ResetCount, RestartCount: t.RestartCount, Safe: true}
	}
	b = binary.BigEndian.AppendUint64(b, clock.Time)
	b = binary.BigEndian.AppendUint32(b, clock.ResetCount)
	b = binary.BigEndian.AppendUint32(b, clock.RestartCount)
	safe := byte(0)
	if clock.Safe {
		safe = 1
	}
	b = append(b, safe)
	b = binary.BigEndian.AppendUint64(b, 0x2019102300163636)
	selection := q.selection()
	b = binary.BigEndian.AppendUint32(b, uint32(len(selection)))
	for _, s := range selection {
		b = binary.BigEndian.AppendUint16(b, uint16(s.Bank))
		var bitmap [3]byte
		for _, i := range s.PCRs {
			bitmap[i/8] |= 1 << (i % 8)
			pcrs = append(pcrs, t.pcrs[s.Bank][i]...)
		}
		b = append(append(b, byte(len(bitmap))), bitmap[:]...)
	}
	b = append(b, sized(digest(vtpm.SHA256, pcrs))...)
	if q.Edit != nil {
		b = q.Edit(b)
	}
	raw = append(sized(b), t.sign(b)...)
	if q.Fault != nil {
		raw = q.Fault(raw)
	}
	return raw, pcrs
}

// sign returns the TPMT_SIGNATURE of the AK over attest.
func (t *TPM) sign(attest []byte) []byte {
	sum := sha256.Sum256(attest)
	switch key := t.ak.(type) {
	case *rsa.PrivateKey:
		sig := must(rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:]))
		return append([]byte{0, 0x14, 0, 0x0B}, sized(sig)...)
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		must(0, err)
		scalar := func(x *big.Int) []byte { return sized(x.FillBytes(make([]byte, 32))) }
		return append(append([]byte{0, 0x18, 0, 0x0B}, scalar(r)...), scalar(s)...)
	}
	panic("vtpmtest: no such key")
}

// AKs is a vtpm.AKs that says of EK and AK of each TPM that they are in it. Nobody
// was asked to show it.
type AKs []Device

// Activated implements vtpm.AKs.
func (ds AKs) Activated(_ context.Context, ek, ak vtpm.Name) (bool, error) {
	for _, d := range ds {
		e, err := vtpm.ParsePublic(d.EK())
		if err != nil {
			return false, err
		}
		a, err := vtpm.ParsePublic(d.AK())
		if err != nil {
			return false, err
		}
		if e.Name == ek && a.Name == ak {
			return true, nil
		}
	}
	return false, nil
}
