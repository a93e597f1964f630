package tdx

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Limits of collateral. Intel's lists have less than 100 entries.
const (
	maxCRL        = 1 << 20 // bytes, in DER or PEM
	maxCandidates = 16      // answers of a Source looked at under one name
	keptDocuments = 256     // of each kind
	keptCRLs      = 16
	keptLinks     = 64
)

// cacheKey names bytes that a certificate vouches for.
type cacheKey struct{ issuer, sum [32]byte }

// run is one verification: what it relies on from the Source, and until when.
type run struct {
	v       *Verifier
	now     time.Time
	end     time.Time     // earliest end of what was relied on
	age     time.Duration // furthest past its nextUpdate of that
	skipped []string
	rootCRL *pki.CRL // nil if revocation is skipped
}

// checkRevocation judges the certificates behind e.
func (r *run) checkRevocation(ctx context.Context, e *endorsement) error {
	if r.v.cfg.SkipRevocationUnsafe {
		r.skipped = append(r.skipped, checkRevocation)
		return nil
	}
	var err error
	if r.rootCRL, err = r.currentCRL(ctx, RootCRLName(), "Root CA CRL", e.root.cert, e.root.sum); err != nil {
		return err
	}
	if r.rootCRL.Revokes(e.ca.SerialNumber) {
		return fail(checkRevocation, evidence.Revoked, e.pck.CA.commonName(), nil)
	}
	list, err := r.currentCRL(ctx, PCKCRLName(e.pck.CA), "PCK CRL", e.ca, sha256.Sum256(e.ca.Raw))
	if err != nil {
		return err
	}
	if list.Revokes(e.leaf.SerialNumber) {
		return fail(checkRevocation, evidence.Revoked, abi.NamePCK, nil)
	}
	return nil
}

// currentCRL returns, of the lists by issuer that the Source has under name and
// that are current, the one issued last. A list that nobody can read is no list:
// what is wrong with it says nothing about the Evidence.
func (r *run) currentCRL(ctx context.Context, name, field string, issuer *x509.Certificate, sum [32]byte) (*pki.CRL, error) {
	answers, err := r.get(ctx, name)
	if err != nil {
		return nil, fail(checkRevocation, evidence.Unavailable, field, err)
	}
	why := refusal{evidence.Unavailable, evidence.ErrNotFound}
	var newest *pki.CRL
	for _, a := range answers {
		list, err := r.v.crl(a.Data, issuer, sum)
		if err != nil {
			why.add(evidence.Unavailable, err)
			continue
		}
		if err := r.checkCurrent(list.ThisUpdate, list.NextUpdate); err != nil {
			why.add(evidence.Stale, err)
			continue
		}
		if newest == nil || list.ThisUpdate.After(newest.ThisUpdate) {
			newest = list
		}
	}
	if newest == nil {
		return nil, fail(checkRevocation, why.reason, field, why.err)
	}
	r.relyOn(newest.NextUpdate)
	return newest, nil
}

// refusal is why none of the answers of a Source can be relied on.
type refusal struct {
	reason evidence.Reason
	err    error
}

// add notes why another is not. What was verified says more than what was not.
func (f *refusal) add(reason evidence.Reason, err error) {
	if f.reason == evidence.Unavailable {
		f.reason, f.err = reason, err
	}
}

// crl returns the list in data, which issuer signed. Bytes once verified are not
// verified again.
func (v *Verifier) crl(data []byte, issuer *x509.Certificate, sum [32]byte) (*pki.CRL, error) {
	if len(data) > maxCRL {
		return nil, fmt.Errorf("list of %d bytes", len(data))
	}
	key := cacheKey{sum, sha256.Sum256(data)}
	if list, ok := v.crls.Get(key); ok {
		return list, nil
	}
	der, err := pki.DER(data, pki.List)
	if err != nil {
		return nil, err
	}
	list, err := pki.ParseCRL(bytes.Clone(der), issuer, algorithm)
	if err != nil {
		return nil, err
	}
	v.crls.Put(key, list)
	return list, nil
}

// checkTCB judges platform, module and quoting enclave.
func (r *run) checkTCB(ctx context.Context, q Quote, e *endorsement) (TCB, error) {
	if r.v.cfg.SkipTCBUnsafe {
		r.skipped = append(r.skipped, checkTCB)
		return TCB{}, nil
	}
	infos, err := usable(ctx, r, TCBInfoName(e.pck.FMSPC), "TCB Info", e.root.cert, func(c evidence.Collateral) (*tcbInfo, error) {
		info, err := r.v.verifyTCBInfo(e.root, c)
		if err == nil && (info.fmspc != e.pck.FMSPC || info.pceid != e.pck.PCEID) {
			return nil, errors.New("for another platform")
		}
		return info, err
	})
	if err != nil {
		return TCB{}, err
	}
	ids, err := usable(ctx, r, QEIdentityName(), "QE Identity", e.root.cert, func(c evidence.Collateral) (*qeIdentity, error) {
		return r.v.verifyQEIdentity(e.root, c)
	})
	if err != nil {
		return TCB{}, err
	}
	info, id, err := r.newestSet(infos, ids)
	if err != nil {
		return TCB{}, err
	}
	if err := id.check(e.qe); err != nil {
		return TCB{}, err
	}
	if err := info.checkModule(q); err != nil {
		return TCB{}, err
	}
	return appraise(info, id, versionsOf(q, e)), nil
}

