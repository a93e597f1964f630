// Command verify tells whether evidence is genuine and, given a policy,
// acceptable.
//
//	verify [flags] FILE
//
// Exit status: 0 yes, 1 no, 2 usage, unreadable input, or a service out of reach.
// A file that can be read and is no evidence is a no.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Command{Name: "verify", Args: "FILE", About: about, Setup: setup}.Main(args, stdout, stderr)
}

const about = `
Is this evidence genuine and current, and is it acceptable?

FILE is evidence as the hardware made it: for AMD SEV-SNP a report of 1184 bytes,
for Intel TDX a quote, for Arm CCA a token, for Azure's vTPM its blob. Flags come before FILE. Genuine means
that every check of the format passed, up to the vendor's root and its revocation
lists.

  verify -endorsements vcek.der,milan.crl report.bin

What you know of revocation comes from -endorsements. Without a list the answer
is no, unless you say that you can do without:

  verify -endorsements vcek.der -allow-no-revocation report.bin

Was it signed for this nonce, and may such a guest run? Evidence of long ago is
read with the clock of its time:

  verify -endorsements certs/ -binding 5f0c… -policy policy.json report.bin
  verify -endorsements vcek.der -allow-no-revocation -at 2025-06-01T00:00:00Z -json report.bin

A quote needs Intel's collateral: TCB Info, QE identity, their issuer chains, and
the lists of the PCK CA and of the root, as a folder of files of any name:

  verify -endorsements tdx-collateral/ quote.bin
  verify -endorsements lists/ -allow-no-tcb quote.bin

How up to date its platform is, is a claim, tdx.tcb.status: a quote that is
OutOfDate is genuine. An event log beside it, CCEL as the firmware wrote it or a
runtime log in JSON, has to make the RTMRs what the quote says:

  verify -endorsements tdx-collateral/,ccel.bin quote.bin

Arm has no root: say which platform's key (CPAK) you trust, as a list of JWKs with
the instances they are of, or as a PEM key, which then stands for the instance that
the token names. A vendor's CA, for tokens that bring certificates, goes to -roots:

  verify -endorsements anchors.json token.cbor
  verify -endorsements cpak.pub.pem token.cbor
  verify -roots vendor-ca.pem token.cbor

The keys of a vTPM of Azure are in a blob, NV index 0x01400001, with the report of
SEV-SNP that vouches for them; -binding is then what the guest had put beside them,
and a policy judges the report:

  verify -endorsements vcek.der,milan.crl hcl.bin

Whoever has none of this asks the vendors, for what is not among -endorsements:

  verify -fetch report.bin
  verify -fetch -pcs https://pccs.internal:8081 quote.bin

A service out of reach is no answer: exit status 2, whatever is printed.

With -policy and without -binding everything but the binding is judged. In the
JSON, accepted is null without -policy and false for what is not authentic, and
format is "unknown" if FILE looks like no evidence at all.`

// options are the command line.
type options struct {
	tee               *tee // nil: told from the evidence
	endorsements      cli.List
	roots             cli.List
	policy            string
	now               time.Time
	binding           evidence.Binding // zero: none given
	allowNoRevocation bool
	allowNoTCB        bool
	json              bool
	fetch             fetching
}

func setup(fs *flag.FlagSet) cli.Action {
	o := options{now: time.Now()}
	fs.Func("format", "the evidence is of this `FORMAT`: auto, snp, tdx, cca or vtpm (default auto)", o.setFormat)
	fs.Var(&o.endorsements, "endorsements", "files and folders `PATH,…` with VCEK or VLEK, certificate table, TDX collateral, CRLs, TDX event logs, CCA trust anchors")
	fs.Var(&o.roots, "roots", "files `PEM,…` with the trust anchors to use instead of the vendors': certificates and, for CCA, public keys")
	fs.Func("policy", "judge by the policy document `FILE`", o.setPolicy)
	fs.Func("at", "judge validity at this `TIME`, such as 2025-06-01T00:00:00Z (default now)", o.setTime)
	fs.Func("binding", "what must have been signed: `HEX` of up to 64 bytes", o.setBinding)
	fs.BoolVar(&o.allowNoRevocation, "allow-no-revocation", false, "do without revocation lists: nothing is known of stolen keys; CCA has none")
	fs.BoolVar(&o.allowNoTCB, "allow-no-tcb", false, "TDX: do without TCB Info and QE identity: nothing is known of the platform's TCB, nor that the quoting enclave is Intel's; means nothing to the other formats")
	fs.BoolVar(&o.json, "json", false, "print one JSON object")
	o.fetch.register(fs)
	return func(args []string, stdout io.Writer) (bool, error) {
		if len(args) != 1 {
			return false, cli.Usagef("want one FILE after the flags, got %d arguments", len(args))
		}
		return o.verify(context.Background(), args[0], stdout)
	}
}

func (o *options) setFormat(s string) error {
	if s == "auto" {
		return nil
	}
	for _, t := range tees() {
		if t.name == s {
			o.tee = &t
			return nil
		}
	}
	return errors.New("no such format")
}

// setPolicy refuses an empty name, as of a variable that is not set: without a
// policy anything genuine is a yes.
func (o *options) setPolicy(s string) error {
	if s == "" {
		return errors.New("no name of a file")
	}
	o.policy = s
	return nil
}

func (o *options) setTime(s string) (err error) {
	o.now, err = time.Parse(time.RFC3339, s)
	return err
}

func (o *options) setBinding(s string) error {
	b, err := hex.DecodeString(strings.ToLower(s))
	if err != nil {
		return err
	}
	o.binding, err = evidence.NewBinding(b)
	return err
}

// verify reads everything, judges, prints, and returns the answer.
func (o *options) verify(ctx context.Context, file string, stdout io.Writer) (bool, error) {
	in, err := o.read(file)
	if err != nil {
		return false, err
	}
	r, err := judge(ctx, in)
	if err != nil {
		return false, err
	}
	if err := o.print(r, in, stdout); err != nil {
		return false, err
	}
	return r.yes(), o.fetch.err(r)
}

func (o *options) print(r *result, in input, stdout io.Writer) error {
	if o.json {
		return cli.WriteJSON(stdout, r)
	}
	page := cli.NewPage(stdout)
	r.print(page, in)
	_, err := page.WriteTo(stdout)
	return err
}
