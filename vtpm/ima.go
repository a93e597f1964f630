package vtpm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"

	"github.com/teebroker/teebroker/evidence"
)

// IMAPCR is the PCR that Linux extends with what IMA measures.
const IMAPCR = 10

// bootAggregate is the name of the first entry of a list: the digest of PCR 0 to 9.
const (
	bootAggregate     = "boot_aggregate"
	bootAggregatePCRs = 10
)

// IMA is a measurement list of Linux that a quote vouches for, up to the entry that
// makes PCR 10 what the quote says. Entries after that were measured later, or
// never, and are left out. The zero IMA is no list.
type IMA struct {
	list    []byte // the lines that are vouched for
	Entries int    // lines

	// Violations is how many entries stand for a file that was written while it
	// was read. What file that was is not in what was hashed.
	Violations int

	// BootAggregate is true if the digest in the first entry is that of PCR 0 to 9,
	// and false if the quote is not over all of them, in the bank of that digest.
	BootAggregate bool
}

// IMAEntry is a file that was measured: it has what was hashed, and no more. A
// Violation has nothing.
type IMAEntry struct {
	Path      string
	Algorithm string // of Digest: sha1, sha256, sha384 or sha512
	Digest    []byte
	Violation bool
}

// All yields the entries in the order in which they were measured. The first is
// the boot aggregate.
func (m *IMA) All() iter.Seq[IMAEntry] {
	return func(yield func(IMAEntry) bool) {
		var l imaLine
		for rest := m.list; len(rest) > 0; {
			line, after, _ := bytes.Cut(rest, []byte("\n"))
			rest = after
			if l.parse(line) != nil || !yield(l.entry()) {
				return
			}
		}
	}
}

// imaLine is a line of a list, as parsed; it shares memory with the list. It can be
// used again.
type imaLine struct {
	violation bool
	algorithm []byte
	path      []byte
	data      []byte // what is hashed: the fields of the template, each with its length
	digest    []byte // within data
}

func (l *imaLine) entry() IMAEntry {
	if l.violation {
		return IMAEntry{Violation: true}
	}
	return IMAEntry{Path: string(l.path), Algorithm: string(l.algorithm), Digest: bytes.Clone(l.digest)}
}

// parse parses a line: PCR, digest of the template's data, name of the template,
// digest of the file, its path and, for ima-sig, the signature or nothing. The
// first digest is by a hash that need not be that of any bank. It is made again
// from the fields, and says only if this is a violation: then it is zeros.
func (l *imaLine) parse(line []byte) error {
	rest, ok := bytes.CutPrefix(line, []byte("10 "))
	if !ok {
		return errors.New("not of PCR 10")
	}
	digest, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok || !digestLength(len(digest)) {
		return errors.New("no digest of a template")
	}
	l.violation = len(bytes.TrimLeft(digest, "0")) == 0
	template, rest, ok := bytes.Cut(rest, []byte(" "))
	signed := string(template) == "ima-sig"
	if !ok || !signed && string(template) != "ima-ng" {
		return fmt.Errorf("template %.20q is neither ima-ng nor ima-sig", template)
	}
	file, path, ok := bytes.Cut(rest, []byte(" "))
	if !ok || len(path) == 0 {
		return errors.New("no path")
	}
	if err := l.begin(file); err != nil {
		return err
	}
	var signature []byte
	if signed {
		if path, signature, ok = cutLast(path); !ok {
			return errors.New("no room for a signature")
		}
	}
	return l.end(path, signature, signed)
}

// digestLength reports whether n characters are the digest of a hash that Linux has.
func digestLength(n int) bool { return n == 2*20 || n == 2*32 || n == 2*48 || n == 2*64 }

// begin begins data with the field d-ng: name of the hash, colon, zero, digest.
func (l *imaLine) begin(file []byte) error {
	algorithm, digits, ok := bytes.Cut(file, []byte(":"))
	size := imaDigestSize(algorithm)
	if !ok || size == 0 || len(digits) != 2*size {
		return errors.New("no digest of a file by a hash that is handled")
	}
	l.algorithm = algorithm
	l.data = binary.LittleEndian.AppendUint32(l.data[:0], uint32(len(algorithm)+2+size))
	l.data = append(append(l.data, algorithm...), ':', 0)
	at := len(l.data)
	if l.data, ok = appendHex(l.data, digits); !ok {
		return errors.New("not hexadecimal")
	}
	l.digest = l.data[at:]
	return nil
}

