package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"github.com/google/go-configfs-tsm/report"
	snpclient "github.com/google/go-sev-guest/client"
	tdxclient "github.com/google/go-tdx-guest/client"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// machine is where the program runs.
type machine struct {
	open func(tee string) (device, error) // finds the device of a real guest
	ccel string                           // the file of the event log that ACPI points to
}

// thisMachine returns the machine that Linux presents.
func thisMachine() machine {
	return machine{openDevice, "/sys/firmware/acpi/tables/data/CCEL"}
}

// device is the hardware of a guest, as go-sev-guest and go-tdx-guest present it.
type device interface {
	// GetRawQuote returns a report with the certificate table behind it, a quote or
	// a token.
	GetRawQuote(reportData [64]byte) ([]byte, error)
}

// openDevice finds configfs-tsm, or for SEV-SNP /dev/sev-guest.
func openDevice(tee string) (device, error) {
	switch tee {
	case teeTDX:
		p, err := tdxclient.GetQuoteProvider()
		if err != nil {
			return nil, err
		}
		return p, p.IsSupported()
	case teeCCA:
		c, err := linuxtsm.MakeClient()
		return ccaDevice{c}, err
	}
	return snpclient.GetQuoteProvider()
}

// deviceQuote has data signed by d of m, of the TEE of g.
func (g *guest) deviceQuote(m machine, d device, data evidence.Binding) (quote, error) {
	var field [64]byte
	copy(field[:], data.Bytes())
	raw, err := d.GetRawQuote(field)
	if err != nil {
		return quote{}, fmt.Errorf("%s guest device: %w", g.title(), err)
	}
	q, err := g.quoteOf(m, bytes.Clone(raw))
	if err != nil {
		return quote{}, fmt.Errorf("%s guest device: %w", g.title(), err)
	}
	return q, nil
}

// quoteOf returns what a device answered, and what of m goes with it.
func (g *guest) quoteOf(m machine, raw []byte) (quote, error) {
	switch g.tee {
	case teeTDX:
		return m.tdxQuote(raw)
	case teeCCA:
		_, err := cca.ParseToken(raw)
		return quote{raw: raw}, err
	}
	return snpQuote(raw)
}

// ccaDevice is configfs-tsm in a realm: Linux, Documentation/ABI/testing/configfs-tsm-report.
type ccaDevice struct{ client configfsi.Client }

// provider is the driver that answers in a realm.
const provider = "arm_cca_guest"

// GetRawQuote returns a token with reportData as the challenge of the realm.
func (d ccaDevice) GetRawQuote(reportData [64]byte) ([]byte, error) {
	r, err := report.Get(d.client, &report.Request{InBlob: reportData[:]})
	if err != nil {
		return nil, err
	}
	if p := strings.TrimSpace(r.Provider); p != provider {
		return nil, fmt.Errorf("this is no realm: configfs-tsm is of %q", p)
	}
	return r.OutBlob, nil
}

// tdxQuote returns a quote with the event log of the firmware, where there is one
// that may be read. What else endorses it is Intel's to publish.
func (m machine) tdxQuote(raw []byte) (quote, error) {
	if _, err := tdx.ParseQuote(raw); err != nil {
		return quote{}, err
	}
	log, err := cli.ReadFile(m.ccel, tdx.MaxEventLogSize)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
		return quote{raw: raw}, nil
	case err != nil:
		return quote{}, err
	}
	// A verifier goes by what files hold. The host has a say in ACPI tables: it must
	// not put collateral here.
	if _, err := tdx.ParseCCEL(log); err != nil {
		return quote{}, fmt.Errorf("%s: %w", m.ccel, err)
	}
	return quote{raw: raw, endorsements: map[string][]byte{ccelFile: log}}, nil
}

// reportSize is the size of ATTESTATION_REPORT.
const reportSize = 1184

// snpQuote takes a report and the certificate table behind it apart.
func snpQuote(raw []byte) (quote, error) {
	if len(raw) < reportSize {
		return quote{}, fmt.Errorf("%d bytes are no report", len(raw))
	}
	q := quote{raw: raw[:reportSize], endorsements: map[string][]byte{}}
	if table := raw[reportSize:]; len(table) > 0 {
		// A verifier goes by what files hold. If the host could write a revocation
		// list here, it would choose what is known of revocation.
		if _, err := snp.TableVEKs(table); err != nil {
			return quote{}, err
		}
		q.endorsements[tableFile] = table
	}
	return q, nil
}
