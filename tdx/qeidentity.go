package tdx

import (
	"crypto/x509"
	"math"

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
	id, h := &qeIdentity{}, head{}
	err := strictjson.Decode(body, func(d *strictjson.Decoder) {
		d.Object(append(
			h.members(d),
			strictjson.Required("miscselect", func() { hexIn(d, id.miscSelect[:]) }),
			strictjson.Required("miscselectMask", func() { hexIn(d, id.miscSelectMask[:]) }),
			strictjson.Required("attributes", func() { hexIn(d, id.attributes[:]) }),
			strictjson.Required("attributesMask", func() { hexIn(d, id.attributesMask[:]) }),
			strictjson.Required("mrsigner", func() { hexIn(d, id.mrsigner[:]) }),
			strictjson.Required("isvprodid", func() { id.isvProdID = uint16(d.Uint(math.MaxUint16)) }),
			strictjson.Required("tcbLevels", func() { id.levels = enclaveLevelsIn(d) }),
		)...)
	})
	if err != nil {
		return nil, err
	}
	if err := h.check("TD_QE", 2); err != nil {
		return nil, err
	}
	id.document = h.document
	id.signer = signer
	return id, nil
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