// end adds the field n-ng, which ends in zero, and for ima-sig the field sig.
func (l *imaLine) end(path, signature []byte, signed bool) error {
	if bytes.IndexByte(path, 0) >= 0 || len(path) == 0 {
		return errors.New("no path")
	}
	at := len(l.digest)
	start := len(l.data) - at
	l.path = path
	l.data = binary.LittleEndian.AppendUint32(l.data, uint32(len(path)+1))
	l.data = append(append(l.data, path...), 0)
	if signed {
		l.data = binary.LittleEndian.AppendUint32(l.data, uint32(len(signature)/2))
		var ok bool
		if l.data, ok = appendHex(l.data, signature); !ok {
			return errors.New("not hexadecimal")
		}
	}
	l.digest = l.data[start : start+at]
	return nil
}

// cutLast cuts at the last space.
func cutLast(b []byte) (before, after []byte, ok bool) {
	i := bytes.LastIndexByte(b, ' ')
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

func imaDigestSize(algorithm []byte) int {
	switch string(algorithm) {
	case "sha1":
		return 20
	case "sha256":
		return 32
	case "sha384":
		return 48
	case "sha512":
		return 64
	}
	return 0
}

// appendHex appends what digits stand for.
func appendHex(b, digits []byte) ([]byte, bool) {
	b, err := hex.AppendDecode(b, digits)
	return b, err == nil
}

// openIMA parses list and replays it into PCR 10 until that has the quoted value.
func (c *Claims) openIMA(list []byte) (*IMA, error) {
	bank, ok := c.bank(func(a Alg) bool { _, quoted := c.PCR(PCR{a, IMAPCR}); return quoted })
	if !ok {
		return nil, fail(checkIMA, evidence.Malformed, IMAList, errors.New("the quote is not over PCR 10"))
	}
	want, _ := c.PCR(PCR{bank, IMAPCR})
	m, err := replayIMA(bank, want, list)
	if err != nil {
		return nil, err
	}
	if err := c.checkBootAggregate(m); err != nil {
		return nil, err
	}
	return m, nil
}

// replayIMA returns the part of list that makes PCR 10 of bank what want is.
func replayIMA(bank Alg, want Octets, list []byte) (*IMA, error) {
	m := &IMA{}
	var line imaLine
	r := newRegister(bank)
	for at := 0; at < len(list); {
		end := bytes.IndexByte(list[at:], '\n')
		if end < 0 {
			return nil, fail(checkIMA, evidence.Malformed, IMAList, errors.New("the last line has no end"))
		}
		if err := line.parse(list[at : at+end]); err != nil {
			return nil, fail(checkIMA, evidence.Malformed, IMAList, fmt.Errorf("line %d: %w", m.Entries+1, err))
		}
		at += end + 1
		m.Entries++
		if line.violation {
			m.Violations++
			r.extendOnes()
		} else {
			r.extend(line.data)
		}
		if r.is(want) {
			m.list = bytes.Clone(list[:at])
			return m, nil
		}
	}
	return nil, fail(checkIMA, evidence.BadSignature, "PCR10", errors.New("not what the list makes of it"))
}

// checkBootAggregate compares the first entry with PCR 0 to 9, if all are quoted.
func (c *Claims) checkBootAggregate(m *IMA) error {
	for e := range m.All() {
		if e.Path != bootAggregate {
			break
		}
		var values [][]byte
		bank := Alg(0)
		for _, alg := range hashes() {
			if alg.String() == e.Algorithm {
				bank = alg
			}
		}
		for i := range bootAggregatePCRs {
			v, ok := c.PCR(PCR{bank, i})
			if !ok {
				return nil
			}
			values = append(values, []byte(v))
		}
		if !bytes.Equal(bank.sum(values...), e.Digest) {
			return fail(checkIMA, evidence.BadSignature, bootAggregate, errors.New("not the digest of PCR 0 to 9"))
		}
		m.BootAggregate = true
		return nil
	}
	return fail(checkIMA, evidence.Malformed, IMAList, errors.New("does not begin with the boot aggregate"))
}
