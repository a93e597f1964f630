package collateral

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// maxIssuers bounds the certificates under all paths that may have signed its documents.
const maxIssuers = 64

// found is what answers to each name, and which certificates may be of issuers.
type found struct {
	named   map[string][]candidate
	issuers []*x509.Certificate // of documents of Intel
}

type candidate struct {
	data   []byte
	issuer []byte // of a list that came with it
	issued time.Time
}

// add adds all that file holds, which may be of a Cache. It returns the names that file answers to, sorted.
func (f *found) add(file []byte) []string {
	var issuer []byte
	if r, err := decode(file); err == nil {
		for _, c := range certificatesOf(r.Issuer) {
			f.addIssuer(c.Raw)
		}
		file, issuer = r.Data, r.Issuer
	}
	var all []string
	for _, object := range objects(file) {
		f.addIssuer(object)
		names := append(snp.NamesOf(object), tdx.NamesOf(object)...)
		for _, name := range names {
			f.named[name] = append(f.named[name], candidate{object, issuer, issued(object)})
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// addIssuer adds der if it is a certificate of an issuer that is not there yet.
func (f *found) addIssuer(der []byte) {
	c, err := x509.ParseCertificate(der)
	if err == nil && tdx.IsTCBIssuer(c) && !slices.ContainsFunc(f.issuers, c.Equal) {
		f.issuers = append(f.issuers, c)
	}
}

// sorted returns the candidates under each name, the one issued last first, and
// each once for every chain of issuers that it has.
func (f *found) sorted() (Fixed, error) {
	if len(f.issuers) > maxIssuers {
		return nil, fmt.Errorf("more than %d certificates of issuers", maxIssuers)
	}
	sorted := Fixed{}
	for name, cs := range f.named {
		slices.SortFunc(cs, func(a, b candidate) int {
			return cmp.Or(b.issued.Compare(a.issued), bytes.Compare(a.data, b.data))
		})
		cs = slices.CompactFunc(cs, func(a, b candidate) bool { return bytes.Equal(a.data, b.data) })
		for _, c := range cs {
			sorted[name] = append(sorted[name], f.withIssuers(c)...)
		}
	}
	return sorted, nil
}

// withIssuers returns c with each chain that signed it, or as it came: a document
// whose chain is missing is there, and a Verifier says what it lacks.
func (f *found) withIssuers(c candidate) (cs []evidence.Collateral) {
	for _, chain := range tdx.TCBIssuers(c.data, f.issuers) {
		cs = append(cs, evidence.Collateral{Data: c.data, Issuer: chain})
	}
	if cs == nil {
		return []evidence.Collateral{{Data: c.data, Issuer: c.issuer}}
	}
	return cs
}

// issued returns when a certificate, list or document was issued, by its own words.
func issued(object []byte) time.Time {
	if c, err := x509.ParseCertificate(object); err == nil {
		return c.NotBefore
	}
	if l, err := x509.ParseRevocationList(object); err == nil {
		return l.ThisUpdate
	}
	return tdx.IssuedAt(object)
}

// objects returns what may be a certificate or a list in DER, or a document, in
// file: a certificate table, text, or one of them as it is.
func objects(file []byte) [][]byte {
	veks, err := snp.TableVEKs(file)
	if err != nil {
		return inText(file)
	}
	// A table can call anything a VEK, and a list that came with evidence is no
	// status: an attester would have chosen it.
	return slices.DeleteFunc(veks, func(der []byte) bool {
		_, err := x509.ParseCertificate(der)
		return err != nil
	})
}

// inText returns the certificates and lists in b: in PEM, in PEM as the headers of
// Intel's services have it, or one in hexadecimal as a PCCS gives it. It returns b
// itself if it is none of them. What has a zero byte is not: a broken table must
// not be searched for lists.
func inText(b []byte) [][]byte {
	if bytes.IndexByte(b, 0) >= 0 {
		return [][]byte{b}
	}
	if der, err := hex.DecodeString(string(bytes.TrimSpace(b))); err == nil {
		return [][]byte{der}
	}
	b = unescaped(b)
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		return [][]byte{b}
	}
	return inPEM(b)
}

// unescaped returns b with each escaped PEM in it, a value of a header or alone,
// on lines of its own.
func unescaped(b []byte) []byte {
	const begin = "-----BEGIN%20"
	if !bytes.Contains(b, []byte(begin)) {
		return b
	}
	var text []byte
	for line := range bytes.Lines(b) {
		if i := bytes.Index(line, []byte(begin)); i >= 0 {
			if s, err := url.PathUnescape(string(bytes.TrimSpace(line[i:]))); err == nil {
				line = append([]byte(s), '\n')
			}
		}
		text = append(text, line...)
	}
	return text
}

func inPEM(b []byte) (ders [][]byte) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == pki.Certificate || block.Type == pki.List {
			ders = append(ders, block.Bytes)
		}
	}
	return ders
}
