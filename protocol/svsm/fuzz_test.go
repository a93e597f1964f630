package svsm_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/protocol/svsm"
)

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

func FuzzFrame(f *testing.F) {
	f.Add(framed(hello))
	f.Add(bytes.Repeat([]byte{0xff}, 9))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := svsm.ReadFrame(bytes.NewReader(in), svsm.MaxFrame)
		if err == nil && !bytes.HasPrefix(in, framed(string(b))) {
			t.Errorf("%x is not the start of %x", b, in)
		}
	})
}

func FuzzNegotiation(f *testing.F) {
	f.Add([]byte(hello))
	f.Fuzz(func(t *testing.T, in []byte) {
		if err := svsm.ParseNegotiation(in); err == nil && !json.Valid(in) {
			t.Error("not JSON")
		}
		if b, err := svsm.ParseChallenge(in); err == nil && !bytes.Contains(in, []byte("EcPublicKeyBytes")) && !bytes.Contains(in, []byte(`\u`)) {
			t.Errorf("challenge %x", b)
		}
	})
}

// What a guest shows reaches the broker as it is.
func FuzzAttestation(f *testing.F) {
	f.Add([]byte(attestation("", "")))
	f.Fuzz(func(t *testing.T, in []byte) {
		body, err := svsm.KBSBody(in)
		if err != nil {
			return
		}
		var said struct {
			Evidence struct {
				SNP struct {
					Report []byte `json:"report"`
				} `json:"Snp"`
			} `json:"evidence"`
			Challenge []byte `json:"challenge"`
		}
		var sent struct {
			Runtime struct {
				Nonce []byte          `json:"nonce"`
				Key   json.RawMessage `json:"tee-pubkey"`
			} `json:"runtime-data"`
			Evidence struct {
				Primary struct {
					Report []byte `json:"snp-report"`
				} `json:"primary_evidence"`
			} `json:"tee-evidence"`
		}
		if err := json.Unmarshal(in, &said); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &sent); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(said.Challenge, sent.Runtime.Nonce) || !bytes.Equal(said.Evidence.SNP.Report, sent.Evidence.Primary.Report) {
			t.Errorf("%s became %s", in, body)
		}
	})
}

// A reply of a broker is taken only with all that a guest needs.
func FuzzReply(f *testing.F) {
	key, err := keywrap.Generate(keywrap.JWEP521)
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := key.Recipient().Seal(secret, nil)
	if err != nil {
		f.Fatal(err)
	}
	jwe, err := sealed.MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(jwe)
	f.Add([]byte(`{"nonce":"04sxM58dm6gbNmPPA48MmsJD+qQFV9BqQrtjH5/j3Fs=","extra-params":""}`))
	f.Add([]byte(`{"token":"a.b.c"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if b, err := svsm.ParseAuth(in); err == nil && len(b) == 0 {
			t.Error("an empty nonce")
		}
		if _, err := svsm.ParseToken(in); err == nil && !json.Valid(in) {
			t.Error("a token that is not JSON")
		}
		if a, err := svsm.ParseResource(in); err == nil && (len(a.Decryption.EPK.X) != 66 || len(a.Decryption.AAD) == 0) {
			t.Errorf("%+v", a)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(refusal))
	f.Add([]byte(`{"success":true,"secret":"AA==","decryption":{"epk":{"x":"","y":""},"wrapped_cek":"","aad":"","iv":"","tag":""},"token":{"Jwt":""}}`))
	key, err := keywrap.Generate(keywrap.JWEP521)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if b, err := svsm.OpenAnswer(t.Context(), in, key); err == nil {
			t.Errorf("opened %x", b)
		}
	})
}

// BenchmarkGuest is a whole exchange, emulated guest and simulated chip included.
func BenchmarkGuest(b *testing.B) {
	s := httptest.NewServer(http.Handler(newKBS(secret)))
	defer s.Close()
	dial, g := serve(b, svsm.ProxyConfig{Broker: s.URL}), guest(0)
	b.ReportAllocs()
	for b.Loop() {
		conn := dial()
		if _, err := g.Attest(b.Context(), conn); err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}
