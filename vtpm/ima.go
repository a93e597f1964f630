package vtpm

import (
	"bytes"
	"encoding/binary"
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
	// chunks have what was hashed of each entry, with its length of four bytes before
	// it, which is 0 for a violation. They are small, since one that is as large as
	// a list would have to be fetched from memory to be cleared, and then once more.
	chunks  [][]byte
	Entries int // lines

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
		for _, rest := range m.chunks {
			for len(rest) > 0 {
				var data []byte
				data, rest = cutField(rest)
				if !yield(entryOf(data)) {
					return
				}
			}
		}
	}
}

// entryOf returns the entry of which data was hashed: the fields d-ng and n-ng, and
// for ima-sig another one.
func entryOf(data []byte) IMAEntry {
	if len(data) == 0 {
		return IMAEntry{Violation: true}
	}
	file, rest := cutField(data)
	path, _ := cutField(rest)
	algorithm, digest, _ := bytes.Cut(file, []byte(":\x00"))
	return IMAEntry{Path: string(path[:len(path)-1]), Algorithm: string(algorithm), Digest: bytes.Clone(digest)}
}

// cutField cuts after the first field of b, which we wrote ourselves.
func cutField(b []byte) (field, rest []byte) {
	end := 4 + binary.LittleEndian.Uint32(b)
	return b[4:end], b[end:]
}

// appendLine appends what is hashed of a line, after its length: the line has PCR,
// digest of the template's data, name of the template, digest of the file, its path
// and, for ima-sig, the signature or nothing. The first digest is by a hash that
// need not be that of any bank. It is made again from the fields, and says only if
// this is a violation: then it is zeros, and nothing else is hashed.
func appendLine(b, line []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(line, []byte("10 "))
	if !ok {
		return nil, errors.New("not of PCR 10")
	}
	digest, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok || !digestLength(len(digest)) {
		return nil, errors.New("no digest of a template")
	}
	signed := false
	if rest, ok = bytes.CutPrefix(rest, []byte("ima-ng ")); !ok {
		if rest, signed = bytes.CutPrefix(rest, []byte("ima-sig ")); !signed {
			return nil, errors.New("template is neither ima-ng nor ima-sig")
		}
	}
	at := len(b)
	b, path, err := appendFile(append(b, 0, 0, 0, 0), rest)
	if err != nil {
		return nil, err
	}
	var signature []byte
	ok = true
	if signed {
		path, signature, ok = cutLast(path)
	}
	if !ok || len(path) == 0 || bytes.IndexByte(path, 0) >= 0 {
		return nil, errors.New("no path, or no room for a signature")
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(path)+1))
	b = append(append(b, path...), 0)
	if signed {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(signature)/2))
		if b, ok = appendHex(b, signature); !ok {
			return nil, errors.New("not hexadecimal")
		}
	}
	if digest[0] == '0' && len(bytes.TrimLeft(digest, "0")) == 0 {
		return b[:at+4], nil
	}
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b, nil
}

// digestLength reports whether n characters are the digest of a hash that Linux has.
func digestLength(n int) bool { return n == 2*20 || n == 2*32 || n == 2*48 || n == 2*64 }

// appendFile appends the field d-ng, which is the name of the hash, colon, zero and
// digest, and returns what is behind the digest and a space.
func appendFile(b, file []byte) (to, rest []byte, err error) {
	colon := bytes.IndexByte(file[:min(len(file), 8)], ':')
	size := imaDigestSize(file[:max(colon, 0)])
	end := colon + 1 + 2*size
	if size == 0 || len(file) <= end || file[end] != ' ' {
		return nil, nil, errors.New("no digest of a file by a hash that is handled, or no path")
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(colon+2+size))
	b = append(append(b, file[:colon+1]...), 0)
	b, ok := appendHex(b, file[colon+1:end])
	if !ok {
		return nil, nil, errors.New("not hexadecimal")
	}
	return b, file[end+1:], nil
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

const chunkSize = 32 << 10

func (m *IMA) keep(chunk []byte) {
	if len(chunk) > 0 {
		m.chunks = append(m.chunks, chunk)
	}
}

// replayIMA returns the part of list that makes PCR 10 of bank what want is.
func replayIMA(bank Alg, want Octets, list []byte) (*IMA, error) {
	m := &IMA{}
	r := newRegister(bank)
	var chunk []byte
	for at := 0; at < len(list); {
		end := bytes.IndexByte(list[at:], '\n')
		if end < 0 {
			return nil, fail(checkIMA, evidence.Malformed, IMAList, errors.New("the last line has no end"))
		}
		if cap(chunk)-len(chunk) < end { // what is hashed of a line is shorter than the line
			m.keep(chunk)
			chunk = make([]byte, 0, max(chunkSize, end))
		}
		start := len(chunk)
		var err error
		if chunk, err = appendLine(chunk, list[at:at+end]); err != nil {
			return nil, fail(checkIMA, evidence.Malformed, IMAList, fmt.Errorf("line %d: %w", m.Entries+1, err))
		}
		at += end + 1
		m.Entries++
		if data := chunk[start+4:]; len(data) == 0 {
			m.Violations++
			r.extendOnes()
		} else {
			r.extend(data)
		}
		if r.is(want) {
			m.keep(chunk)
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
