package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// maxFile bounds each file that is read, in bytes: evidence with its logs, a
// certificate, a policy.
const maxFile = 4 << 20

// input is everything that was read.
type input struct {
	tee      *tee // nil if the evidence is of no known format
	raw      []byte
	tooLarge bool // the file is beyond maxFile, and there is no raw
	trust    trust
	binding  evidence.Binding
	policy   *policy.Policy // nil if none was given
}

// evidence returns the Evidence to verify.
func (in input) evidence() evidence.Evidence {
	return evidence.Evidence{Format: in.tee.format, Raw: in.raw, Items: in.trust.items}
}

// read reads all files that the options name.
func (o *options) read(file string) (input, error) {
	in := input{tee: o.tee, binding: o.binding}
	var err error
	in.raw, err = cli.ReadFile(file, maxFile)
	switch in.tooLarge = errors.Is(err, cli.ErrTooLarge); {
	case err != nil && !in.tooLarge:
		return input{}, err
	case in.tee == nil:
		in.tee = detect(in.raw)
	}
	if in.trust, err = o.readTrust(); err != nil {
		return input{}, err
	}
	in.policy, err = o.readPolicy()
	return in, err
}

// detect returns the format that raw looks like, or nil.
func detect(raw []byte) *tee {
	for _, t := range tees() {
		if t.looksLike(raw) {
			return &t
		}
	}
	return nil
}

func (o *options) readPolicy() (*policy.Policy, error) {
	if o.policy == "" {
		return nil, nil
	}
	doc, err := cli.ReadFile(o.policy, maxFile)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(doc, policy.Decoders{
		snp.Format: policy.Decoder(snp.DecodeReferenceValues),
		tdx.Format: policy.Decoder(tdx.DecodeReferenceValues),
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.policy, err)
	}
	// The person at the keyboard said so.
	if o.allowNoRevocation {
		p.AllowSkipped = append(p.AllowSkipped, "revocation")
	}
	if o.allowNoTCB {
		p.AllowSkipped = append(p.AllowSkipped, "tcb")
	}
	return p, nil
}

func (o *options) readTrust() (t trust, err error) {
	t = trust{now: o.now, skipRevocation: o.allowNoRevocation, skipTCB: o.allowNoTCB}
	if t.anchors, err = readAnchors(o.roots); err != nil {
		return trust{}, err
	}
	t.source, t.items, err = readEndorsements(o.endorsements)
	return t, err
}

// readEndorsements returns the Source of what is under paths, and the Items that
// go with evidence: the first VEK and the first certificate table. If there are
// more, the Source knows each VEK by the name of its chip.
func readEndorsements(paths []string) (evidence.Source, []evidence.Item, error) {
	files, err := collateral.Dir(paths...)
	if err != nil {
		return nil, nil, err
	}
	var items []evidence.Item
	for file, names := range files.All() {
		if !slices.Contains(paths, file) && len(names) == 0 {
			continue // a folder may have anything
		}
		b, err := cli.ReadFile(file, maxFile)
		if err != nil {
			return nil, nil, err
		}
		items = addItem(items, b)
	}
	return files, items, nil
}

// addItem adds the Item that file is good for, unless there is one of its type.
func addItem(items []evidence.Item, file []byte) []evidence.Item {
	item, ok := itemIn(file)
	if !ok || slices.ContainsFunc(items, func(i evidence.Item) bool { return i.Type == item.Type }) {
		return items
	}
	return append(items, item)
}

// itemIn returns file itself if it is a certificate table, or the first VEK in a
// file of certificates, or false.
func itemIn(file []byte) (evidence.Item, bool) {
	if _, err := snp.TableVEKs(file); err == nil {
		return evidence.Item{Type: snp.CertTable, Data: file}, true
	}
	for _, c := range certificatesIn(file) {
		if n := c.Subject.CommonName; n == "SEV-VCEK" || n == "SEV-VLEK" {
			return evidence.Item{Type: snp.VEK, Data: c.Raw}, true
		}
	}
	return evidence.Item{}, false
}

// certificatesIn returns the certificates of a PEM file, or of a DER file the one.
func certificatesIn(b []byte) (certs []*x509.Certificate) {
	if c, err := x509.ParseCertificate(b); err == nil {
		return []*x509.Certificate{c}
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, c)
		}
	}
	return certs
}
