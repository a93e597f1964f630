package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp/snptest"
)

// An explanation is why the other one refuses a case that we accept. It holds only
// if the evidence has the property and the error is the one that the property gives.
// docs/differential.md says why accepting is right.
type explanation[C any] struct {
	name  string
	holds func(c C, theirs error) bool
}

func explanations() []explanation[*testCase] {
	return []explanation[*testCase]{
		{"processor model", unknownModel},
		{"stepping above 15", greatStepping},
		{"product name of version 2", productName},
		{"platform-info bit", platformBit},
		{"security version above 127", greatSPL},
		{"firmware build alone", buildAlone},
		{"firmware version order", versionOrder},
		{"ASK revoked, VLEK used", revokedASK},
		{"PEM", inPEM},
		{"PEM list", listInPEM},
		{"other table entry", otherEntry},
	}
}

// explain returns why go-sev-guest refused c, which we accept, or false if any
// part of its error has no explanation.
func explain(c *testCase, theirs error) (string, bool) { return explainBy(explanations(), c, theirs) }

// explainBy explains by the first of xs that holds for each part of an error.
func explainBy[C any](xs []explanation[C], c C, theirs error) (string, bool) {
	var names []string
	for _, err := range parts(theirs) {
		i := slices.IndexFunc(xs, func(x explanation[C]) bool { return x.holds(c, err) })
		if i < 0 {
			return "", false
		}
		if name := xs[i].name; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " and "), true
}

// parts returns the errors that validate combined.
func parts(err error) []error {
	var combined interface{ Unwrap() []error }
	if errors.As(err, &combined) {
		return combined.Unwrap()
	}
	return []error{err}
}

func says(err error, text string) bool { return strings.Contains(err.Error(), text) }

// unknownModel: it knows family 19h models 01h and 11h, and no root for others.
func unknownModel(c *testCase, err error) bool {
	family, model := c.report[offsetFamily], c.report[offsetModel]
	return c.report[offsetVersion] > 2 && family == 0x19 && model != 0x01 && model != 0x11 &&
		says(err, "could not be verified by any trusted roots. Last error: <nil>")
}

// greatStepping: it takes steppings of 4 bits.
func greatStepping(c *testCase, err error) bool {
	return c.report[offsetVersion] > 2 && c.report[offsetStepping] > 15 &&
		says(err, "report signature verification error")
}

// productName: for version 2 it takes the line from productName, of which it
// knows Milan-B0 and -B1 and Genoa-B0 to -B2 in a VCEK, and none with a stepping
// in a VLEK.
func productName(c *testCase, err error) bool {
	name, ok := product(c)
	if !ok || c.report[offsetVersion] != 2 {
		return false
	}
	if c.vlek() {
		return strings.Contains(name, "-") && says(err, "unknown AMD SEV product")
	}
	known := []string{"Milan-B0", "Milan-B1", "Genoa-B0", "Genoa-B1", "Genoa-B2"}
	return !slices.Contains(known, name) && says(err, "unknown product name")
}

// product returns the productName of the certificate in c's slot.
func product(c *testCase) (string, bool) {
	der, ok := c.slot()
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	cert, err := x509.ParseCertificate(der)
	if !ok || err != nil {
		return "", false
	}
	for _, x := range cert.Extensions {
		if x.Id.Equal(oidProductName) && len(x.Value) > 2 {
			return string(x.Value[2:]), true
		}
	}
	return "", false
}

// slot returns the certificate under the GUID that SIGNING_KEY names.
func (c *testCase) slot() ([]byte, bool) {
	for _, e := range c.entries {
		if e.GUID == slot(c.report) {
			return e.Data, true
		}
	}
	return nil, false
}

func (c *testCase) vlek() bool { return c.report[offsetKeyInfo]>>2&7 == 1 }

// platformBit: it refuses PLATFORM_INFO with bit 6 or any above 7.
func platformBit(c *testCase, err error) bool {
	info := c.report[offsetPlatformInfo : offsetPlatformInfo+8]
	return info[0]&(1<<6) != 0 && says(err, "reserved platform info bit 6") ||
		!bytes.Equal(info[1:], make([]byte, 7)) && says(err, "unrecognized platform info bit")
}

// greatSPL: it takes security versions other than that of microcode up to 127.
func greatSPL(c *testCase, err error) bool {
	tcb := c.report[offsetReportedTCB : offsetReportedTCB+8]
	return (tcb[0] > 127 || tcb[1] > 127 || tcb[6] > 127) && says(err, "TCB part is")
}

// buildAlone: it compares build numbers whatever major and minor are.
func buildAlone(c *testCase, err error) bool {
	current, committed := firmware(c.report[offsetCurrent:]), firmware(c.report[offsetCommitted:])
	return bytes.Compare(committed, current) <= 0 && committed[2] > current[2] &&
		says(err, "committed build number")
}

// versionOrder: it refuses a committed version above the current one.
func versionOrder(c *testCase, err error) bool {
	current, committed := firmware(c.report[offsetCurrent:]), firmware(c.report[offsetCommitted:])
	return bytes.Compare(committed, current) > 0 &&
		(says(err, "committed build number") || says(err, "committed API version"))
}

// firmware returns major, minor and build of what has them the other way round.
func firmware(b []byte) []byte { return []byte{b[2], b[1], b[0]} }

// revokedASK: it looks for the ASK in the list also where the ASVK issued the key.
func revokedASK(c *testCase, err error) bool {
	return c.vlek() && c.lists.name == "ASKs revoked" && says(err, "ASK was revoked")
}

// inPEM: its verify takes PEM with nothing after it, its validate none.
func inPEM(c *testCase, err error) bool {
	data, _ := c.slot()
	block, rest := pem.Decode(data)
	return block != nil && bytes.HasPrefix(data, []byte("-----BEGIN ")) &&
		(says(err, "x509: malformed certificate") || len(rest) > 0 && says(err, "trailing bytes"))
}

// listInPEM: it takes lists in DER only.
func listInPEM(c *testCase, err error) bool {
	return c.lists.name == "in PEM" && says(err, "x509: malformed crl")
}

// otherEntry: it looks under the GUID that SIGNING_KEY names only. Given only what
// is there, we refuse too.
func otherEntry(c *testCase, _ error) bool {
	if len(c.entries) < 2 && c.entries[0].GUID == slot(c.report) {
		return false
	}
	only := *c
	only.entries = nil
	for _, e := range c.entries {
		if e.GUID == slot(c.report) {
			only.entries = append(only.entries, snptest.Entry{GUID: e.GUID, Data: e.Data})
		}
	}
	err := ours(&only)
	return errors.As(err, new(*evidence.Error))
}
