package tdx

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Limits of signed documents. Genuine ones have less than 5000 bytes, 5 levels
// and 20 advisories in a level.
const (
	maxDocument   = 256 << 10 // bytes
	maxLevels     = 256
	maxIdentities = 64
	maxAdvisories = 256
	maxText       = 64 // bytes of a name or an advisory
)

// document is what TCB Info and QE identity have in common. One exists only of
// bytes whose signature was verified.
type document struct {
	issued, next time.Time
	number       uint32 // tcbEvaluationDataNumber
	signer       *x509.Certificate
}

// Level is what a vendor's list says of a security version.
type Level struct {
	Status     Status
	Date       time.Time // tcbDate: all issues disclosed before are fixed; zero if there is no level
	Advisories []string  // such as "INTEL-SA-01036"

	// Latest is the Date of the highest level of the list: with Date it says how
	// far behind this one is.
	Latest time.Time
}

// enclaveLevel is a level of a QE or of a TDX module.
type enclaveLevel struct {
	svn uint16
	Level
}

// verifySigned returns the signed member of c and who signed it: a key that a
// certified for TCB signing. The signature is over the bytes received.
func (v *Verifier) verifySigned(a *anchor, c evidence.Collateral, member string) ([]byte, *x509.Certificate, error) {
	signer, err := v.tcbSigner(a, c.Issuer)
	if err != nil {
		return nil, nil, fmt.Errorf("issuer chain: %w", err)
	}
	body, sig, err := splitDocument(c.Data, member)
	if err != nil {
		return nil, nil, err
	}
	if !verifyRaw(keyOf(signer), sig, body) {
		return nil, nil, errors.New("not signed by its issuer")
	}
	return body, signer, nil
}

// tcbSigner returns the certificate of the chain text, signer and root, which is a.
func (v *Verifier) tcbSigner(a *anchor, text []byte) (*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, errors.New("too long")
	}
	l, err := v.linkOf(text)
	if err != nil {
		return nil, err
	}
	if l.root != a {
		return nil, errors.New("another root")
	}
	return l.cert, checkSigner(l.cert, abi.NameTCBSigning)
}

// splitDocument returns the member of data that is signed, byte for byte, and its
// signature, r and s. There is nothing else in data.
func splitDocument(data []byte, member string) (body, sig []byte, err error) {
	if len(data) > maxDocument {
		return nil, nil, fmt.Errorf("%d bytes", len(data))
	}
	outer, err := strictjson.Members(data)
	if err != nil {
		return nil, nil, err
	}
	body = outer[member]
	if len(outer) != 2 || body == nil {
		return nil, nil, fmt.Errorf("not %s and signature", member)
	}
	sig, err = decodeSignature(outer["signature"])
	return body, sig, err
}

// decodeSignature returns the 64 bytes that a string of JSON has in hexadecimal.
func decodeSignature(quoted []byte) ([]byte, error) {
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	sig := make([]byte, abi.SignatureSize)
	if err := hexTo(sig, text); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return sig, nil
}

// sumOf returns a hash of exactly c.
func sumOf(c evidence.Collateral) [32]byte {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(c.Data))))
	h.Write(c.Data)
	h.Write(c.Issuer)
	return [32]byte(h.Sum(nil))
}

// The members of Intel's documents, API of PCS version 4. What is a pointer here
// has a zero that means something, and is required.
type (
	wireLevel[T any] struct {
		TCB        T         `json:"tcb"`
		Date       time.Time `json:"tcbDate"`
		Status     Status    `json:"tcbStatus"`
		Advisories []string  `json:"advisoryIDs"`
	}
	wireISVSVN struct {
		ISVSVN *uint16 `json:"isvsvn"`
	}
	wireHead struct {
		ID         string    `json:"id"`
		Version    uint32    `json:"version"`
		IssueDate  time.Time `json:"issueDate"`
		NextUpdate time.Time `json:"nextUpdate"`
		Number     *uint32   `json:"tcbEvaluationDataNumber"`
	}
)

// parse returns the document that h is the head of, which must be of a kind and
// version, and its dates in order.
func (h wireHead) parse(id string, version uint32, signer *x509.Certificate) (document, error) {
	switch {
	case h.ID != id || h.Version != version:
		return document{}, fmt.Errorf("not %s of version %d", id, version)
	case h.IssueDate.IsZero() || h.NextUpdate.IsZero() || !h.IssueDate.Before(h.NextUpdate):
		return document{}, errors.New("no issueDate before a nextUpdate")
	case h.Number == nil:
		return document{}, errors.New("no tcbEvaluationDataNumber")
	}
	return document{h.IssueDate, h.NextUpdate, *h.Number, signer}, nil
}

// parse returns the level that l is, whose status must be one of allowed.
func (l wireLevel[T]) parse(allowed []Status) (Level, error) {
	switch {
	case !slices.Contains(allowed, l.Status):
		return Level{}, errors.New("a tcbStatus that is not defined")
	case l.Date.IsZero():
		return Level{}, errors.New("no tcbDate")
	case len(l.Advisories) > maxAdvisories:
		return Level{}, errors.New("too many advisoryIDs")
	}
	for _, a := range l.Advisories {
		if !isText(a) {
			return Level{}, errors.New("advisoryIDs: not a name")
		}
	}
	return Level{Status: l.Status, Date: l.Date, Advisories: l.Advisories}, nil
}

// parseEnclaveLevels returns the levels of an enclave or module, highest first.
func parseEnclaveLevels(ls []wireLevel[wireISVSVN]) ([]enclaveLevel, error) {
	if len(ls) == 0 || len(ls) > maxLevels {
		return nil, fmt.Errorf("%d tcbLevels", len(ls))
	}
	var got []enclaveLevel
	for _, l := range ls {
		level, err := l.parse([]Status{UpToDate, OutOfDate, Revoked})
		if err != nil {
			return nil, err
		}
		if l.TCB.ISVSVN == nil {
			return nil, errors.New("no isvsvn")
		}
		got = append(got, enclaveLevel{*l.TCB.ISVSVN, level})
	}
	slices.SortFunc(got, func(a, b enclaveLevel) int { return int(b.svn) - int(a.svn) })
	for i := range got {
		if i > 0 && got[i].svn == got[i-1].svn {
			return nil, errors.New("two tcbLevels of one isvsvn")
		}
		got[i].Latest = got[0].Date
	}
	return got, nil
}

// levelOf returns the first of ls that svn reaches, or NotSupported.
func levelOf(ls []enclaveLevel, svn uint16) Level {
	for _, l := range ls {
		if svn >= l.svn {
			return l.Level
		}
	}
	return Level{Status: NotSupported, Latest: ls[0].Date}
}

// isText reports whether s is a short printable text.
func isText(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxText
}

// hexTo decodes s, in either case, as exactly the bytes of dst.
func hexTo(dst []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(dst) {
		return fmt.Errorf("not %d bytes in hexadecimal", len(dst))
	}
	copy(dst, b)
	return nil
}
