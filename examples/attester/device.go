package main

import (
	"bytes"
	"fmt"

	"github.com/google/go-sev-guest/client"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// device is the hardware of a guest, as go-sev-guest presents it.
type device interface {
	// GetRawQuote returns a report with the certificate table behind it.
	GetRawQuote(reportData [64]byte) ([]byte, error)
}

// openDevice finds configfs-tsm or /dev/sev-guest.
func openDevice() (device, error) { return client.GetQuoteProvider() }

// reportSize is the size of ATTESTATION_REPORT.
const reportSize = 1184

// deviceQuote has data signed by d.
func deviceQuote(d device, data evidence.Binding) (quote, error) {
	var field [64]byte
	copy(field[:], data.Bytes())
	raw, err := d.GetRawQuote(field)
	if err != nil {
		return quote{}, fmt.Errorf("SEV-SNP guest device: %w", err)
	}
	if len(raw) < reportSize {
		return quote{}, fmt.Errorf("SEV-SNP guest device: %d bytes are no report", len(raw))
	}
	q := quote{raw: bytes.Clone(raw[:reportSize]), endorsements: map[string][]byte{}}
	if table := raw[reportSize:]; len(table) > 0 {
		// A verifier goes by what files hold. If the host could write a revocation
		// list here, it would choose what is known of revocation.
		if _, err := snp.TableVEKs(table); err != nil {
			return quote{}, fmt.Errorf("SEV-SNP guest device: %w", err)
		}
		q.endorsements[tableFile] = bytes.Clone(table)
	}
	return q, nil
}
