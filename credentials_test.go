package teebroker_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// maker makes a credential of what it is asked, and counts.
type maker struct {
	also string // a purpose
	made int
	last teebroker.CredentialRequest
	err  error
}

func (m *maker) Makes(purpose string) bool {
	return strings.HasPrefix(purpose, "made/") || purpose == m.also
}

func (m *maker) Credential(_ context.Context, r teebroker.CredentialRequest) ([]byte, error) {
	m.made++
	m.last = r
	if m.err != nil {
		return nil, m.err
	}
	return fmt.Appendf(nil, "credential %d", m.made), nil
}

const madePurpose = "made/cert"

// shown is what a guest presents.
func shown(what string) []byte {
	e := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return fmt.Appendf(nil, `{"protected":%q,"enc":%q,"ciphertext":%q}`, e(what), e("key"), e("signature"))
}

func newMakerWorld(t testing.TB) (*world, *maker) {
	t.Helper()
	m := &maker{}
	return newWorld(t, func(c *teebroker.Config) { c.Credentials = m }), m
}

func (w *world) authorizeMade() {
	w.Helper()
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{madePurpose, "made/kbs"} })
}

func (w *world) askMade(presented []byte) *guest.Session {
	w.Helper()
	return w.session(func(c *guest.Config) { c.Purpose, c.Wrapped = madePurpose, presented })
}

// A credential is released as a secret is: to an accepted guest, once for an
// authorization, for what the hardware signed, and by the receipt.
func TestCredential(t *testing.T) {
	w, m := newMakerWorld(t)
	s := w.askMade(shown("a"))
	r, err := w.answer(w.request(s, honest()))
	w.refusedWith("not authorized", r, err, teebroker.NotAuthorized)
	if m.made != 0 {
		t.Error("made for nobody")
	}
	w.authorizeMade()
	r, err = w.answer(w.request(s, faketee.Guest{Measurement: "bad", HostData: honest().HostData}))
	w.refusedWith("policy", r, err, teebroker.Denied)
	r, err = w.answer(w.request(s, faketee.Guest{Measurement: "good"}))
	w.refusedWith("another launch", r, err, teebroker.LaunchIdentity)
	if m.made != 0 {
		t.Error("made for a guest that is not accepted")
	}

	req := w.request(s, honest())
	r, err = w.answer(req)
	w.check(err)
	got, err := s.Open(t.Context(), r)
	if err != nil || string(got) != "credential 1" {
		t.Fatalf("%q, %v", got, err)
	}
	presented, err := keywrap.ParseWrapped(shown("a"))
	w.check(err)
	if m.last.Tenant != tenant || m.last.Instance != instance || m.last.Purpose != madePurpose ||
		m.last.Presented.Digest() != presented.Digest() || !m.last.NotAfter.Equal(start().AddDate(1, 0, 0)) {
		t.Errorf("asked for %+v", m.last)
	}
	receipt, err := teebroker.VerifyReceipt(r.Receipt, w.broker.ID())
	if err != nil || receipt.Purpose != madePurpose || receipt.Blob != presented.Digest() {
		t.Errorf("%+v, %v", receipt, err)
	}

	// Again: the stored one, for the same key and the same thing shown.
	again, err := w.answer(req)
	if err != nil || !bytes.Equal(again.Sealed, r.Sealed) || !bytes.Equal(again.Receipt, r.Receipt) {
		t.Errorf("the same request: %v", err)
	}
	again, err = w.answer(w.request(s, honest()))
	if err != nil || !bytes.Equal(again.Sealed, r.Sealed) {
		t.Errorf("a new nonce: %v", err)
	}
	if m.made != 1 {
		t.Errorf("made %d times", m.made)
	}
	r, err = w.answer(w.request(w.askMade(shown("a")), honest()))
	w.refusedWith("another recipient key", r, err, teebroker.OtherKey)
}

// What is shown is what was signed for, and the same at each try.
func TestCredentialForAnother(t *testing.T) {
	w, m := newMakerWorld(t)
	w.authorizeMade()
	key := w.key(keywrap.X25519)
	session := func(presented []byte) *guest.Session {
		return w.session(func(c *guest.Config) { c.Purpose, c.Wrapped, c.Key = madePurpose, presented, key })
	}
	req := w.request(session(shown("a")), honest())
	req.Wrapped = shown("b")
	if r, err := w.answer(req); teebroker.Code(err) != "not-bound" || m.made != 0 {
		t.Errorf("shown in place of what was signed for: %v, %v", r, err)
	}
	if _, err := w.answer(w.request(session(shown("a")), honest())); err != nil {
		t.Fatal(err)
	}
	r, err := w.answer(w.request(session(shown("b")), honest()))
	if err == nil || m.made != 1 {
		t.Errorf("the same key, for something else: %v, %v", r, err)
	}
}

// A purpose that is made is nothing else: no stored secret, no blob, no other profile.
func TestCredentialPurpose(t *testing.T) {
	w, m := newMakerWorld(t)
	w.check(w.PutSecret(t.Context(), tenant, instance, madePurpose, []byte("stored")))
	w.authorizeMade()
	s := w.askMade(nil)
	r, err := w.answer(w.request(s, honest()))
	w.check(err)
	if got, err := s.Open(t.Context(), r); err != nil || string(got) != "credential 1" || m.last.Presented.Protected != nil {
		t.Errorf("%q, %v", got, err)
	}

	m = &maker{}
	d := &blobs{m: map[string]teebroker.Blob{madePurpose: {Digest: [32]byte{1}}}}
	w = newWorld(t, func(c *teebroker.Config) {
		d.Directory, c.Directory, c.Credentials = c.Directory, d, m
	})
	w.authorizeMade()
	r, err = w.answer(w.request(w.askMade(nil), honest()))
	w.refusedWith("a registered blob", r, err, teebroker.ForeignBlob)
	d.m[madePurpose] = teebroker.Blob{Digest: [32]byte{1}, Epoch: 1}
	r, err = w.answer(w.request(w.askMade(nil), honest()))
	w.refusedWith("a purpose with epochs", r, err, teebroker.ForeignBlob)

	m.also = "kbs/key/1"
	w.authorize(nil)
	a, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileSVSM, w.key(keywrap.JWEP521), honest()))
	w.check(err)
	r, err = w.broker.Fetch(t.Context(), a, "kbs/key/1")
	w.refusedWith("a protocol that binds no key for it", r, err, teebroker.ProfileNotAllowed)
	if m.made != 0 {
		t.Errorf("made %d", m.made)
	}
}

func TestCredentialFails(t *testing.T) {
	w, m := newMakerWorld(t)
	w.authorizeMade()
	m.err = fmt.Errorf("the key is no key: %w", teebroker.MalformedRequest)
	r, err := w.answer(w.request(w.askMade(shown("a")), honest()))
	w.refusedWith("a decision", r, err, teebroker.MalformedRequest)
	m.err = errors.New("token gone")
	s := w.askMade(shown("a"))
	r, err = w.answer(w.request(s, honest()))
	w.refusedWith("no decision", r, err, teebroker.Unavailable)
	m.err = nil
	if _, err := w.answer(w.request(s, honest())); err != nil { // nothing was counted
		t.Error(err)
	}
	off := newWorld(t, nil)
	off.authorizeMade()
	r, err = off.answer(off.request(off.askMade(nil), honest()))
	off.refusedWith("not configured", r, err, teebroker.NotAuthorized)
	r, err = off.answer(off.request(off.askMade(shown("a")), honest()))
	off.refusedWith("not configured, and a key shown", r, err, teebroker.ForeignBlob)
}
