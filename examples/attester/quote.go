package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
)

// quote is evidence as the platform made it, and what endorses it by file name.
type quote struct {
	raw          []byte
	endorsements map[string][]byte
}

// Names in the folder of endorsements.
const (
	tableFile = "certificates.bin" // as the host delivered it
	vekFile   = "vcek.der"
	crlFile   = "vcek.crl"

	tcbInfoFile    = "tcb_info.json"
	tcbChainFile   = "tcb_info_chain.pem"
	qeIdentityFile = "qe_identity.json"
	qeChainFile    = "qe_identity_chain.pem"
	pckCRLFile     = "pck_crl.der"
	rootCRLFile    = "root_ca_crl.der"
	ccelFile       = "ccel.bin" // event log of the firmware
)

// endorsementFiles returns all of them.
func endorsementFiles() []string {
	return []string{
		tableFile, vekFile, crlFile,
		tcbInfoFile, tcbChainFile, qeIdentityFile, qeChainFile, pckCRLFile, rootCRLFile, ccelFile,
	}
}

func quoteCommand(m machine) cli.Command {
	return cli.Command{
		Name: "attester quote",
		About: `
Write evidence signed for -report-data to a file, and its endorsements beside it.

Evidence goes to FILE as the hardware made it, what endorses it to the folder
FILE.endorsements. In a confidential VM:

  attester quote -tee snp -report-data 5f0c… -out report.bin
  attester quote -tee tdx -report-data 5f0c… -out quote.bin

  attester quote -tee cca -report-data 5f0c… -out token.cbor

What endorses a quote of a real TD is for the verifier to get from Intel; the event
log of its firmware, where it can be read, is put beside the quote. A system that
extends the same registers later has a log of its own, without which that one does
not replay. Whose key signed a token of CCA is for the verifier to know.

From a simulated Genoa, as a guest launched for an instance of tenant acme:

  attester quote -tee snp -simulate sim -product Genoa -tenant acme \
    -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11 -report-data 5f0c… -out report.bin`,
		Setup: func(fs *flag.FlagSet) cli.Action { return setupQuote(fs, m) },
	}
}

func setupQuote(fs *flag.FlagSet, m machine) cli.Action {
	var data evidence.Binding
	var out string
	g := guestFlags(fs)
	fs.Func("report-data", "what to have signed: `HEX` of up to 64 bytes, followed by zeros", func(s string) error {
		b, err := hex.DecodeString(strings.ToLower(s))
		if err != nil {
			return err
		}
		data, err = evidence.NewBinding(b)
		return err
	})
	fs.StringVar(&out, "out", "", "write evidence to `FILE`, endorsements to FILE.endorsements")
	return func(args []string, _ io.Writer) (bool, error) {
		switch {
		case len(args) != 0:
			return false, cli.Usagef("unexpected argument %q", args[0])
		case g.tee == "":
			return false, cli.Usagef("-tee is required")
		case out == "" || !data.Checked():
			return false, cli.Usagef("-report-data and -out are required")
		}
		q, err := g.quote(m, data)
		if err != nil {
			return false, err
		}
		return true, q.write(out)
	}
}

// quote asks the simulated platform or the device of m.
func (g *guest) quote(m machine, data evidence.Binding) (quote, error) {
	if err := g.checkProduct(); err != nil {
		return quote{}, err
	}
	if g.dir != "" {
		return g.simulatedQuote(context.Background(), data)
	}
	if g.simulatedOnly() {
		return quote{}, cli.Usagef("-product, -tenant, -instance and -host-data describe a simulated guest: they need -simulate")
	}
	d, err := m.open(g.tee)
	if err != nil {
		return quote{}, fmt.Errorf("no %s guest device here: %w; -simulate DIR does without", g.title(), err)
	}
	return g.deviceQuote(m, d, data)
}

// write replaces file and the folder beside it. Files of other names in the
// folder are left alone.
func (q quote) write(file string) error {
	dir := file + ".endorsements"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range endorsementFiles() {
		if err := q.writeEndorsement(filepath.Join(dir, name), q.endorsements[name]); err != nil {
			return err
		}
	}
	return cli.WriteFile(file, q.raw, 0o644)
}

// writeEndorsement writes data, or without data removes what an earlier quote left.
func (q quote) writeEndorsement(path string, data []byte) error {
	if data != nil {
		return cli.WriteFile(path, data, 0o644)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
