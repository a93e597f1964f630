package tdx

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
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
	// No escapes: each of the digits has one byte.
	sig := make([]byte, abi.SignatureSize)
	if len(quoted) != 2*len(sig)+2 || quoted[0] != '"' || quoted[len(quoted)-1] != '"' {
		return nil, fmt.Errorf("signature: not a text of %d bytes", len(sig))
	}
	if _, err := hex.Decode(sig, quoted[1:len(quoted)-1]); err != nil {
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

// head is what all of Intel's documents begin with: API of PCS, version 4.
type head struct {
	id      string
	version uint64
	document
}

// members returns those that h is read from.
func (h *head) members(d *strictjson.Decoder) []strictjson.Member {
	return []strictjson.Member{
		strictjson.Required("id", func() { h.id = string(d.Text()) }),
		strictjson.Required("version", func() { h.version = d.Uint(math.MaxUint32) }),
		strictjson.Required("issueDate", func() { h.issued = timeIn(d) }),
		strictjson.Required("nextUpdate", func() { h.next = timeIn(d) }),
		strictjson.Required("tcbEvaluationDataNumber", func() { h.number = uint32(d.Uint(math.MaxUint32)) }),
	}
}

// check reports whether h is of a document of a kind and version, with its dates
// in order.
func (h *head) check(id string, version uint64) error {
	switch {
	case h.id != id || h.version != version:
		return fmt.Errorf("not %s of version %d", id, version)
	case h.issued.IsZero() || !h.issued.Before(h.next):
		return errors.New("no issueDate before nextUpdate")
	}
	return nil
}

// timeIn reads a time as Intel writes it.
func timeIn(d *strictjson.Decoder) (t time.Time) {
	if err := t.UnmarshalText(d.Text()); err != nil {
		d.Fail(err)
	}
	return t
}

// hexIn reads exactly the bytes of dst in hexadecimal, in either case.
func hexIn(d *strictjson.Decoder, dst []byte) {
	text := d.Text()
	if len(text) != 2*len(dst) {
		d.Fail(fmt.Errorf("not %d bytes", len(dst)))
		return
	}
	if _, err := hex.Decode(dst, text); err != nil {
		d.Fail(err)
	}
}

// levelIn reads a level, whose status must be one of allowed. tcb reads the
// security versions.
func levelIn(d *strictjson.Decoder, allowed []Status, tcb func()) (l Level) {
	d.Object(
		strictjson.Required("tcb", tcb),
		strictjson.Required("tcbDate", func() {
			if l.Date = timeIn(d); l.Date.IsZero() {
				d.Fail(errors.New("no date"))
			}
		}),
		strictjson.Required("tcbStatus", func() {
			text := d.Text()
			i := slices.IndexFunc(allowed, func(s Status) bool { return string(s) == string(text) })
			if i < 0 {
				d.Fail(errors.New("not defined"))
				return
			}
			l.Status = allowed[i]
		}),
		strictjson.Optional("advisoryIDs", func() { l.Advisories = advisoriesIn(d) }),
	)
	return l
}

func advisoriesIn(d *strictjson.Decoder) (ids []string) {
	d.Array(func() {
		id := string(d.Text())
		if len(ids) == maxAdvisories || !isText(id) {
			d.Fail(errors.New("too many, or not a name"))
			return
		}
		ids = append(ids, id)
	})
	return ids
}

// enclaveLevelsIn reads the levels of an enclave or module, and returns them
// highest first.
func enclaveLevelsIn(d *strictjson.Decoder) (ls []enclaveLevel) {
	d.Array(func() {
		if len(ls) == maxLevels {
			d.Fail(errors.New("too many"))
			return
		}
		var l enclaveLevel
		l.Level = levelIn(d, []Status{UpToDate, OutOfDate, Revoked}, func() {
			d.Object(strictjson.Required("isvsvn", func() { l.svn = uint16(d.Uint(math.MaxUint16)) }))
		})
		ls = append(ls, l)
	})
	if len(ls) == 0 {
		d.Fail(errors.New("none"))
		return nil
	}
	slices.SortFunc(ls, func(a, b enclaveLevel) int { return int(b.svn) - int(a.svn) })
	for i := range ls {
		if i > 0 && ls[i].svn == ls[i-1].svn {
			d.Fail(errors.New("two of one isvsvn"))
		}
		ls[i].Latest = ls[0].Date
	}
	return ls
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
