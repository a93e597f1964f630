package ear_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/ear"
)

// A verifier tells a relying party what it made of a guest.
func Example() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	issuer, err := ear.NewIssuer(ear.IssuerConfig{
		Signer: key, Profile: ear.Draft03, Life: 5 * time.Minute, Time: now,
		Verifier: ear.VerifierID{Developer: "https://verifier.example", Build: "teebroker"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	reader, err := ear.NewReader(ear.ReaderConfig{Keys: []*ecdsa.PublicKey{&key.PublicKey}, Profiles: []ear.Profile{ear.Draft03}, Time: now})
	if err != nil {
		fmt.Println(err)
		return
	}

	nonce := []byte("of the relying party")
	token, err := issuer.Issue(ear.Result{Appraisal: accepted(), Audience: "https://relying.example", Nonce: nonce})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := reader.Read(token, ear.Want{Audience: "https://relying.example", Nonce: nonce})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Status)
	for _, s := range result.Submodules {
		fmt.Println(s.Label, s.Status, s.Vector[ear.Executables])
	}

	_, err = reader.Read(token, ear.Want{Audience: "https://other.example", Nonce: nonce})
	fmt.Println(errors.Is(err, ear.OtherAud))
	// Output:
	// affirming
	// snp-report affirming 3
	// true
}

func ExampleKeyID() {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), examplePoint())
	if err != nil {
		fmt.Println(err)
		return
	}
	id, err := ear.KeyID(key)
	fmt.Println(id, err)
	// Output: xx0BcA-wMohw8atYDJOe6peGModklG2wRHBlXHMvl0M <nil>
}

// examplePoint returns the generator of P-256, whose private key is one.
func examplePoint() []byte {
	p := elliptic.P256().Params()
	return append(append([]byte{4}, p.Gx.Bytes()...), p.Gy.Bytes()...)
}
