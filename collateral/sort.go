package collateral

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/snp"
)

// found is what answers to each name.
type found map[string][]candidate

type candidate struct {
	der    []byte
	issued time.Time
}

// add adds all that file holds. It returns the names that file answers to, sorted.
func (f found) add(file []byte) []string {
	var all []string
	for _, der := range objects(file) {
		names := snp.NamesOf(der)
		for _, name := range names {
			f[name] = append(f[name], candidate{der, issued(der)})
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// sorted returns the candidates under each name, the one issued last first, and
// each once.
func (f found) sorted() Fixed {
	sorted := Fixed{}
	for name, cs := range f {
		slices.SortFunc(cs, func(a, b candidate) int {
			return cmp.Or(b.issued.Compare(a.issued), bytes.Compare(a.der, b.der))
		})
		cs = slices.CompactFunc(cs, func(a, b candidate) bool { return bytes.Equal(a.der, b.der) })
		for _, c := range cs {
			sorted[name] = append(sorted[name], evidence.Collateral{Data: c.der})
		}
	}
	return sorted
}

// issued returns when a certificate or list was issued, by its own words.
func issued(der []byte) time.Time {
	if c, err := x509.ParseCertificate(der); err == nil {
		return c.NotBefore
	}
	if l, err := x509.ParseRevocationList(der); err == nil {
		return l.ThisUpdate
	}
	return time.Time{}
}

// objects returns what may be a certificate or a list in DER in file: a certificate
// table, PEM, or one of them as it is.
func objects(file []byte) [][]byte {
	veks, err := snp.TableVEKs(file)
	if err != nil {
		return inPEM(file)
	}
	// A table can call anything a VEK, and a list that came with evidence is no
	// status: an attester would have chosen it.
	return slices.DeleteFunc(veks, func(der []byte) bool {
		_, err := x509.ParseCertificate(der)
		return err != nil
	})
}

// inPEM returns the certificates and lists in b, or b itself if it is not PEM.
// What has a zero byte is not: a broken table must not be searched for lists.
func inPEM(b []byte) (ders [][]byte) {
	if bytes.IndexByte(b, 0) >= 0 || !bytes.Contains(b, []byte("-----BEGIN ")) {
		return [][]byte{b}
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == pki.Certificate || block.Type == pki.List {
			ders = append(ders, block.Bytes)
		}
	}
	return ders
}
