package tdxtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"

	"github.com/teebroker/teebroker/tdx"
)

// Platform is a simulated host with its TDX module and quoting enclave. Its
// methods are safe for concurrent use as long as nobody writes its fields.
type Platform struct {
	// PCK is what its certificate will say from now on. Serial is the serial
	// number of the certificate, and CA also who issues it.
	PCK tdx.PCK

	// QE is the quoting enclave that will sign from now on.
	QE tdx.QE

	// MRSEAM is the measurement of the module that will launch TDs, Launched what
	// TEE_TCB_SVN says of it, and Running what TEE_TCB_SVN_2 says of the one that
	// runs when a quote is made.
	MRSEAM            [48]byte
	Launched, Running tdx.SVN

	intel  *Intel
	ca     tdx.CA // when it was made
	secret []byte // names and keys are derived from it
	pck    *ecdsa.PrivateKey
	attest *ecdsa.PrivateKey // attestation key
}

// secretSize is the length of a Platform's secret in bytes.
const secretSize = 32

func newPlatform(n *Intel, ca tdx.CA, secret []byte) *Platform {
	authorityOf(ca) // there is one
	p := &Platform{intel: n, ca: ca, secret: secret}
	p.pck, p.attest = p.deriveKey("PCK"), p.deriveKey("attestation key")
	p.PCK = tdx.PCK{
		CA:         ca,
		Serial:     append([]byte{1}, p.derive("serial", 19)...),
		PPID:       [16]byte(p.derive("PPID", 16)),
		Components: currentComponents(),
		PCESVN:     currentPCESVN,
		CPUSVN:     currentComponents(), // opaque, and the same on genuine platforms
		FMSPC:      FMSPC(ca),
		SGXType:    tdx.SGXScalable,
	}
	if ca == tdx.PlatformCA {
		p.PCK.PlatformInstance = [16]byte(p.derive("platform instance", 16))
		p.PCK.Configuration = tdx.Configuration{DynamicPlatform: true, SMTEnabled: true}
	}
	p.QE = tdx.QE{
		MRENCLAVE:  sha256.Sum256([]byte("simulated quoting enclave")),
		MRSIGNER:   [32]byte(must(hex.DecodeString(qeSigner))),
		ISVProdID:  qeProduct,
		ISVSVN:     currentQE,
		Attributes: [16]byte{0x15, 8: 0xE7}, // INIT, MODE64BIT, PROVISIONKEY; XFRM
	}
	p.MRSEAM = sha512.Sum384([]byte("simulated TDX module"))
	p.Launched, p.Running = currentModule(), currentModule()
	return p
}

// FMSPC returns the FMSPC of new platforms whose PCK certificates ca issues.
func FMSPC(ca tdx.CA) tdx.FMSPC {
	if ca == tdx.ProcessorCA {
		return tdx.FMSPC{0x00, 0x80, 0x6F, 0x05}
	}
	return tdx.FMSPC{0x90, 0xC0, 0x6F}
}

// Certificate returns the DER PCK certificate of p. edit, unless nil, may change
// anything that it says.
func (p *Platform) Certificate(edit func(*Certificate)) []byte {
	h := p.intel.authorities()
	c := h.pckCertificate(p.PCK, &p.pck.PublicKey)
	if edit != nil {
		edit(&c)
	}
	return h.issue(c)
}

// Chain returns the PEM chain that comes with quotes of p: its certificate, or
// leaf instead of it if that is not nil, the CA and the root.
func (p *Platform) Chain(leaf []byte) []byte {
	if leaf == nil {
		leaf = p.Certificate(nil)
	}
	return PEM(leaf, p.intel.Certificate(authorityOf(p.PCK.CA), nil), p.intel.Certificate(Root, nil))
}

// Name returns the name of p in the quotes of its quoting enclave.
func (p *Platform) Name() [16]byte { return [16]byte(p.derive("QE ID", 16)) }

// deriveKey returns the private key of p for a purpose.
func (p *Platform) deriveKey(purpose string) *ecdsa.PrivateKey {
	for try := 0; ; try++ {
		scalar := p.derive(fmt.Sprintf("%s %d", purpose, try), 32)
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar); err == nil {
			return key
		}
	}
}

// derive returns n bytes for a purpose, always the same for one platform.
func (p *Platform) derive(purpose string, n int) []byte {
	return must(hkdf.Expand(sha256.New, p.secret, purpose, n))
}
