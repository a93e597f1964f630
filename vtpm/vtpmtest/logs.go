package vtpmtest

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/teebroker/teebroker/vtpm"
)

// Event is something that a PCR is extended with, and what a TCG2 log says of it.
type Event struct {
	Index uint32
	Type  uint32 // if zero, EV_EFI_ACTION
	Data  []byte // what is measured

	// Digest, unless nil, returns the digest of the event in a bank, instead of
	// that of Data.
	Digest func(vtpm.Alg) []byte
}

// NoAction is the type of an event that is not measured.
const NoAction = 3

func (e Event) digest(a vtpm.Alg) []byte {
	switch {
	case e.Digest != nil:
		return e.Digest(a)
	case e.Type == NoAction:
		return make([]byte, hashOf(a).Size())
	}
	return digest(a, e.Data)
}

// Apply extends the PCRs of t as firmware that writes es does.
func Apply(t *TPM, es ...Event) {
	for _, e := range es {
		if e.Type == NoAction {
			continue
		}
		for bank := range t.pcrs {
			t.ExtendDigest(bank, int(e.Index), e.digest(bank))
		}
	}
}

// EventLog returns the log of es with digests of SHA-1, SHA-256 and SHA-384, as
// firmware writes it. Nobody looks at those of SHA-1, which are zero.
func EventLog(es ...Event) []byte {
	banks := []vtpm.Alg{vtpm.SHA256, vtpm.SHA384}
	le16, le32 := binary.LittleEndian.AppendUint16, binary.LittleEndian.AppendUint32
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = le32(spec, uint32(1+len(banks)))
	spec = le16(le16(spec, 4), sha1.Size)
	for _, a := range banks {
		spec = le16(le16(spec, uint16(a)), uint16(hashOf(a).Size()))
	}
	spec = append(spec, 0)
	b := le32(le32(nil, 0), NoAction)
	b = append(b, make([]byte, sha1.Size)...)
	b = append(le32(b, uint32(len(spec))), spec...)
	for _, e := range es {
		kind := e.Type
		if kind == 0 {
			kind = 0x80000007
		}
		b = le32(le32(le32(b, e.Index), kind), uint32(1+len(banks)))
		b = append(le16(b, 4), make([]byte, sha1.Size)...)
		for _, a := range banks {
			b = append(le16(b, uint16(a)), e.digest(a)...)
		}
		b = append(le32(b, uint32(len(e.Data))), e.Data...)
	}
	return b
}

// IMAEntry is a file that Linux measures.
type IMAEntry struct {
	Path      string
	Content   []byte // the digest is its SHA-256
	Signature []byte // if not nil, the template is ima-sig
	Violation bool
}

// BootAggregate returns the first entry of a list: the digest of PCR 0 to 9 of t.
func BootAggregate(t *TPM) IMAEntry {
	var all []byte
	for i := range 10 {
		all = append(all, t.pcrs[vtpm.SHA256][i]...)
	}
	return IMAEntry{Path: "boot_aggregate", Content: all}
}

// Fields returns the data of the template, which is what is hashed.
func (e IMAEntry) Fields() []byte {
	le32 := binary.LittleEndian.AppendUint32
	sum := sha256.Sum256(e.Content)
	file := append([]byte("sha256:\x00"), sum[:]...)
	b := append(le32(nil, uint32(len(file))), file...)
	b = append(append(le32(b, uint32(len(e.Path)+1)), e.Path...), 0)
	if e.Signature != nil {
		b = append(le32(b, uint32(len(e.Signature))), e.Signature...)
	}
	return b
}

// IMAList returns the list of es as Linux shows it, with digests of templates by
// SHA-1.
func IMAList(es ...IMAEntry) []byte {
	var b strings.Builder
	for _, e := range es {
		sum, of := sha1.Sum(e.Fields()), sha256.Sum256(e.Content)
		if e.Violation {
			sum, of = [20]byte{}, [32]byte{}
		}
		template, signature := "ima-ng", ""
		if e.Signature != nil {
			template, signature = "ima-sig", " "+hex.EncodeToString(e.Signature)
		}
		fmt.Fprintf(&b, "10 %x %s sha256:%x %s%s\n", sum, template, of, e.Path, signature)
	}
	return []byte(b.String())
}

// Measure extends PCR 10 of t as Linux does that writes es.
func Measure(t *TPM, es ...IMAEntry) {
	for bank := range t.pcrs {
		for _, e := range es {
			d := digest(bank, e.Fields())
			if e.Violation {
				for i := range d {
					d[i] = 0xFF
				}
			}
			t.ExtendDigest(bank, vtpm.IMAPCR, d)
		}
	}
}
