package pcs

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

// file is what a name that was read is of.
type file struct {
	name    string // written anew
	chain   string // header with the issuer chain
	list    bool   // a revocation list, and not a document
	updated bool   // there is an early and a standard one
	accepts func(data []byte) bool
}

// parseName returns the file that text is the name of, or false. There is one
// spelling of each.
func parseName(text string) (file, bool) {
	const chainOfList = "SGX-PCK-CRL-Issuer-Chain"
	var f file
	switch text {
	case tdx.QEIdentityName():
		f = file{name: tdx.QEIdentityName(), chain: "SGX-Enclave-Identity-Issuer-Chain", updated: true}
	case NumbersName():
		return file{name: NumbersName(), chain: "TCB-Evaluation-Data-Numbers-Issuer-Chain", accepts: isNumbers}, true
	case tdx.RootCRLName():
		f = file{name: tdx.RootCRLName(), list: true}
	case tdx.PCKCRLName(tdx.PlatformCA):
		f = file{name: tdx.PCKCRLName(tdx.PlatformCA), list: true, chain: chainOfList}
	case tdx.PCKCRLName(tdx.ProcessorCA):
		f = file{name: tdx.PCKCRLName(tdx.ProcessorCA), list: true, chain: chainOfList}
	default:
		fmspc, ok := fmspcIn(text)
		if !ok {
			return file{}, false
		}
		f = file{name: tdx.TCBInfoName(fmspc), chain: "TCB-Info-Issuer-Chain", updated: true}
	}
	f.accepts = func(data []byte) bool { return slices.Contains(tdx.NamesOf(data), f.name) }
	return f, true
}

// fmspcIn returns the FMSPC whose TCB Info has name.
func fmspcIn(name string) (tdx.FMSPC, bool) {
	var f tdx.FMSPC
	text, ok := strings.CutPrefix(name, strings.TrimSuffix(tdx.TCBInfoName(f), f.String()))
	if !ok || len(text) != hex.EncodedLen(len(f)) {
		return f, false
	}
	if _, err := hex.Decode(f[:], []byte(text)); err != nil {
		return f, false
	}
	return f, name == tdx.TCBInfoName(f)
}

func (f file) limit() int64 {
	if f.list {
		return 2 * maxList // in hexadecimal
	}
	return maxDocument
}

// accept returns the answer that has body, if it is f.
func (f file) accept(body []byte, header http.Header) (evidence.Collateral, error) {
	if f.list {
		body = listIn(body)
	}
	if !f.accepts(body) {
		return evidence.Collateral{}, errors.New("not the file that was asked for")
	}
	chain, err := f.issuerIn(header)
	if err != nil {
		return evidence.Collateral{}, err
	}
	if !f.list && f.name != NumbersName() && len(tdx.TCBIssuers(body, chain.certs)) == 0 {
		return evidence.Collateral{}, errors.New("not signed by the issuer chain beside it")
	}
	return evidence.Collateral{Data: body, Issuer: chain.text}, nil
}

// listIn returns the DER of an answer, in which a PCCS has it in hexadecimal.
func listIn(body []byte) []byte {
	if der, err := hex.DecodeString(strings.TrimSpace(string(body))); err == nil {
		return der
	}
	return body
}

// maxChain bounds an issuer chain in bytes, percent-encoded. Genuine ones have 2700.
const maxChain = 32 << 10

// chain is an issuer chain, and the certificates in it: signer and root.
type chain struct {
	text  []byte
	certs []*x509.Certificate
}

// issuerIn returns the chain that the header of the answer has. A list is signed
// by a CA that a Verifier knows, so it may come without.
func (f file) issuerIn(header http.Header) (chain, error) {
	values := header.Values(f.chain)
	switch {
	case f.list && (f.chain == "" || len(values) == 0):
		return chain{}, nil
	case len(values) != 1 || len(values[0]) > maxChain:
		return chain{}, errors.New("not one issuer chain beside it")
	}
	text, err := url.PathUnescape(values[0]) // a "+" is of the base64
	if err != nil {
		return chain{}, errors.New("issuer chain: not percent-encoded")
	}
	c := chain{text: []byte(text)}
	for block, rest := pem.Decode(c.text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" || len(c.certs) == 2 {
			return chain{}, errors.New("issuer chain: not two certificates")
		}
		c.certs = append(c.certs, cert)
	}
	if len(c.certs) != 2 {
		return chain{}, errors.New("issuer chain: not two certificates")
	}
	return c, nil
}
