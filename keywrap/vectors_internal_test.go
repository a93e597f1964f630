package keywrap

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/internal/vectors"
)

type jweVectors struct {
	Cases []struct {
		Name          string `json:"name"`
		Crv           string `json:"crv"`
		Recipient     ecJWK  `json:"recipient_private_jwk"`
		Intermediates struct {
			Ephemeral ecJWK    `json:"ephemeral_private_jwk"`
			Z         hexBytes `json:"z_hex"`
			KEK       hexBytes `json:"kek_hex"`
			CEK       hexBytes `json:"cek_hex"`
			Wrapped   hexBytes `json:"wrapped_cek_hex"`
			Header    string   `json:"protected_header_json"`
		} `json:"intermediates"`
	} `json:"cases"`
}

type ecJWK struct {
	D string `json:"d"`
}

func (k ecJWK) key(t *testing.T, c jweCurve) *ecdh.PrivateKey {
	t.Helper()
	d, err := base64.RawURLEncoding.DecodeString(k.D)
	if err != nil {
		t.Fatal(err)
	}
	return privateKey(t, c, d)
}

// With the ephemeral keys and content keys of the vectors, some of which agree on
// a secret with leading zeros, sealing makes the same header and wrapped key.
func TestJWEIntermediates(t *testing.T) {
	var v jweVectors
	vectors.JSON(t, "wire/vectors/jwe.json", &v)
	ran, zeros := 0, 0
	for _, tt := range v.Cases {
		c, ok := suiteOfCurve(tt.Crv).jweCurve()
		if !ok {
			if strings.HasPrefix(tt.Name, "RSA_") {
				continue // draws random padding: can only be opened
			}
			t.Fatalf("%s: curve %q", tt.Name, tt.Crv)
		}
		ran++
		want := tt.Intermediates
		if c.size == len(want.Z) && want.Z[0] == 0 {
			zeros++
		}
		ephemeral, recipient := want.Ephemeral.key(t, c), tt.Recipient.key(t, c)
		if kek := concatKDF(want.Z); !bytes.Equal(kek, want.KEK) {
			t.Errorf("%s: KDF gives %x", tt.Name, kek)
		}
		header, wrapped, err := wrapECDH(c, recipient.PublicKey(), ephemeral, want.CEK)
		if err != nil || header != want.Header || !bytes.Equal(wrapped, want.Wrapped) {
			t.Errorf("%s: wraps to %s, %x, %v", tt.Name, header, wrapped, err)
		}
		cek, err := unwrapECDH(recipient, ephemeral.PublicKey(), want.Wrapped)
		if err != nil || !bytes.Equal(cek, want.CEK) {
			t.Errorf("%s: unwraps to %x, %v", tt.Name, cek, err)
		}
	}
	if ran < 18 || zeros < 3 {
		t.Errorf("%d cases ran, %d of them with a leading zero", ran, zeros)
	}
}

type hpkeVectors struct {
	ByNPM    []hpkeVector `json:"sealed_by_npm"`
	ByGo     []hpkeVector `json:"sealed_by_go"`
	Negative []struct {
		hpkeVector
		hpkeMessage
	} `json:"negative"`
}

type hpkeVector struct {
	Name     string        `json:"name"`
	KEM      uint16        `json:"kem_id"`
	KDF      uint16        `json:"kdf_id"`
	AEAD     uint16        `json:"aead_id"`
	Private  hexBytes      `json:"recipient_private_hex"`
	Public   hexBytes      `json:"recipient_public_hex"`
	Info     hexBytes      `json:"info_hex"`
	Enc      hexBytes      `json:"enc_hex"`
	Messages []hpkeMessage `json:"messages"`
	Context  hexBytes      `json:"exporter_context_hex"`
	Exported hexBytes      `json:"exported_32_hex"`
}

type hpkeMessage struct {
	AAD        hexBytes `json:"aad_hex"`
	Plaintext  hexBytes `json:"plaintext_hex"`
	Ciphertext hexBytes `json:"ciphertext_hex"`
}

// suite returns the suite of v, or false if there is none with its KEM, KDF and
// AEAD together.
func (v hpkeVector) suite() (Suite, hpkeParams, bool) {
	for _, s := range []Suite{MLKEM768X25519, P384, P256, X25519, MLKEM1024P384} {
		if p, _ := s.hpke(); p.kem.ID() == v.KEM && p.kdf.ID() == v.KDF && v.AEAD == 2 {
			return s, p, true
		}
	}
	return "", hpkeParams{}, false
}

