package main

import (
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
)

// Limits of what is read.
const (
	maxFile  = 4 << 20 // bytes; evidence with its logs, a certificate, a list
	maxFiles = 4096    // in all folders together
)

// input is everything that was read.
type input struct {
	tee     *tee // nil if the evidence is of no known format
	raw     []byte
	trust   trust
	binding evidence.Binding
	policy  *policy.Policy // nil if none was given

	// candidates are the Items to verify with, one set after the other.
	candidates [][]evidence.Item
}

// read reads all files that the options name.
func (o *options) read(file string) (input, error) {
	in := input{tee: o.tee, binding: o.binding}
	var err error
	if in.raw, err = cli.ReadFile(file, maxFile); err != nil && !errors.Is(err, cli.ErrTooLarge) {
		return input{}, err
	}
	if in.tee == nil {
		in.tee = detect(in.raw) // a file beyond the limit is like an empty one: no evidence
	}
	if in.trust, err = o.readTrust(); err != nil {
		return input{}, err
	}
	if in.candidates, err = readCandidates(o.endorsements); err != nil {
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
	p, err := policy.Parse(doc, policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.policy, err)
	}
	if o.allowNoRevocation {
		p.AllowSkipped = []string{"revocation"} // the person at the keyboard said so
	}
	return p, nil
}

func (o *options) readTrust() (trust, error) {
	t := trust{now: o.now, skipRevocation: o.allowNoRevocation}
	var sources []evidence.Source
	for _, path := range o.endorsements {
		s, err := collateral.Dir(path)
		if err != nil {
			return trust{}, err
		}
		sources = append(sources, s)
	}
	t.source = collateral.Fixed{}
	if len(sources) > 0 {
		t.source = collateral.First(sources...)
	}
	var err error
	t.anchors, err = readAnchors(o.roots)
	return t, err
}

// readCandidates returns the VEKs and certificate tables under paths, each as
// a candidate of its own, or one candidate with nothing if there are none.
func readCandidates(paths []string) ([][]evidence.Item, error) {
	var found [][]evidence.Item
	for _, path := range paths {
		files, err := filesUnder(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			b, err := cli.ReadFile(file, maxFile)
			if errors.Is(err, cli.ErrTooLarge) && file != path {
				continue // a folder may have anything
			}
			if err != nil {
				return nil, err
			}
			for _, item := range itemsIn(b) {
				found = append(found, []evidence.Item{item})
			}
		}
	}
	if found == nil {
		return [][]evidence.Item{nil}, nil
	}
	return found, nil
}

// filesUnder returns path itself or the regular files in the folder it is.
func filesUnder(path string) (files []string, err error) {
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == path && !d.IsDir() || d.Type().IsRegular() {
			files = append(files, p)
		}
		if len(files) > maxFiles {
			return fmt.Errorf("%s: more than %d files", path, maxFiles)
		}
		return nil
	})
	return files, err
}

// itemsIn returns the VEKs in a file of certificates, or the file itself if it
// is a certificate table, or nothing.
func itemsIn(b []byte) (items []evidence.Item) {
	if isCertTable(b) {
		return []evidence.Item{{Type: snp.CertTable, Data: b}}
	}
	for _, c := range certificatesIn(b) {
		if n := c.Subject.CommonName; n == "SEV-VCEK" || n == "SEV-VLEK" {
			items = append(items, evidence.Item{Type: snp.VEK, Data: c.Raw})
		}
	}
	return items
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

// isCertTable reports whether b is laid out as a certificate table of GHCB:
// entries of a GUID, an offset and a length, up to one that is zero.
func isCertTable(b []byte) bool {
	for at := 0; len(b)-at >= 24; at += 24 {
		entry := b[at : at+24]
		if !slices.ContainsFunc(entry, func(x byte) bool { return x != 0 }) {
			return at > 0
		}
		offset, length := binary.LittleEndian.Uint32(entry[16:]), binary.LittleEndian.Uint32(entry[20:])
		if uint64(offset)+uint64(length) > uint64(len(b)) {
			return false
		}
	}
	return false
}
