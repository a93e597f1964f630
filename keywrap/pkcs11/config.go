package pkcs11

// Config configures a [Token].
type Config struct {
	// URI names the token, and how to log in: by PIN or PINSource. The token is
	// the only one for which everything that URI says of it is true.
	URI URI

	// Module is the absolute path of the module; if empty, that of URI.
	Module string

	// Sessions is how many operations run at a time; if zero, 8.
	Sessions int
}

// Object names a key in a token, by its label, its CKA_ID or both. Of a key pair
// both halves have the same.
type Object struct {
	Label string
	ID    []byte
}

// Key returns what u says of an object.
func (u URI) Key() Object { return Object{u.Object, u.ID} }

// A Use is the one thing that a key is for.
type Use int

// The Uses.
const (
	Unwrap  Use = iota + 1 // EC key on P-384 that derives: an attestation key
	Sign                   // EC key on P-384 that signs: the identity key
	Encrypt                // AES-256 key: encrypts what a store keeps
)
