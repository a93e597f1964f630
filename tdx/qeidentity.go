package tdx

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// qeIdentity is a verified identity of the TD quoting enclave.
type qeIdentity struct {
	document
	miscSelect, miscSelectMask [4]byte
	attributes, attributesMask [16]byte
	mrsigner                   [32]byte
	isvProdID                  uint16
	levels                     []enclaveLevel // highest first
}

// verifyQEIdentity returns the identity that c is, signed below a.
func (v *Verifier) verifyQEIdentity(a *anchor, c evidence.Collateral) (*qeIdentity, error) {
	key := cacheKey{a.sum, sumOf(c)}
	if id, ok := v.identities.Get(key); ok {
		return id, nil
	}
	body, signer, err := v.verifySigned(a, c, "enclaveIdentity")
	if err != nil {
		return nil, err
	}
	id, err := parseQEIdentity(body, signer)
	if err != nil {
		return nil, err
	}
	v.identities.Put(key, id)
	return id, nil
}

// parseQEIdentity parses a QE identity of version 2, that of a TD.
func parseQEIdentity(body []byte, signer *x509.Certificate) (*qeIdentity, error) {
	var w struct {
		wireHead
		MiscSelect     string                  `json:"miscselect"`
		MiscSelectMask string                  `json:"miscselectMask"`
		Attributes     string                  `json:"attributes"`
		AttributesMask string                  `json:"attributesMask"`
		MRSIGNER       string                  `json:"mrsigner"`
		ISVProdID      *uint16                 `json:"isvprodid"`
		Levels         []wireLevel[wireISVSVN] `json:"tcbLevels"`
	}
	if err := strictjson.UnmarshalKnown(body, &w); err != nil {
		return nil, err
	}
	head, err := w.wireHead.parse("TD_QE", 2, signer)
	if err != nil {
		return nil, err
	}
	if w.ISVProdID == nil {
		return nil, errors.New("no isvprodid")
	}
	id := &qeIdentity{document: head, isvProdID: *w.ISVProdID}
	for _, f := range []struct {
		name, text string
		dst        []byte
	}{
		{"miscselect", w.MiscSelect, id.miscSelect[:]},
		{"miscselectMask", w.MiscSelectMask, id.miscSelectMask[:]},
		{"attributes", w.Attributes, id.attributes[:]},
		{"attributesMask", w.AttributesMask, id.attributesMask[:]},
		{"mrsigner", w.MRSIGNER, id.mrsigner[:]},
	} {
		if err := hexTo(f.dst, f.text); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	id.levels, err = parseEnclaveLevels(w.Levels)
	return id, err
}

// check reports whether qe is the enclave that id is about. The mask of the
// attributes has the debug bit, so that an enclave under debug is another.
func (id *qeIdentity) check(qe QE) error {
	switch {
	case !equalMasked(qe.MiscSelect[:], id.miscSelectMask[:], id.miscSelect[:]):
		return fail(checkTCB, evidence.Untrusted, "MISCSELECT", nil)
	case !equalMasked(qe.Attributes[:], id.attributesMask[:], id.attributes[:]):
		return fail(checkTCB, evidence.Untrusted, "ATTRIBUTES", nil)
	case qe.MRSIGNER != id.mrsigner:
		return fail(checkTCB, evidence.Untrusted, "MRSIGNER", nil)
	case qe.ISVProdID != id.isvProdID:
		return fail(checkTCB, evidence.Untrusted, "ISVPRODID", nil)
	}
	return nil
}

// equalMasked reports whether got under mask is want. All are of one size.
func equalMasked(got, mask, want []byte) bool {
	var differ byte
	for i := range want {
		differ |= got[i]&mask[i] ^ want[i]
	}
	return differ == 0
}
