package snp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
)

// Limits of revocation lists. AMD's have few entries.
const (
	maxCRL   = 1 << 20 // bytes, in DER or PEM
	keptCRLs = 16
)

// crlKey names a list that an ARK signed.
type crlKey struct{ root, sum [32]byte }

// checkRevocation returns when the list that it relied on expires.
//
// All VCEKs, and the VLEKs seen so far, have serial number 0. It names none of
// them, so a list that has 0 revokes nothing by it: it would revoke every chip.
// Chips are refused by name, with ReferenceValues.
//
// Every list that is current counts, not the newest alone: nothing in a list says
// whether it is the one for VCEKs or the one for VLEKs, and a Source that sorts
// files by what they hold has both under either name.
func (v *Verifier) checkRevocation(ctx context.Context, k signer, now time.Time) (time.Time, error) {
	lists, err := v.currentCRLs(ctx, k.issuer, now)
	if err != nil {
		return time.Time{}, err
	}
	until := lists[0].NextUpdate
	for _, list := range lists {
		if list.Revokes(k.issuer.cert.SerialNumber) {
			return time.Time{}, fail(checkRevocation, evidence.Revoked, k.issuer.name, nil)
		}
		if k.serial.Sign() != 0 && list.Revokes(k.serial) {
			return time.Time{}, fail(checkRevocation, evidence.Revoked, k.kind.String(), nil)
		}
		until = earliest(until, list.NextUpdate)
	}
	return until, nil
}

// currentCRLs returns the lists that the Source has for is and that are current
// at now: one at least. A list that nobody can read is no list: what is wrong with
// it says nothing about the Evidence.
func (v *Verifier) currentCRLs(ctx context.Context, is *issuer, now time.Time) ([]*pki.CRL, error) {
	answers, err := v.cfg.Source.Get(ctx, CRLName(is.line, is.kind))
	if err != nil {
		return nil, fail(checkRevocation, evidence.Unavailable, "CRL", err)
	}
	var lists []*pki.CRL
	var unreadable error
	stale := false
	for _, a := range answers[:min(len(answers), maxCandidates)] {
		list, err := v.crl(a.Data, is)
		switch {
		case err != nil:
			unreadable = err
		case !list.Current(now):
			stale = true
		default:
			lists = append(lists, list)
		}
	}
	switch {
	case lists != nil:
		return lists, nil
	case stale:
		return nil, fail(checkRevocation, evidence.Stale, "CRL", nil)
	case unreadable != nil:
		return nil, fail(checkRevocation, evidence.Unavailable, "CRL", unreadable)
	}
	return nil, fail(checkRevocation, evidence.Unavailable, "CRL", evidence.ErrNotFound)
}

// crl returns the list in data, which the root of is signed. As with [Verifier.signer],
// bytes once verified are not verified again.
func (v *Verifier) crl(data []byte, is *issuer) (*pki.CRL, error) {
	if len(data) > maxCRL {
		return nil, fmt.Errorf("list of %d bytes", len(data))
	}
	der, err := pki.DER(data, pki.List)
	if err != nil {
		return nil, err
	}
	key := crlKey{is.root, sha256.Sum256(der)}
	if list, ok := v.crls.Get(key); ok {
		return list, nil
	}
	list, err := pki.ParseCRL(bytes.Clone(der), is.ark, algorithm)
	if err != nil {
		return nil, err
	}
	v.crls.Put(key, list)
	return list, nil
}
