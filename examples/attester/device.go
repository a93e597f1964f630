package main

import (
	"bytes"
	"fmt"

	snpclient "github.com/google/go-sev-guest/client"
	tdxclient "github.com/google/go-tdx-guest/client"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// device is the hardware of a guest, as go-sev-guest and go-tdx-guest present it.
type device interface {
	// GetRawQuote returns a report with the certificate table behind it, or a quote.
	GetRawQuote(reportData [64]byte) ([]byte, error)
}

// openDevice finds configfs-tsm, or for SEV-SNP /dev/sev-guest.
func openDevice(tee string) (device, error) {
	if tee == teeSNP {
		return snpclient.GetQuoteProvider()
	}
	p, err := tdxclient.GetQuoteProvider()
	if err != nil {
		return nil, err
	}
	return p, p.IsSupported()
}

// reportSize is the size of ATTESTATION_REPORT.
const reportSize = 1184

// deviceQuote has data signed by d, of the TEE of g.
func (g *guest) deviceQuote(d device, data evidence.Binding) (quote, error) {
	var field [64]byte
	copy(field[:], data.Bytes())
	if g.tee == teeTDX {
		return tdxDeviceQuote(d, field)
	}
	return snpDeviceQuote(d, field)
}

// tdxDeviceQuote asks a TD. What endorses its quote is Intel's to publish.
func tdxDeviceQuote(d device, field [64]byte) (quote, error) {
	raw, err := d.GetRawQuote(field)
	if err != nil {
		return quote{}, fmt.Errorf("TDX guest device: %w", err)
	}
	if _, err := tdx.ParseQuote(raw); err != nil {
		return quote{}, fmt.Errorf("TDX guest device: %w", err)
	}
	return quote{raw: bytes.Clone(raw)}, nil
}

// snpDeviceQuote asks a guest of SEV-SNP.
func snpDeviceQuote(d device, field [64]byte) (quote, error) {
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
