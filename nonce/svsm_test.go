package nonce_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

type svsmVectors struct {
	Cases []struct {
		Name       string            `json:"name"`
		X          hexBytes          `json:"x_hex"`
		Y          hexBytes          `json:"y_hex"`
		Nonce      hexBytes          `json:"nonce_hex"`
		ReportData hexBytes          `json:"report_data_hex"`
		Wrong      map[string]string `json:"wrong_digests_must_not_match"`
	} `json:"cases"`
	Ambiguity struct {
		Digest hexBytes `json:"digest_hex"`
		Splits []struct {
			X      hexBytes `json:"x_hex"`
			Y      hexBytes `json:"y_hex"`
			Nonce  hexBytes `json:"nonce_hex"`
			Accept bool     `json:"accept"`
		} `json:"splits"`
	} `json:"length_ambiguity"`
}

// bindSVSM gives coordinates and challenge to the package as an adapter does,
// which has them one by one.
func bindSVSM(x, y, challenge []byte) (evidence.Binding, error) {
	n, err := nonce.Parse(challenge)
	if err != nil {
		return evidence.Binding{}, err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	jwk := fmt.Sprintf(`{"kty":"EC","crv":"P-521","alg":"ECDH-ES+A256KW","x":%q,"y":%q}`, b64(x), b64(y))
	key, err := keywrap.ParseJWK([]byte(jwk), allow)
	if err != nil {
		return evidence.Binding{}, err
	}
	return nonce.SVSM{}.Bind(n, key)
}

func TestSVSMVectors(t *testing.T) {
	var v svsmVectors
	vectors.JSON(t, "wire/vectors/svsm_binding.json", &v)
	if len(v.Cases) != 5 {
		t.Fatalf("%d cases", len(v.Cases))
	}
	for _, c := range v.Cases {
		b, err := bindSVSM(c.X, c.Y, c.Nonce)
		if err != nil || !bytes.Equal(b.Bytes(), c.ReportData) {
			t.Errorf("%s: %x, %v", c.Name, b.Bytes(), err)
		}
		for wrong, sum := range c.Wrong {
			if hex.EncodeToString(b.Bytes()) == sum {
				t.Errorf("%s: equals the wrong digest: %s", c.Name, wrong)
			}
		}
	}
}

// Of several splits of the same bytes only the one of 66, 66 and 32 is accepted.
func TestSVSMLengthAmbiguity(t *testing.T) {
	var v svsmVectors
	vectors.JSON(t, "wire/vectors/svsm_binding.json", &v)
	if len(v.Ambiguity.Splits) != 3 {
		t.Fatalf("%d splits", len(v.Ambiguity.Splits))
	}
	for i, s := range v.Ambiguity.Splits {
		b, err := bindSVSM(s.X, s.Y, s.Nonce)
		if s.Accept != (err == nil) || s.Accept && !bytes.Equal(b.Bytes(), v.Ambiguity.Digest) {
			t.Errorf("split %d: %x, %v", i, b.Bytes(), err)
		}
	}
}

// SVSM takes keys of P-521 for JWE, and no other and none.
func TestSVSMKeys(t *testing.T) {
	for _, key := range append(keys(t), keywrap.Recipient{}) {
		_, err := nonce.SVSM{}.Bind(nonce.Nonce{1}, key)
		if (err == nil) != (key.Suite() == keywrap.JWEP521) {
			t.Errorf("%q: %v", key.Suite(), err)
		}
	}
}
