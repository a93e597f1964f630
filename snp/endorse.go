package snp

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// maxCandidates is how many answers of a Source are looked at under one name.
const maxCandidates = 16

// signer is the key of a certificate that a pinned issuer signed.
type signer struct {
	*vek
	issuer *issuer
}

// endorse returns the key of the first certificate that is for exactly what r
// says it is signed with, from the Evidence, else from the Source, and whether it
// signed r. There is one VCEK for a chip and TCB, but any number of VLEKs for a
// TCB: one that did not sign r is returned only if no other at hand did.
func (v *Verifier) endorse(ctx context.Context, r Report, is items, now time.Time) (k signer, signed bool, err error) {
	s := search{v: v, r: r, now: now}
	if s.among(is.candidates(r.SigningKey())) {
		return s.found, s.signed, nil
	}
	s.asking = true
	for _, name := range v.names(r) {
		if s.among(s.ask(ctx, name)) {
			return s.found, s.signed, nil
		}
	}
	if s.found.vek != nil {
		return s.found, false, nil
	}
	return signer{}, false, s.err()
}

// names returns the names under which a certificate for r can be known: one, or
// for version 2, which does not say what it ran on, one for each configured line.
func (v *Verifier) names(r Report) []string {
	lines := v.lines
	if r.line != 0 {
		lines = []Line{r.line}
	}
	var names []string
	for _, line := range lines {
		tcb, ok := decodeTCB(line, r.rawTCB(abi.ReportedTCB))
		switch {
		case !ok:
		case r.SigningKey() == VLEK:
			names = append(names, VLEKName(tcb))
		case r.ChipID() != ChipID{}:
			names = append(names, VCEKName(r.ChipID(), tcb))
		}
	}
	return names
}

// search is for the certificate that endorses r.
type search struct {
	v   *Verifier
	r   Report
	now time.Time

	found  signer // the best so far, if any
	signed bool   // found signed the report

	asking  bool  // the certificates are from the Source
	refused error // why the certificate that came closest was not it
	came    int   // how far that came, by order
	outage  error // why the Source could not say whether there is another
}

// among looks through certs and reports whether the search is over.
func (s *search) among(certs [][]byte) bool {
	for _, c := range certs {
		k, err := s.v.accept(c, s.r, s.now)
		if err != nil {
			s.refuse(err)
			continue
		}
		signed := s.r.signedBy(k.key)
		if signed || s.found.vek == nil {
			s.found, s.signed = k, signed
		}
		if signed || k.kind == VCEK {
			return true
		}
	}
	return false
}

// refuse remembers why a certificate was not it. What is said of the one that
// passed most checks helps most. An answer of the Source that is no certificate
// says nothing about the Evidence.
func (s *search) refuse(err error) {
	e := &evidence.Error{}
	errors.As(err, &e)
	came := order(e.Check)
	switch {
	case s.asking && e.Check == checkCertificate:
		s.outage = e.Err
	case s.refused == nil || came > s.came:
		s.refused, s.came = err, came
	}
}

// order returns the place of check in [Checks].
func order(check string) int {
	return slices.IndexFunc(Checks(), func(c evidence.Check) bool { return c.Name == check })
}

// ask returns what the Source has under name.
func (s *search) ask(ctx context.Context, name string) [][]byte {
	answers, err := s.v.cfg.Source.Get(ctx, name)
	if err != nil {
		if !errors.Is(err, evidence.ErrNotFound) {
			s.outage = err
		}
		return nil
	}
	var certs [][]byte
	for _, a := range answers[:min(len(answers), maxCandidates)] {
		certs = append(certs, a.Data)
	}
	return certs
}

// err says why nothing was found. With the Source out of order nobody knows, and
// it may be there later.
func (s *search) err() error {
	switch {
	case s.outage != nil:
		return fail(checkEndorsement, evidence.Unavailable, s.r.SigningKey().String(), s.outage)
	case s.refused != nil:
		return s.refused
	}
	return fail(checkEndorsement, evidence.Unavailable, s.r.SigningKey().String(), evidence.ErrNotFound)
}

// accept returns the key of the certificate in data if it endorses r at now.
func (v *Verifier) accept(data []byte, r Report, now time.Time) (signer, error) {
	der, err := openCertificate(data)
	if err != nil {
		return signer{}, fail(checkCertificate, evidence.Malformed, r.SigningKey().String(), err)
	}
	k, err := v.signer(der, r.SigningKey().String())
	if err != nil {
		return signer{}, err
	}
	if err := k.checkReport(r, v.cfg.AllowMaskedChipID); err != nil {
		return signer{}, err
	}
	if _, err := k.until(now); err != nil {
		return signer{}, err
	}
	return k, nil
}

// signer returns the key of the certificate der, which a pinned issuer signed.
// Bytes once verified are not verified again; time and revocation are not
// remembered. Errors name field.
func (v *Verifier) signer(der []byte, field string) (signer, error) {
	sum := sha256.Sum256(der)
	if k, ok := v.signers.Get(sum); ok {
		return k, nil
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		// What crypto/x509 has to say may quote the certificate, which came with the Evidence.
		return signer{}, fail(checkCertificate, evidence.Malformed, field, errors.New("not one X.509 certificate"))
	}
	is := v.issuers[string(c.RawIssuer)]
	if is == nil {
		return signer{}, fail(checkChain, evidence.Untrusted, field, errors.New("an issuer that is not pinned"))
	}
	if err := pki.CheckSignature(c, is.cert, algorithm); err != nil {
		return signer{}, fail(checkChain, evidence.Untrusted, field, err)
	}
	k, err := parseVEK(c, is.line, is.kind)
	if err != nil {
		return signer{}, fail(checkProfile, evidence.Untrusted, field, err)
	}
	v.signers.Put(sum, signer{k, is})
	return signer{k, is}, nil
}

// checkReport reports whether k is the key that r says it is signed with.
func (k signer) checkReport(r Report, allowMasked bool) error {
	chip := r.ChipID()
	masked := chip == ChipID{}
	switch {
	case k.kind != r.SigningKey():
		return fail(checkKey, evidence.Untrusted, "SIGNING_KEY", fmt.Errorf("certificate of a %v", k.kind))
	case r.line != 0 && k.line != r.line:
		return fail(checkLine, evidence.Untrusted, "CPUID_FAM_ID", fmt.Errorf("certificate for %v", k.line))
	case k.tcb.raw() != r.rawTCB(abi.ReportedTCB):
		return fail(checkTCB, evidence.Untrusted, "REPORTED_TCB", errors.New("certificate for another TCB"))
	}
	r.line = k.line
	if err := r.checkTCBs(checkTCB); err != nil {
		return err
	}
	switch {
	case k.kind == VLEK: // which belongs to no chip
		return nil
	case masked && !allowMasked:
		return fail(checkChip, evidence.Untrusted, "CHIP_ID", errors.New("masked"))
	case !masked && chip != k.chip:
		return fail(checkChip, evidence.Untrusted, "CHIP_ID", errors.New("certificate for another chip"))
	}
	return nil
}

// until returns when the first of certificate, issuer and root expires, or an
// error unless all are valid at now.
func (k signer) until(now time.Time) (time.Time, error) {
	end, err := k.issuer.until(now)
	if err != nil {
		return time.Time{}, err
	}
	if now.Before(k.notBefore) || now.After(k.notAfter) {
		return time.Time{}, fail(checkValidity, evidence.Stale, k.kind.String(), nil)
	}
	return earliest(end, k.notAfter), nil
}
