package keywrap_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/teebroker/teebroker/keywrap"
)

// A server seals a secret to the key of a guest.
func Example() {
	// The guest makes a key for one boot and sends its public half.
	guest, err := keywrap.Generate(keywrap.MLKEM768X25519)
	if err != nil {
		log.Fatal(err)
	}
	sent := guest.Recipient().Bytes()

	// The server says which keys it takes, and seals.
	allow := keywrap.Allow{Suites: []keywrap.Suite{keywrap.MLKEM768X25519}}
	recipient, err := keywrap.Parse(keywrap.MLKEM768X25519, sent, allow)
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := recipient.Seal([]byte("the key of the disk"), []byte("what both know"))
	if err != nil {
		log.Fatal(err)
	}
	answer, err := json.Marshal(sealed)
	if err != nil {
		log.Fatal(err)
	}

	// The guest opens it, and only with what it knows.
	var received keywrap.Sealed
	if err := json.Unmarshal(answer, &received); err != nil {
		log.Fatal(err)
	}
	secret, err := guest.Open(context.Background(), received, []byte("what both know"))
	fmt.Printf("%s, %v\n", secret, err)
	_, err = guest.Open(context.Background(), received, []byte("something else"))
	fmt.Println(err)
	// Output:
	// the key of the disk, <nil>
	// keywrap: cannot open
}

func ExampleParse() {
	allow := keywrap.Allow{Suites: []keywrap.Suite{keywrap.P256, keywrap.X25519}}
	_, err := keywrap.Parse(keywrap.X25519, make([]byte, 32), allow)
	fmt.Println(err)
	_, err = keywrap.Parse(keywrap.P384, nil, allow)
	fmt.Println(err)
	// Output:
	// keywrap: unacceptable key: X25519: point of low order
	// keywrap: unacceptable key: suite not allowed
}

// Clients of the KBS protocol show their key as a JWK.
func ExampleParseJWK() {
	sent := `{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW",
		"x":"04XifzkU4YaBAC9H_gopIGznvoEuEiozn8mu4EPEcVE",
		"y":"9gx_W2tIqgF5ebQTJkCpq9eQ5hBaqfYfKsJw68uV3Uo"}`
	recipient, err := keywrap.ParseJWK([]byte(sent), keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP256}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(recipient.Suite())
	fmt.Printf("%x\n", recipient.Thumbprint())
	fmt.Printf("%s\n", recipient.JWK())
	// Output:
	// JWE-ECDH-ES+A256KW-P256
	// 9e600081531ed1661dbbd0a95e8392bebefe862b490be54c7c87cb374b99182e
	// {"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"04XifzkU4YaBAC9H_gopIGznvoEuEiozn8mu4EPEcVE","y":"9gx_W2tIqgF5ebQTJkCpq9eQ5hBaqfYfKsJw68uV3Uo"}
}

func ExampleParseWrapped() {
	blob, err := keywrap.ParseWrapped([]byte(`{"protected":"eyJ2IjoxfQ","enc":"AAEC","ciphertext":"AwQF"}`))
	fmt.Printf("%s %v\n", blob.Protected, err)
	fmt.Printf("%x\n", blob.Digest())
	// Output:
	// eyJ2IjoxfQ <nil>
	// 28b1156d6f9e5c1065058f2b52b16a1a70c9299d5a40c7304b7bc092115c27e8
}

func ExampleNewKeyring() {
	current, err := keywrap.Generate(keywrap.MLKEM1024P384)
	if err != nil {
		log.Fatal(err)
	}
	former, err := keywrap.Generate(keywrap.P384)
	if err != nil {
		log.Fatal(err)
	}
	ring, err := keywrap.NewKeyring(keywrap.Key{ID: "2026-11", Opener: current}, keywrap.Key{ID: "2026-05", Opener: former})
	if err != nil {
		log.Fatal(err)
	}
	old, ok := ring.Key("2026-05")
	fmt.Println(ring.Current().ID, old.Recipient().Suite(), ok)
	// Output: 2026-11 HPKE-P384 true
}
