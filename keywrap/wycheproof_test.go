package keywrap

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// hexBytes is bytes as the vectors write them.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}

type wycheproofFile struct {
	NumberOfTests int `json:"numberOfTests"`
	TestGroups    []struct {
		PrivateKeyPKCS8 hexBytes         `json:"privateKeyPkcs8"`
		Tests           []wycheproofCase `json:"tests"`
	} `json:"testGroups"`
}

type wycheproofCase struct {
	ID      int      `json:"tcId"`
	Comment string   `json:"comment"`
	Flags   []string `json:"flags"`
	Result  string   `json:"result"`
	Key     hexBytes `json:"key"`
	Msg     hexBytes `json:"msg"`
	CT      hexBytes `json:"ct"`
	Label   hexBytes `json:"label"`
	Public  hexBytes `json:"public"`
	Private hexBytes `json:"private"`
	Shared  hexBytes `json:"shared"`
}

// wycheproof reads a file that must have n cases, of which accepted are
// "acceptable": whoever makes them more has to judge the new ones.
func wycheproof(t *testing.T, name string, n, acceptable int) wycheproofFile {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "wycheproof", name))
	if err != nil {
		t.Fatal(err)
	}
	var f wycheproofFile
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	cases, grey := 0, 0
	for _, g := range f.TestGroups {
		cases += len(g.Tests)
		for _, c := range g.Tests {
			if c.Result == "acceptable" {
				grey++
			}
		}
	}
	if cases != n || cases != f.NumberOfTests || grey != acceptable {
		t.Fatalf("%s: %d cases, %d acceptable", name, cases, grey)
	}
	return f
}

// The three acceptable cases wrap 8 bytes. RFC 3394 has no such key: refused.
func TestWycheproofAESKW(t *testing.T) {
	for _, g := range wycheproof(t, "aes_wrap_test.json", 165, 3).TestGroups {
		for _, c := range g.Tests {
			valid := c.Result == "valid"
			got, err := unwrapAES(c.Key, c.CT)
			if (err == nil) != valid || valid && !bytes.Equal(got, c.Msg) {
				t.Errorf("unwrap %d %s: %x, %v", c.ID, c.Comment, got, err)
			}
			if !valid && got != nil {
				t.Errorf("unwrap %d %s: a key beside the error", c.ID, c.Comment)
			}
			// Of the refused cases some are good keys, wrapped wrongly.
			wrapped, err := wrapAES(c.Key, c.Msg)
			if valid && (err != nil || !bytes.Equal(wrapped, c.CT)) {
				t.Errorf("wrap %d %s: %x, %v", c.ID, c.Comment, wrapped, err)
			}
			if !valid && err == nil && bytes.Equal(wrapped, c.CT) {
				t.Errorf("wrap %d %s: made what is to be refused", c.ID, c.Comment)
			}
			if err == nil && (len(c.Msg) < 16 || len(c.Msg)%8 != 0) {
				t.Errorf("wrap %d %s: wrapped %d bytes", c.ID, c.Comment, len(c.Msg))
			}
		}
	}
}

// The one acceptable case of each curve is a compressed point. A key has one
// encoding, the uncompressed one: refused.
func TestWycheproofECDH(t *testing.T) {
	for _, tt := range []struct {
		file  string
		suite Suite
		n     int
	}{
		{"ecdh_secp256r1_ecpoint_test.json", JWEP256, 355},
		{"ecdh_secp384r1_ecpoint_test.json", JWEP384, 790},
		{"ecdh_secp521r1_ecpoint_test.json", JWEP521, 661},
	} {
		for _, g := range wycheproof(t, tt.file, tt.n, 1).TestGroups {
			for _, c := range g.Tests {
				got, err := agreeWith(t, tt.suite, c)
				valid := c.Result == "valid"
				if (err == nil) != valid || valid && !bytes.Equal(got, concatKDF(c.Shared)) {
					t.Errorf("%s %d %s: %v", tt.suite, c.ID, c.Comment, err)
				}
			}
		}
	}
}

// agreeWith parses the public key of c as that of a guest and agrees with it.
func agreeWith(t *testing.T, suite Suite, c wycheproofCase) ([]byte, error) {
	t.Helper()
	r, err := decode(suite, c.Public)
	if err != nil {
		return nil, err
	}
	curve, _ := suite.jweCurve()
	return agree(privateKey(t, curve, c.Private), r.ec)
}

// privateKey returns the key of d, a number that may be written with too many
// or too few zeros before it.
func privateKey(t *testing.T, c jweCurve, d []byte) *ecdh.PrivateKey {
	t.Helper()
	d = bytes.TrimLeft(d, "\x00")
	d = append(make([]byte, c.size-len(d)), d...)
	k, err := c.curve.NewPrivateKey(d)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A content key has 32 bytes and no label: of the valid cases only these open,
// the others without a label decrypt but are no content key.
func TestWycheproofRSA(t *testing.T) {
	opened := 0
	for _, g := range wycheproof(t, "rsa_oaep_3072_sha256_mgf1sha256_test.json", 37, 0).TestGroups {
		parsed, err := x509.ParsePKCS8PrivateKey(g.PrivateKeyPKCS8)
		if err != nil {
			t.Fatal(err)
		}
		k := parsed.(*rsa.PrivateKey)
		for _, c := range g.Tests {
			good := c.Result == "valid" && len(c.Label) == 0
			msg, err := k.Decrypt(rand.Reader, c.CT, &rsa.OAEPOptions{Hash: crypto.SHA256})
			if (err == nil) != good || good && !bytes.Equal(msg, c.Msg) {
				t.Errorf("decrypt %d %s: %v", c.ID, c.Comment, err)
			}
			good = good && len(c.Msg) == cekSize
			cek, err := unwrapRSA(&k.PublicKey, k, c.CT)
			if (err == nil) != good || good && !bytes.Equal(cek, c.Msg) {
				t.Errorf("unwrap %d %s: %v", c.ID, c.Comment, err)
			}
			if good {
				opened++
			}
		}
	}
	if opened == 0 {
		t.Error("no content key among the cases")
	}
}
