package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
)

// anchor is a certificate that the person at the keyboard trusts. Its name
// says whose it is.
type anchor struct {
	name string
	der  []byte
}

// readAnchors returns the certificates in paths, or nil without paths.
func readAnchors(paths []string) (anchors []anchor, err error) {
	for _, path := range paths {
		b, err := cli.ReadFile(path, maxFile)
		if err != nil {
			return nil, err
		}
		certs := certificatesIn(b)
		if len(certs) == 0 {
			return nil, fmt.Errorf("%s: no certificates", path)
		}
		for _, c := range certs {
			anchors = append(anchors, anchor{c.Subject.CommonName, c.Raw})
		}
	}
	return anchors, nil
}

// snpAnchors returns those of anchors that are AMD's by name, by Line.
func snpAnchors(anchors []anchor) (found []snp.Anchors, err error) {
	for line := snp.Milan; line <= snp.Turin; line++ {
		name := line.String()
		a := snp.Anchors{Line: line}
		for _, want := range []struct {
			name string
			der  *[]byte
		}{{"ARK-" + name, &a.ARK}, {"SEV-" + name, &a.ASK}, {"SEV-VLEK-" + name, &a.ASVK}} {
			if *want.der, err = only(anchors, want.name); err != nil {
				return nil, err
			}
		}
		if a.ARK != nil {
			found = append(found, a)
		}
	}
	if found == nil {
		return nil, errors.New("-roots: no ARK of AMD")
	}
	return found, nil
}

// only returns the certificate called name, nil if there is none, and an error
// if there are different ones.
func only(anchors []anchor, name string) (der []byte, err error) {
	for _, a := range anchors {
		if a.name != name {
			continue
		}
		if der != nil && !bytes.Equal(der, a.der) {
			return nil, fmt.Errorf("-roots: two certificates called %s", name)
		}
		der = a.der
	}
	return der, nil
}