// head returns what all documents have.
func (d *document) head() *document { return d }

// usableDocument is one that can be relied on now.
type usableDocument[T interface{ head() *document }] struct {
	doc   T
	until time.Time // when the first of its issuers expires
}

// usable returns the documents that the Source has under name and that verify and
// are current, at least one. As with a CRL, one that does not verify is none.
func usable[T interface{ head() *document }](ctx context.Context, r *run, name, field string, root *x509.Certificate, verify func(evidence.Collateral) (T, error)) ([]usableDocument[T], error) {
	answers, err := r.get(ctx, name)
	if err != nil {
		return nil, fail(checkTCB, evidence.Unavailable, field, err)
	}
	why := refusal{evidence.Unavailable, evidence.ErrNotFound}
	var good []usableDocument[T]
	for _, a := range answers {
		d, err := verify(a)
		if err != nil {
			why.add(evidence.Unavailable, err)
			continue
		}
		end, reason, err := r.checkDocument(d.head(), root)
		if err != nil {
			why.add(reason, err)
			continue
		}
		good = append(good, usableDocument[T]{d, end})
	}
	if good == nil {
		return nil, fail(checkTCB, why.reason, field, why.err)
	}
	// The newest evaluation first, and in it the document issued last.
	slices.SortStableFunc(good, func(a, b usableDocument[T]) int {
		x, y := a.doc.head(), b.doc.head()
		return cmp.Or(cmp.Compare(y.number, x.number), y.issued.Compare(x.issued))
	})
	return good, nil
}

// newestSet returns TCB Info and QE identity of the newest evaluation of which
// there are both. A Source may have several: from a TCB recovery on Intel has an
// early set and a standard one, and one half of a set may come before the other.
// Halves of two sets say nothing together: one of them would be of an earlier
// recovery, chosen or left over.
func (r *run) newestSet(infos []usableDocument[*tcbInfo], ids []usableDocument[*qeIdentity]) (*tcbInfo, *qeIdentity, error) {
	for _, info := range infos {
		for _, id := range ids {
			if info.doc.number == id.doc.number {
				r.end = earliest(r.end, earliest(info.until, id.until))
				r.relyOn(info.doc.next)
				r.relyOn(id.doc.next)
				return info.doc, id.doc, nil
			}
		}
	}
	return nil, nil, fail(checkTCB, evidence.Stale, "tcbEvaluationDataNumber", errors.New("TCB Info and QE identity are of no common one"))
}

// checkDocument reports why d, which verified, can't be relied on now, or until
// when its issuers are valid.
func (r *run) checkDocument(d *document, root *x509.Certificate) (time.Time, evidence.Reason, error) {
	if r.rootCRL != nil && r.rootCRL.Revokes(d.signer.SerialNumber) {
		return time.Time{}, evidence.Revoked, errors.New("by a revoked signer")
	}
	end, err := validUntil(r.now, d.signer, root)
	switch {
	case err != nil:
	case !pki.Valid(d.signer, d.issued):
		// Intel renews the certificate for the same key, so the signature does
		// not tell when it was made.
		err = errors.New("issued outside of the validity of its signer")
	case d.number < r.v.cfg.MinEvaluationDataNumber:
		err = fmt.Errorf("tcbEvaluationDataNumber %d is below %d", d.number, r.v.cfg.MinEvaluationDataNumber)
	default:
		err = r.checkCurrent(d.issued, d.next)
	}
	return end, evidence.Stale, err
}

// get asks the Source.
func (r *run) get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	answers, err := r.v.cfg.Source.Get(ctx, name)
	return answers[:min(len(answers), maxCandidates)], err
}

// checkCurrent reports whether what was issued at one time and is to be replaced
// at next may be relied on now.
func (r *run) checkCurrent(issued, next time.Time) error {
	switch {
	case r.now.Before(issued):
		return errors.New("issued in the future")
	case r.now.After(next.Add(r.v.cfg.StaleGrace)):
		return errors.New("not renewed in time")
	}
	return nil
}

// relyOn notes that the result rests on what is to be replaced at next.
func (r *run) relyOn(next time.Time) {
	r.end = earliest(r.end, next.Add(r.v.cfg.StaleGrace))
	r.age = max(r.age, r.now.Sub(next))
}
