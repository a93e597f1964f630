package snptest

import (
	"encoding/binary"
	"encoding/pem"

	"github.com/teebroker/teebroker/snp/internal/abi"
)

// Entry is an entry of the certificate table.
type Entry struct {
	GUID [16]byte // in the byte order in which it is printed
	Data []byte
}

func newEntry(guid string, data []byte) Entry { return Entry{[16]byte([]byte(guid)), data} }

// PEM returns e with its DER certificate in PEM, as some hosts provision it.
func (e Entry) PEM() Entry {
	e.Data = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Data})
	return e
}

// CertTable returns the certificate table of entries: 56421, section 4.1.8.1. It
// takes them as they are.
func CertTable(entries ...Entry) []byte {
	table := make([]byte, (len(entries)+1)*abi.EntrySize) // the last one is zero
	for i, e := range entries {
		header := table[i*abi.EntrySize:]
		copy(header, e.GUID[:])
		binary.LittleEndian.PutUint32(header[abi.EntryOffset:], uint32(len(table)))
		binary.LittleEndian.PutUint32(header[abi.EntryLength:], uint32(len(e.Data)))
		table = append(table, e.Data...)
	}
	return table
}
