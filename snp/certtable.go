package snp

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/teebroker/teebroker/snp/internal/abi"
)

// Limits of a certificate table. Genuine ones have three or four entries.
const (
	maxTable   = 64 << 10
	maxEntries = 32
)

// table is the VEKs of a certificate table, as they are in it.
type table struct{ vcek, vlek []byte }

// parseTable reads the certificate table of AMD 56421, section 4.1.8.1, which is
// also the auxblob of configfs-tsm. It shares memory with b. Nothing signs the
// table: ASK, ARK and CRL in it, and GUIDs not known here, are ignored. An empty
// one, which is what a host without certificates gives, has nothing.
func parseTable(b []byte) (table, error) {
	switch {
	case len(b) == 0:
		return table{}, nil
	case len(b) > maxTable:
		return table{}, errors.New("longer than 64 KiB")
	}
	head, err := tableHead(b)
	if err != nil {
		return table{}, err
	}
	payloads := map[string][]byte{}
	for e := range slices.Chunk(head, abi.EntrySize) {
		guid := string(e[:abi.EntryOffset])
		if _, again := payloads[guid]; again {
			return table{}, errors.New("an entry twice")
		}
		payloads[guid], err = payload(b, len(head)+abi.EntrySize, e)
		if err != nil {
			return table{}, err
		}
	}
	return table{vcek: payloads[abi.GUIDVCEK], vlek: payloads[abi.GUIDVLEK]}, nil
}

// tableHead returns the entries before the one of zeros that ends them.
func tableHead(b []byte) ([]byte, error) {
	for n := 0; n <= maxEntries; n++ {
		rest := b[n*abi.EntrySize:]
		switch {
		case len(rest) < abi.EntrySize:
			return nil, errors.New("entries without end")
		case [abi.EntrySize]byte(rest) == [abi.EntrySize]byte{}:
			return b[:n*abi.EntrySize], nil
		}
	}
	return nil, errors.New("more than 32 entries")
}

// payload returns the bytes of b that entry e points at, which begin at first or
// after it.
func payload(b []byte, first int, e []byte) ([]byte, error) {
	from := uint64(binary.LittleEndian.Uint32(e[abi.EntryOffset:]))
	to := from + uint64(binary.LittleEndian.Uint32(e[abi.EntryLength:]))
	if from < uint64(first) || to > uint64(len(b)) {
		return nil, errors.New("a payload outside of the table")
	}
	return b[from:to], nil
}