// The identifiers are those of PROTOCOL.md section 1.
func TestHPKEParameters(t *testing.T) {
	for suite, want := range map[Suite]struct {
		kem, kdf    uint16
		public, enc int
	}{
		MLKEM768X25519: {0x647a, 0x0001, 1216, 1120},
		MLKEM1024P384:  {0x0051, 0x0002, 1665, 1665},
		P384:           {0x0011, 0x0002, 97, 97},
		P256:           {0x0010, 0x0001, 65, 65},
		X25519:         {0x0020, 0x0001, 32, 32},
	} {
		p, ok := suite.hpke()
		if !ok || p.kem.ID() != want.kem || p.kdf.ID() != want.kdf || p.enc != want.enc {
			t.Errorf("%s: KEM %#x, KDF %#x, enc %d", suite, p.kem.ID(), p.kdf.ID(), p.enc)
		}
		o, err := Generate(suite)
		if err != nil {
			t.Fatal(err)
		}
		s, err := o.Recipient().Seal(nil, nil)
		if err != nil || len(s.key) != want.enc || len(o.Recipient().Bytes()) != want.public {
			t.Errorf("%s: public key of %d bytes, enc of %d: %v", suite, len(o.Recipient().Bytes()), len(s.key), err)
		}
	}
}

// The messages of the vectors have AAD, which ours have not: they open with the
// context that Open uses, and not with Open.
func TestHPKEVectors(t *testing.T) {
	var v hpkeVectors
	vectors.JSON(t, "wire/vectors/hpke.json", &v)
	messages, ran := 0, map[Suite]int{}
	for _, tt := range append(v.ByNPM, v.ByGo...) {
		suite, p, ok := tt.suite()
		if !ok {
			continue
		}
		ran[suite]++
		k, err := p.kem.NewPrivateKey(tt.Private)
		if err != nil {
			t.Fatal(err)
		}
		opener, err := FromHPKE(k)
		if err != nil || opener.Recipient().Suite() != suite || !bytes.Equal(opener.Recipient().Bytes(), tt.Public) {
			t.Fatalf("%s: another key: %v", tt.Name, err)
		}
		r, err := p.receive(k, tt.Enc, tt.Info)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range tt.Messages {
			messages++
			if got, err := r.Open(m.AAD, m.Ciphertext); err != nil || !bytes.Equal(got, m.Plaintext) {
				t.Errorf("%s: message %d: %v", tt.Name, i, err)
			}
			s := Sealed{suite: suite, key: tt.Enc, ciphertext: m.Ciphertext}
			if _, err := opener.Open(t.Context(), s, tt.Info); err != ErrOpen {
				t.Errorf("%s: message %d opens without its AAD: %v", tt.Name, i, err)
			}
		}
		if got, err := r.Export(string(tt.Context), 32); err != nil || !bytes.Equal(got, tt.Exported) {
			t.Errorf("%s: exports %x, %v", tt.Name, got, err)
		}
	}
	if messages < 24 || len(ran) != 4 {
		t.Errorf("%d messages of %v", messages, ran)
	}
	refused := 0
	for _, tt := range v.Negative {
		_, p, ok := tt.suite()
		if !ok {
			continue
		}
		refused++
		k, err := p.kem.NewPrivateKey(tt.Private)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := p.receive(k, tt.Enc, tt.Info); err == nil {
			if _, err := r.Open(tt.AAD, tt.Ciphertext); err == nil {
				t.Errorf("%s: opens", tt.Name)
			}
		}
	}
	if refused < 12 {
		t.Errorf("%d negative cases", refused)
	}
}

// An owner's blob has no AAD and opens as a Sealed with the info of PROTOCOL.md
// section 6.
func TestWrappedVectorOpens(t *testing.T) {
	var v struct {
		Blobs struct {
			Cases []struct {
				Name string `json:"name"`
				Blob struct {
					Enc        strictjson.Base64 `json:"enc"`
					Ciphertext strictjson.Base64 `json:"ciphertext"`
				} `json:"blob"`
				Info      hexBytes            `json:"info_or_aad_hex"`
				WrongInfo map[string]hexBytes `json:"wrong_info_must_not_match"`
				Private   hexBytes            `json:"recipient_private_hex"`
				Plaintext hexBytes            `json:"plaintext_hex"`
			} `json:"cases"`
		} `json:"wrapped_blobs"`
	}
	vectors.JSON(t, "wire/vectors/v1_binding.json", &v)
	ran := 0
	for _, tt := range v.Blobs.Cases {
		if tt.Name != "owner-p384" {
			continue // filler that does not open, or not for a Recipient
		}
		ran++
		k, err := ecdh.P384().NewPrivateKey(tt.Private)
		if err != nil {
			t.Fatal(err)
		}
		opener, err := FromECDH(P384, k)
		if err != nil {
			t.Fatal(err)
		}
		s := Sealed{suite: P384, key: tt.Blob.Enc, ciphertext: tt.Blob.Ciphertext}
		if got, err := opener.Open(t.Context(), s, tt.Info); err != nil || !bytes.Equal(got, tt.Plaintext) {
			t.Errorf("%s: %x, %v", tt.Name, got, err)
		}
		for name, info := range tt.WrongInfo {
			if _, err := opener.Open(t.Context(), s, info); err != ErrOpen {
				t.Errorf("%s opens with %s: %v", tt.Name, name, err)
			}
		}
	}
	if ran != 1 {
		t.Errorf("%d blobs opened", ran)
	}
}
