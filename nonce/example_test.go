package nonce_test

import (
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// A nonce opens for one profile, until it expires.
func ExampleHMAC() {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	issuer, err := nonce.NewHMAC(nonce.Config{
		Key:  [32]byte{1}, // in earnest 32 random bytes, the same in every replica
		Time: func() time.Time { return now },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	n, expiry, err := issuer.New(nonce.ProfileV1)
	fmt.Println(len(n), expiry.UTC().Format(time.TimeOnly), err)

	_, err = issuer.Open(nonce.ProfileV1, n)
	fmt.Println("as v1:", err)
	_, err = issuer.Open(nonce.ProfileCoCo, n)
	fmt.Println("as kbs-coco:", errors.Is(err, nonce.Spent))
	now = expiry
	_, err = issuer.Open(nonce.ProfileV1, n)
	fmt.Println("too late:", errors.Is(err, nonce.Spent))
	// Output:
	// 32 12:05:00 <nil>
	// as v1: <nil>
	// as kbs-coco: true
	// too late: true
}

// exampleKey returns a guest's key, from the bytes that the guest sent.
func exampleKey() keywrap.Recipient {
	jwk := `{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW",
		"x":"kGBGV8g5TX_1dozOryhMbDNR0oHY7pAw5mzyThTGYfM","y":"1wDl-WUGzz_kQpkMlg58XBStFMzMu0x6VxSM_SZjPHo"}`
	key, err := keywrap.ParseJWK([]byte(jwk), keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP256}})
	if err != nil {
		panic(err)
	}
	return key
}

// Whatever the release depends on is bound: with another purpose, the guest
// must have had another value signed.
func ExampleV1() {
	n, key := nonce.Nonce{1}, exampleKey()
	r := nonce.V1{Tenant: "acme", Instance: [16]byte{15: 1}, Purpose: "disk/root", Format: "snp-report"}
	root, err := r.Bind(n, key)
	fmt.Println(len(root.Bytes()), err)
	r.Purpose = "disk/home"
	home, err := r.Bind(n, key)
	fmt.Println(root == home, err)
	r.Purpose = "Disk/home"
	_, err = r.Bind(n, key)
	fmt.Println(err)
	// Output:
	// 64 <nil>
	// false <nil>
	// nonce: not a purpose
}

// SHA-384 is what these clients use unless they are told otherwise.
func ExampleCoCo() {
	b, err := nonce.CoCo{Hash: crypto.SHA384}.Bind(nonce.Nonce{1}, exampleKey())
	fmt.Println(len(b.Bytes()), err)
	// Output: 48 <nil>
}

func ExampleCoCoDigest() {
	jwk := `{"kty":"RSA","alg":"RSA-OAEP-256","n":"bg","e":"AQAB","kid":"not hashed"}`
	sum, err := nonce.CoCoDigest(crypto.SHA256, nil, "opaque text", []byte(jwk))
	fmt.Printf("%x %v\n", sum[:4], err)
	// Output: 6e1f3b17 <nil>
}

func ExampleParse() {
	_, err := nonce.Parse(make([]byte, 16))
	fmt.Println(err)
	// Output: nonce: 16 bytes, want 32
}
