//go:build cgo

package pkcs11_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"maps"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/teebroker/teebroker/keywrap/pkcs11"
)

// raw runs f with a session of the module, which nobody else uses meanwhile.
func (s *soft) raw(f func(m *p11.Ctx, session p11.SessionHandle)) {
	s.Helper()
	m := p11.New(s.module)
	s.check(m.Initialize())
	slots, err := m.GetSlotList(true)
	s.check(err)
	session, err := m.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	s.check(err)
	s.check(m.Login(session, p11.CKU_USER, pin))
	f(m, session)
	s.check(m.Finalize())
	m.Destroy()
}

func attributes(m map[uint]any) (as []*p11.Attribute) {
	for name, value := range m {
		as = append(as, p11.NewAttribute(name, value))
	}
	return as
}

// p384 and p256 are CKA_EC_PARAMS.
var (
	p384 = must(asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 34}))
	p256 = must(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}))
)

// A key is used only if nobody can copy it, if it has one use, and if it belongs
// to the public key that lies beside it.
func TestKeyRefused(t *testing.T) {
	s := newSoft(t)
	private := func(label string, edit map[uint]any) map[uint]any {
		m := map[uint]any{
			p11.CKA_LABEL: label, p11.CKA_TOKEN: true, p11.CKA_PRIVATE: true, p11.CKA_SENSITIVE: true, p11.CKA_EXTRACTABLE: false,
			p11.CKA_DERIVE: true, p11.CKA_SIGN: false, p11.CKA_DECRYPT: false, p11.CKA_UNWRAP: false,
		}
		maps.Copy(m, edit)
		return m
	}
	s.raw(func(m *p11.Ctx, session p11.SessionHandle) {
		ec := []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}
		pair := func(label string, curve []byte, edit map[uint]any) {
			public := map[uint]any{p11.CKA_LABEL: label, p11.CKA_TOKEN: true, p11.CKA_EC_PARAMS: curve}
			_, _, err := m.GenerateKeyPair(session, ec, attributes(public), attributes(private(label, edit)))
			s.check(err)
		}
		pair("good", p384, nil)
		pair("twice", p384, nil)
		pair("twice", p384, nil)
		pair("exportable", p384, map[uint]any{p11.CKA_EXTRACTABLE: true})
		pair("not sensitive", p384, map[uint]any{p11.CKA_SENSITIVE: false})
		pair("signs too", p384, map[uint]any{p11.CKA_SIGN: true})
		pair("derives nothing", p384, map[uint]any{p11.CKA_DERIVE: false})
		pair("unwraps keys", p384, map[uint]any{p11.CKA_UNWRAP: true})
		pair("another curve", p256, nil)

		// Somebody's public key in place of the one that belongs to it.
		pair("swapped", p384, nil)
		pair("swapped signer", p384, map[uint]any{p11.CKA_DERIVE: false, p11.CKA_SIGN: true})
		for _, label := range []string{"swapped", "swapped signer"} {
			s.check(m.FindObjectsInit(session, attributes(map[uint]any{p11.CKA_LABEL: label, p11.CKA_CLASS: p11.CKO_PUBLIC_KEY})))
			found, _, err := m.FindObjects(session, 1)
			s.check(errors.Join(err, m.FindObjectsFinal(session)))
			s.check(m.DestroyObject(session, found[0]))
			_, err = m.CreateObject(session, attributes(map[uint]any{
				p11.CKA_CLASS: p11.CKO_PUBLIC_KEY, p11.CKA_KEY_TYPE: p11.CKK_EC, p11.CKA_LABEL: label, p11.CKA_TOKEN: true, p11.CKA_EC_PARAMS: p384,
				p11.CKA_EC_POINT: must(asn1.Marshal(must(ecdh.P384().GenerateKey(rand.Reader)).PublicKey().Bytes())),
			}))
			s.check(err)
		}

		aes := func(label string, size int, edit map[uint]any) {
			t := private(label, map[uint]any{p11.CKA_DERIVE: false, p11.CKA_ENCRYPT: true, p11.CKA_DECRYPT: true, p11.CKA_WRAP: false, p11.CKA_VALUE_LEN: size})
			maps.Copy(t, edit)
			_, err := m.GenerateKey(session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, attributes(t))
			s.check(err)
		}
		aes("good cipher", 32, nil)
		aes("short", 16, nil)
		aes("exportable cipher", 32, map[uint]any{p11.CKA_EXTRACTABLE: true})
		aes("wraps keys", 32, map[uint]any{p11.CKA_WRAP: true})
	})
	token := s.open(nil)
	for label, ok := range map[string]bool{
		"good": true, "": false, "none": false, "twice": false, "exportable": false, "not sensitive": false, "signs too": false,
		"derives nothing": false, "unwraps keys": false, "another curve": false, "swapped": false, "good cipher": false,
	} {
		if o, err := token.Opener(t.Context(), pkcs11.Object{Label: label}, nil); (err == nil) != ok || !ok && (!errors.Is(err, pkcs11.ErrKey) || o != nil) {
			t.Errorf("opener %q: %v", label, err)
		}
	}
	for _, label := range []string{"good", "none", "signs too", "swapped signer", ""} {
		if o, err := token.Signer(t.Context(), pkcs11.Object{Label: label}); !errors.Is(err, pkcs11.ErrKey) || o != nil {
			t.Errorf("signer %q: %v", label, err)
		}
	}
	for label, ok := range map[string]bool{"good cipher": true, "good": false, "short": false, "exportable cipher": false, "wraps keys": false, "": false} {
		if o, err := token.Cipher(t.Context(), pkcs11.Object{Label: label}); (err == nil) != ok || !ok && (!errors.Is(err, pkcs11.ErrKey) || o != nil) {
			t.Errorf("cipher %q: %v", label, err)
		}
	}
}

// A key that is made here is one that is taken, and its name is taken.
func TestGenerate(t *testing.T) {
	s := newSoft(t)
	token := s.open(nil)
	byID := pkcs11.Object{ID: []byte{1, 2}}
	s.check(token.Generate(t.Context(), pkcs11.Unwrap, byID))
	if _, err := token.Opener(t.Context(), byID, nil); err != nil {
		t.Error(err)
	}
	for _, use := range []pkcs11.Use{pkcs11.Unwrap, pkcs11.Sign, pkcs11.Encrypt} {
		if err := token.Generate(t.Context(), use, byID); !errors.Is(err, pkcs11.ErrKey) {
			t.Errorf("use %d: the name is given again: %v", use, err)
		}
	}
	for name, err := range map[string]error{
		"no name": token.Generate(t.Context(), pkcs11.Unwrap, pkcs11.Object{}),
		"no use":  token.Generate(t.Context(), 0, pkcs11.Object{Label: "x"}),
	} {
		if !errors.Is(err, pkcs11.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
