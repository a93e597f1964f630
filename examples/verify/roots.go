package main

import (
	"bytes"
	"encoding/pem"
	"fmt"

	"github.com/teebroker/teebroker/examples/internal/cli"
)

// anchor is a certificate that the person at the keyboard trusts, or a public key.
// The name of a certificate says whose it is; a key has none.
type anchor struct {
	name string
	der  []byte
	key  bool
}

// readAnchors returns the certificates and keys in paths, or nil without paths.
func readAnchors(paths []string) (anchors []anchor, err error) {
	for _, path := range paths {
		b, err := cli.ReadFile(path, maxFile)
		if err != nil {
			return nil, err
		}
		before := len(anchors)
		for _, c := range certificatesIn(b) {
			anchors = append(anchors, anchor{name: c.Subject.CommonName, der: c.Raw})
		}
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "PUBLIC KEY" {
				anchors = append(anchors, anchor{der: block.Bytes, key: true})
			}
		}
		if len(anchors) == before {
			return nil, fmt.Errorf("%s: no certificates and no public keys", path)
		}
	}
	return anchors, nil
}

// only returns the certificate called name, nil if there is none, and an error
// if there are different ones.
func only(anchors []anchor, name string) (der []byte, err error) {
	for _, a := range anchors {
		if a.key || a.name != name {
			continue
		}
		if der != nil && !bytes.Equal(der, a.der) {
			return nil, fmt.Errorf("-roots: two certificates called %s", name)
		}
		der = a.der
	}
	return der, nil
}
