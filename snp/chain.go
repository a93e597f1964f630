package snp

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
)

// Anchors are the AMD keys of one Line. Certificates are DER, and all three are
// required. The ARK is the root; it signed the ASK, which signs VCEKs, the ASVK,
// which signs VLEKs, and the revocation lists.
type Anchors struct {
	Line           Line
	ARK, ASK, ASVK []byte
}

//go:embed anchors
var anchors embed.FS

// AMD returns the anchors of every Line, as published by AMD and pinned in this
// package. The caller owns them.
func AMD() []Anchors {
	var as []Anchors
	for _, line := range lines() {
		as = append(as, Anchors{line, pinned(line, "ark"), pinned(line, "ask"), pinned(line, "asvk")})
	}
	return as
}

// pinned returns the DER of an embedded certificate. A file that is missing or
// broken is a mistake of the build: NewVerifier refuses the nil that it gives.
func pinned(line Line, name string) []byte {
	text, _ := anchors.ReadFile("anchors/" + strings.ToLower(line.String()) + "-" + name + ".pem")
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	return block.Bytes
}

// algorithm is how AMD's CAs sign: MGF1 with SHA-384 and a salt of 48 bytes.
const algorithm = x509.SHA384WithRSAPSS

// issuer is a pinned CA that signs VEKs of one kind and Line.
type issuer struct {
	line Line
	kind KeyKind
	name string // of the CA, as AMD calls it
	cert *x509.Certificate
	ark  *x509.Certificate
	root [32]byte // SHA-256 of the ARK
}

// newIssuers parses as and checks that each ARK signed itself, ASK and ASVK. The
// result is by the subject of the CA, in DER.
func newIssuers(as []Anchors) (map[string]*issuer, error) {
	issuers := map[string]*issuer{}
	for i, a := range as {
		of, err := a.issuers()
		if err != nil {
			return nil, fmt.Errorf("snp: Config.Anchors[%d].%w", i, err)
		}
		for _, is := range of {
			if issuers[string(is.cert.RawSubject)] != nil {
				return nil, fmt.Errorf("snp: Config.Anchors[%d].Line: %v again", i, a.Line)
			}
			issuers[string(is.cert.RawSubject)] = is
		}
	}
	return issuers, nil
}

func (a Anchors) issuers() ([]*issuer, error) {
	if a.Line.order() == 0 {
		return nil, errors.New("Line: none")
	}
	ark, err := parseAnchor(a.ARK, rootName(a.Line), x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil)
	if err != nil {
		return nil, fmt.Errorf("ARK: %w", err)
	}
	ask, err := parseAnchor(a.ASK, issuerName(a.Line, VCEK), x509.KeyUsageCertSign, ark)
	if err != nil {
		return nil, fmt.Errorf("ASK: %w", err)
	}
	asvk, err := parseAnchor(a.ASVK, issuerName(a.Line, VLEK), x509.KeyUsageCertSign, ark)
	if err != nil {
		return nil, fmt.Errorf("ASVK: %w", err)
	}
	root := sha256.Sum256(a.ARK)
	return []*issuer{
		{a.Line, VCEK, "ASK", ask, ark, root},
		{a.Line, VLEK, "ASVK", asvk, ark, root},
	}, nil
}

// rootName returns the common name of the ARK.
func rootName(line Line) string { return "ARK-" + line.String() }

// issuerName returns the common name of the CA for keys of kind.
func issuerName(line Line, kind KeyKind) string {
	if kind == VLEK {
		return "SEV-VLEK-" + line.String()
	}
	return "SEV-" + line.String()
}

// parseAnchor parses the CA called name, signed by ark or, if that is nil, by
// itself. The DER is copied.
func parseAnchor(der []byte, name string, usage x509.KeyUsage, ark *x509.Certificate) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(slices.Clone(der))
	if err != nil {
		return nil, err
	}
	key, ok := c.PublicKey.(*rsa.PublicKey)
	switch {
	case !isAMDName(c.Subject, name):
		return nil, fmt.Errorf("not AMD's %s", name)
	case !ok || key.N.BitLen() != 4096:
		return nil, errors.New("not a key of RSA-4096")
	case c.Version != 3 || !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != usage || len(c.UnhandledCriticalExtensions) != 0:
		return nil, errors.New("not a CA certificate of this purpose")
	}
	if ark == nil {
		ark = c
	}
	return c, pki.CheckSignature(c, ark, algorithm)
}

// until returns the end of the validity of the issuer and its root, or an error
// unless both are valid at now.
func (is *issuer) until(now time.Time) (time.Time, error) {
	for _, c := range []struct {
		name string
		*x509.Certificate
	}{{"ARK", is.ark}, {is.name, is.cert}} {
		if !pki.Valid(c.Certificate, now) {
			return time.Time{}, fail(checkValidity, evidence.Stale, c.name, nil)
		}
	}
	return earliest(is.ark.NotAfter, is.cert.NotAfter), nil
}

func earliest(t time.Time, more ...time.Time) time.Time {
	for _, u := range more {
		if u.Before(t) {
			t = u
		}
	}
	return t
}
