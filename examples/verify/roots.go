package main

import (
	"bytes"
	"fmt"

	"github.com/teebroker/teebroker/examples/internal/cli"
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
