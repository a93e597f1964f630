package teebroker_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// What a broker made of a guest can be told to others: that it accepted it, with the
// key that it would seal to, that policy denied it, or that it is not genuine.
func TestAttestationResults(t *testing.T) {
	w := newWorld(t, nil)
	w.authorize(nil)
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.check(err)
	issuer, err := ear.NewIssuer(ear.IssuerConfig{
		Signer: signer, Profile: ear.KBS, Life: time.Minute, Time: w.time, Verifier: ear.VerifierID{Developer: "teebroker", Build: "test"},
	})
	w.check(err)
	reader, err := ear.NewReader(ear.ReaderConfig{Keys: []*ecdsa.PublicKey{&signer.PublicKey}, Profiles: []ear.Profile{ear.KBS}, Time: w.time})
	w.check(err)
	told := func(req teebroker.Request, r ear.Result) *ear.EAR {
		t.Helper()
		r.Audience, r.Nonce = "others", req.Nonce[:]
		token, err := issuer.Issue(r)
		w.check(err)
		e, err := reader.Read(token, ear.Want{Audience: "others", Nonce: req.Nonce[:]})
		w.check(err)
		return e
	}

	key := w.key(keywrap.JWEP256)
	req := w.legacy(nonce.ProfileCoCo, key, honest())
	a, err := w.broker.Attest(t.Context(), req)
	w.check(err)
	e := told(req, ear.Result{Appraisal: a.Appraisal(), Key: a.Recipient()})
	s := e.Submodules[0]
	if e.Status != ear.Affirming || !bytes.Equal(s.TEEKey, key.Recipient().JWK()) || !bytes.Equal(s.Signed, a.Verified()[0].Signed) || len(s.PolicyIDs) == 0 {
		t.Errorf("accepted: %+v", e)
	}

	other := honest()
	other.Measurement = "other"
	req = w.legacy(nonce.ProfileCoCo, key, other)
	_, err = w.broker.Attest(t.Context(), req)
	var denied *teebroker.DeniedError
	if !errors.As(err, &denied) {
		t.Fatal(err)
	}
	e = told(req, ear.Result{Appraisal: denied.Appraisal, Key: req.Recipient})
	if s := e.Submodules[0]; e.Status != ear.Warning || s.TEEKey != nil || s.Key != nil || !slices.Equal(s.Reasons, []string{"snp.measurement"}) {
		t.Errorf("denied: %+v", e)
	}

	b, err := evidence.NewBinding([]byte("another"))
	w.check(err)
	req = w.legacy(nonce.ProfileCoCo, key, honest())
	req.Evidence[0] = faketee.Tamper(req.Evidence[0], b)
	_, err = w.broker.Attest(t.Context(), req)
	var refused *evidence.Error
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	e = told(req, ear.Result{Refused: refused, Key: req.Recipient})
	if s := e.Submodules[0]; e.Status != ear.Contraindicated || s.Key != nil || !slices.Equal(s.Reasons, []string{"not-bound"}) {
		t.Errorf("not genuine: %+v", e)
	}
}
