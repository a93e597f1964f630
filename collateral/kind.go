package collateral

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// Kind is what a piece of collateral is.
type Kind string

// The Kinds. The zero Kind is that of what nobody here can read.
const (
	VEK        Kind = "VEK" // certificate of a VCEK or VLEK
	CRL        Kind = "CRL"
	TCBInfo    Kind = "TCB Info"
	QEIdentity Kind = "QE identity"
)

// status reports whether k says how something stands, which changes while it is
// valid. A VEK does not.
func (k Kind) status() bool { return k == CRL || k.document() }

func (k Kind) document() bool { return k == TCBInfo || k == QEIdentity }

// item is one piece of collateral and what it says of itself.
type item struct {
	evidence.Collateral
	der    []byte // of a certificate or list
	kind   Kind
	names  []string
	issued time.Time
	ends   time.Time // NotAfter or nextUpdate
	number *big.Int  // of a list or a document; never nil
}

// read returns what c says of itself. Nothing is verified.
func read(c evidence.Collateral) (item, bool) {
	if len(c.Data) > maxItem || len(c.Issuer) > maxItem {
		return item{}, false
	}
	x := item{Collateral: c, number: new(big.Int)}
	if h, ok := tdx.HeadOf(c.Data); ok {
		x.kind, x.names, x.issued, x.ends = TCBInfo, []string{h.Name}, h.Issued, h.NextUpdate
		x.number.SetUint64(uint64(h.EvaluationDataNumber))
		if h.Name == tdx.QEIdentityName() {
			x.kind = QEIdentity
		}
		return x, true
	}
	x.der = derOf(c.Data)
	x.names = append(snp.NamesOf(x.der), tdx.NamesOf(x.der)...)
	if cert, err := x509.ParseCertificate(x.der); err == nil {
		x.kind, x.issued, x.ends = VEK, cert.NotBefore, cert.NotAfter
	} else if list, err := x509.ParseRevocationList(x.der); err == nil {
		x.kind, x.issued, x.ends = CRL, list.ThisUpdate, list.NextUpdate
		if list.Number != nil {
			x.number = list.Number
		}
	}
	return x, x.names != nil && x.kind != ""
}

// derOf returns the DER of a certificate or list, or data if it is neither.
func derOf(data []byte) []byte {
	for _, kind := range []string{pki.Certificate, pki.List} {
		if der, err := pki.DER(data, kind); err == nil {
			return der
		}
	}
	return data
}

// certificatesOf returns the certificates of an issuer chain in PEM, eight at most.
func certificatesOf(text []byte) (certs []*x509.Certificate) {
	for block, rest := pem.Decode(text); block != nil && len(certs) < 8; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == pki.Certificate {
			certs = append(certs, c)
		}
	}
	return certs
}

// newer orders items of one kind and name: a TCB recovery comes before a date, and
// the date of a list before its number, which few issuers let grow.
func (x item) compare(y item) int {
	if x.kind.document() {
		if n := x.number.Cmp(y.number); n != 0 {
			return n
		}
	}
	if n := x.issued.Compare(y.issued); n != 0 {
		return n
	}
	return x.number.Cmp(y.number)
}

// usable reports whether x may be handed out at now, grace past its end if it is
// of a kind that has such a time.
func (x item) usable(now time.Time, grace time.Duration) bool {
	return !now.Before(x.issued) && now.Before(x.until(grace))
}

func (x item) until(grace time.Duration) time.Time {
	if x.kind.status() {
		return x.ends.Add(grace)
	}
	return x.ends
}

// same reports whether x and y are byte for byte the same.
func (x item) same(y item) bool {
	return string(x.Data) == string(y.Data) && string(x.Issuer) == string(y.Issuer)
}

func (x item) size() int64 { return int64(len(x.Data)+len(x.Issuer)+len(x.der)) + 512 }

// isAMD reports whether name is of AMD's: path of a key server's request.
func isAMD(name string) bool {
	return slices.ContainsFunc([]string{"/vcek/", "/vlek/"}, func(p string) bool { return strings.HasPrefix(name, p) })
}
