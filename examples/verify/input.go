package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/vtpm"
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
	if in.trust, err = o.readTrust(in.tee); err != nil {
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
		cca.Format: policy.Decoder(cca.DecodeReferenceValues),

		vtpm.Format: policy.Decoder(vtpm.DecodeReferenceValues),
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

// readTrust reads what evidence of t is judged with; t is nil if it is of no
// known format.
func (o *options) readTrust(t *tee) (found trust, err error) {
	found = trust{now: o.now, skipRevocation: o.allowNoRevocation, skipTCB: o.allowNoTCB}
	if found.anchors, err = readAnchors(o.roots); err != nil {
		return trust{}, err
	}
	files, err := collateral.Dir(o.endorsements...)
	if err != nil {
		return trust{}, err
	}
	if found.source, err = o.fetch.behind(files); err != nil {
		return trust{}, err
	}
	if t == nil {
		return found, nil
	}
	for path, names := range files.All() {
		f, err := readEndorsement(path, slices.Contains(o.endorsements, path), len(names) > 0)
		if err == nil && f.data != nil {
			err = t.collect(&found, f)
		}
		if err != nil {
			return trust{}, err
		}
	}
	return found, nil
}

// endorsement is a file among the endorsements.
type endorsement struct {
	path  string
	data  []byte
	named bool // on the command line; a folder may have anything
	known bool // to the Source
}

// readEndorsement reads a file, but in a folder nothing that the Source passed
// over as no regular file or too large.
func readEndorsement(path string, named, known bool) (endorsement, error) {
	if !named {
		info, err := os.Lstat(path)
		if err != nil {
			return endorsement{}, err
		}
		if !info.Mode().IsRegular() || info.Size() > maxFile {
			return endorsement{}, nil
		}
	}
	data, err := cli.ReadFile(path, maxFile)
	return endorsement{path, data, named, known}, err
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
