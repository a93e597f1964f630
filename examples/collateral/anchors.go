package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// anchors are the vendors' roots, or those that -roots names.
type anchors struct {
	amd   []snp.Anchors
	intel [][]byte
}

// readAnchors returns the anchors in paths, PEM files that may hold those of
// several vendors, by the names in them. Without paths they are the vendors' own.
func readAnchors(paths []string) (a anchors, err error) {
	if len(paths) == 0 {
		return anchors{snp.AMD(), tdx.Intel()}, nil
	}
	named := map[string][]byte{}
	for _, path := range paths {
		b, err := cli.ReadFile(path, maxFile)
		if err != nil {
			return anchors{}, err
		}
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				continue
			}
			name := c.Subject.CommonName
			if old := named[name]; old != nil && !bytes.Equal(old, c.Raw) {
				return anchors{}, fmt.Errorf("-roots: two certificates called %s", name)
			}
			named[name] = c.Raw
		}
	}
	for line := snp.Milan; line <= snp.Turin; line++ {
		name := line.String()
		of := snp.Anchors{Line: line, ARK: named["ARK-"+name], ASK: named["SEV-"+name], ASVK: named["SEV-VLEK-"+name]}
		if of.ARK != nil {
			a.amd = append(a.amd, of)
		}
	}
	if root := named["Intel SGX Root CA"]; root != nil {
		a.intel = [][]byte{root}
	}
	if a.amd == nil && a.intel == nil {
		return anchors{}, errors.New("-roots: no root of AMD or Intel")
	}
	return a, nil
}

// readSigner returns the private key in a PEM file.
func readSigner(path string) (crypto.Signer, error) {
	b, err := cli.ReadFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default: // openssl writes parameters before keys
			continue
		}
		if signer, ok := key.(*ecdsa.PrivateKey); ok && err == nil {
			return signer, nil
		}
	}
	return nil, fmt.Errorf("%s: no private key of ECDSA in PEM", path)
}

// readKeys returns the public keys in PEM files.
func readKeys(paths []string) (keys []crypto.PublicKey, err error) {
	for _, path := range paths {
		b, err := cli.ReadFile(path, maxFile)
		if err != nil {
			return nil, err
		}
		found := 0
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil && block.Type == "PUBLIC KEY" {
				keys = append(keys, key)
				found++
			}
		}
		if found == 0 {
			return nil, fmt.Errorf("%s: no public key in PEM", path)
		}
	}
	return keys, nil
}
