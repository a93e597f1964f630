package snp

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
)

// Item types.
const (
	CertTable = "snp-cert-table" // GHCB certificate table or configfs-tsm auxblob; payloads DER or PEM
	VEK       = "snp-vek"        // VCEK or VLEK, DER or PEM
)

// maxVEK is the longest certificate looked at, in DER or PEM. Genuine ones have
// less than 1400 bytes of DER.
const maxVEK = 16 << 10

// items is what came along with a report. All of it is unverified, and it shares
// memory with the Evidence.
type items struct {
	vek   []byte
	table table
}

// openItems sorts is by type.
func openItems(is []evidence.Item) (items, error) {
	var got items
	seen := map[string]bool{}
	for _, i := range is {
		if seen[i.Type] {
			return items{}, fail(checkItems, evidence.Malformed, i.Type, errors.New("more than one"))
		}
		seen[i.Type] = true
		var err error
		switch i.Type {
		case VEK:
			got.vek = i.Data
		case CertTable:
			got.table, err = parseTable(i.Data)
		default:
			// The name is the sender's, and may be of any length.
			return items{}, fail(checkItems, evidence.Malformed, "items", errors.New("unknown type"))
		}
		if err != nil {
			return items{}, fail(checkItems, evidence.Malformed, i.Type, err)
		}
	}
	return got, nil
}

// candidates returns the certificates that may endorse a key of kind, the one
// most likely to do so first. What a table calls a certificate proves nothing,
// so one under the other name is tried too, to be refused by its own name.
func (is items) candidates(kind KeyKind) [][]byte {
	all := [][]byte{is.vek, is.table.vcek, is.table.vlek}
	if kind == VLEK {
		all = [][]byte{is.vek, is.table.vlek, is.table.vcek}
	}
	var some [][]byte
	for _, c := range all {
		if c != nil {
			some = append(some, c)
		}
	}
	return some
}

// openCertificate returns a copy of the DER that data has, as it is or in PEM.
func openCertificate(data []byte) ([]byte, error) {
	if len(data) > maxVEK {
		return nil, fmt.Errorf("%d bytes", len(data))
	}
	der, err := pki.DER(data, pki.Certificate)
	return bytes.Clone(der), err
}
