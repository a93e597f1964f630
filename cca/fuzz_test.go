package cca_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// seeds returns good tokens of every profile and form, and the published ones.
func seeds(f *testing.F) [][]byte {
	var all [][]byte
	p := ccatest.NewPlatform()
	for _, profiles := range ccatest.AllProfiles() {
		for _, form := range []ccatest.Form{ccatest.CMW, ccatest.Tag399} {
			all = append(all, p.Token(ccatest.Realm{Profiles: profiles, Form: form}, evidence.Binding{}).Raw)
		}
	}
	for _, vec := range allVectors(f) {
		all = append(all, vec.token(f))
	}
	return all
}

// Of what is parsed, both tokens are COSE_Sign1 to go-cose too, and the rest is
// CBOR to package cbor.
func FuzzParseToken(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		token, err := cca.ParseToken(raw)
		if !bytes.Equal(raw, before) {
			t.Fatal("modified")
		}
		if err != nil {
			if !reflect.DeepEqual(token, cca.Token{}) {
				t.Error("a token beside an error")
			}
			return
		}
		if token.InstanceID()[0] != wire.UEIDTypeRAND {
			t.Error("an instance that is none")
		}
		var collection map[int64]cbor.RawMessage
		if err := cbor.Unmarshal(raw[3:], &collection); err != nil || len(collection) != 2 {
			t.Fatalf("%d members to package cbor: %v", len(collection), err)
		}
		for _, value := range collection {
			signed(t, value)
		}
	})
}

// signed checks what go-cose makes of a member of a collection.
func signed(t *testing.T, value cbor.RawMessage) {
	var token []byte
	if cbor.Unmarshal(value, &token) != nil {
		var record struct {
			_     struct{} `cbor:",toarray"`
			Type  int
			Value []byte
		}
		if err := cbor.Unmarshal(value, &record); err != nil {
			t.Fatal(err)
		}
		token = record.Value
	}
	// go-cose takes only the shortest head of the array.
	if len(token) > 1 && token[1] != 0x84 {
		return
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(token); err != nil && !errors.Is(err, cose.ErrEmptySignature) {
		t.Errorf("go-cose: %v", err)
	}
}

func FuzzHeaders(f *testing.F) {
	vendor := ccatest.NewVendor(simulatedNow())
	p := certified(vendor, ccatest.Certificate{})
	v := newVerifier(f, cca.Config{Authorities: []cca.Authority{vendor.Authority(p.Implementation)}})
	f.Add([]byte("\xa1\x01\x38\x22"), []byte("\xa0"))
	f.Add([]byte("\xa2\x01\x38\x22\x18\x22\x82\x2f\x58\x20"), []byte("\xa1\x18\x21\x41\x30"))
	f.Fuzz(func(t *testing.T, protected, unprotected []byte) {
		var r ccatest.Realm
		r.PlatformToken.Token = func([]byte) []byte {
			b := append([]byte(wire.TagSign1), 0x84, 0x59, byte(len(protected)>>8), byte(len(protected)))
			b = append(append(b, protected...), unprotected...)
			return append(b, 0x41, 0xa0, 0x41, 0x00)
		}
		if got, err := v.Verify(t.Context(), p.Token(r, evidence.Binding{}), evidence.UncheckedBindingUnsafe()); got != nil || err == nil {
			t.Error("accepted without a signature")
		}
	})
}
