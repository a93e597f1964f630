// Package keyfile keeps the keys of a broker in one file, for brokers without a
// token and for what a broker with a token has beside it.
//
// Who can read the file is the broker: it can sign receipts and unwrap what
// owners wrapped. It is created with mode 0600 and refused with any other that
// lets others in. Nothing in it is encrypted, since the key for that would lie
// beside it; receipts of a broker whose attestation keys come from here say so.
package keyfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// ErrFile is wrapped when a key file is malformed, readable by others, or can't
// be meant.
var ErrFile = errors.New("keyfile: not a key file to use")

// File is the keys of one broker, or of replicas that are one broker. It is not
// safe for concurrent use.
type File struct {
	identity      *ecdsa.PrivateKey
	ear           *ecdsa.PrivateKey // on P-256
	cipher, nonce [32]byte
	keys          []key
	requests      []request
	authorities   []authority
}

// fileJSON is what is stored. Private keys are stored as the seeds that they are
// made of.
type fileJSON struct {
	Version     int               `json:"v"`
	Identity    strictjson.Base64 `json:"identity"` // scalar, 48 bytes big-endian
	EAR         strictjson.Base64 `json:"ear"`      // scalar on P-256, 32 bytes big-endian
	Cipher      strictjson.Digest `json:"cipher"`
	Nonce       strictjson.Digest `json:"nonce"`
	Attestation []key             `json:"attestation"`
	Requests    []request         `json:"requests,omitempty"`
	Authorities []authority       `json:"authorities,omitempty"`
}

// key is one attestation key. Tenant and ID of a key that is retired stay.
type key struct {
	Tenant    string            `json:"tenant"`
	ID        string            `json:"kid"`
	Suite     keywrap.Suite     `json:"suite"`
	Seed      strictjson.Base64 `json:"seed,omitempty"`  // all of it, or with Token the half of ML-KEM
	Token     string            `json:"token,omitempty"` // pkcs11 URI (RFC 7512) of the key on P-384
	NotBefore int64             `json:"not_before"`      // seconds since 1970
	NotAfter  int64             `json:"not_after,omitzero"`
	Retired   bool              `json:"retired,omitzero"`
}

const (
	version  = 1
	rowLabel = "teebroker/keyfile/row key/v1"
	maxSize  = 1 << 20 // bytes of a file
	maxKeys  = 1024    // of all tenants
	scalar   = 48      // bytes of a private key on P-384
	scalar2  = 32      // and on P-256
)

// New returns a File with an identity key, EAR key, cipher and nonce key of its
// own and no attestation key.
func New() (*File, error) {
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	results, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	f := &File{identity: identity, ear: results}
	rand.Read(f.cipher[:])
	rand.Read(f.nonce[:])
	return f, nil
}

// Parse parses the JSON of a key file, strictly, and every key in it that is
// not in a token. Errors wrap ErrFile and quote nothing.
func Parse(b []byte) (*File, error) {
	var j fileJSON
	if len(b) > maxSize || strictjson.Unmarshal(b, &j) != nil {
		return nil, fmt.Errorf("%w: malformed", ErrFile) // the error could quote a key
	}
	identity, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), j.Identity)
	results, fault := ecdsa.ParseRawPrivateKey(elliptic.P256(), j.EAR)
	switch {
	case j.Version != version:
		return nil, fmt.Errorf("%w: version %d", ErrFile, j.Version)
	case err != nil || len(j.Identity) != scalar:
		return nil, fmt.Errorf("%w: identity key", ErrFile)
	case fault != nil || len(j.EAR) != scalar2:
		return nil, fmt.Errorf("%w: EAR key", ErrFile)
	case j.Cipher == strictjson.Digest{} || j.Nonce == strictjson.Digest{} || j.Cipher == j.Nonce:
		return nil, fmt.Errorf("%w: cipher or nonce key", ErrFile)
	case len(j.Attestation) > maxKeys:
		return nil, fmt.Errorf("%w: too many attestation keys", ErrFile)
	}
	if err := errors.Join(checkRequests(j.Requests), checkAuthorities(j.Authorities)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	f := &File{identity, results, j.Cipher, j.Nonce, j.Attestation, j.Requests, j.Authorities}
	for i, k := range f.keys {
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("%w: attestation key %d: %w", ErrFile, i, err)
		}
	}
	return f, nil
}

// encode returns the JSON of f, which the caller clears.
func (f *File) encode() ([]byte, error) {
	identity, err := f.identity.Bytes()
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	defer clear(identity)
	results, err := f.ear.Bytes()
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	defer clear(results)
	j := fileJSON{version, identity, results, f.cipher, f.nonce, f.keys, f.requests, f.authorities}
	if j.Attestation == nil {
		j.Attestation = []key{}
	}
	b, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return nil, errors.New("keyfile: not encoded")
	}
	return append(b, '\n'), nil
}

// String keeps keys out of logs.
func (f *File) String() string { return "key file" }

// GoString keeps keys out of logs.
func (f *File) GoString() string { return f.String() }

// Identity returns the broker identity key, for [teebroker.Config].
func (f *File) Identity() *ecdsa.PrivateKey { return f.identity }

// EARKey returns the key that signs attestation results.
func (f *File) EARKey() *ecdsa.PrivateKey { return f.ear }

// CipherKey returns the key that encrypts what a store keeps.
func (f *File) CipherKey() [32]byte { return f.cipher }

// RowKey returns the key that authenticates the rows of a store. HKDF-SHA256 makes
// it of the cipher key, under a label of its own: who has one of the two files of a
// broker, this one, has both keys anyway, and neither says anything of the other.
func (f *File) RowKey() (key [32]byte, err error) {
	b, err := hkdf.Key(sha256.New, f.cipher[:], nil, rowLabel, len(key))
	if err != nil {
		return key, fmt.Errorf("keyfile: %w", err)
	}
	defer clear(b)
	return [32]byte(b), nil
}

// NonceKey returns the key that authenticates nonces. Replicas have the same.
func (f *File) NonceKey() [32]byte { return f.nonce }

// Add makes an attestation key of suite for tenant and puts it before all others
// of the tenant, so that owners wrap to it from notBefore on.
func (f *File) Add(tenant, kid string, suite keywrap.Suite, notBefore time.Time) error {
	seed, err := generate(suite)
	if err != nil {
		return err
	}
	return f.add(key{Tenant: tenant, ID: kid, Suite: suite, Seed: seed, NotBefore: notBefore.Unix()})
}

// AddToken adds, as Add does, the key on P-384 that a pkcs11 URI names. Of a
// hybrid suite the half of ML-KEM is made and kept in f: who has only one of
// the two halves opens nothing.
func (f *File) AddToken(tenant, kid string, suite keywrap.Suite, uri string, notBefore time.Time) error {
	k := key{Tenant: tenant, ID: kid, Suite: suite, Token: uri, NotBefore: notBefore.Unix()}
	if suite == keywrap.MLKEM1024P384 {
		k.Seed = make([]byte, mlkemSeed)
		rand.Read(k.Seed)
	}
	return f.add(k)
}

func (f *File) add(k key) error {
	if err := k.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	if f.find(k.Tenant, k.ID) != nil {
		return fmt.Errorf("%w: there is a key %q", ErrFile, k.ID)
	}
	f.keys = slices.Insert(f.keys, 0, k)
	return nil
}

// Retire ends a key: it opens nothing any more. What it is made of is forgotten,
// its id is not. A key in a token stays there.
func (f *File) Retire(tenant, kid string) error {
	k := f.find(tenant, kid)
	if k == nil {
		return fmt.Errorf("%w: there is no key %.64q", ErrFile, kid)
	}
	clear(k.Seed)
	k.Seed, k.Retired = nil, true
	return nil
}

// Entry is an attestation key without what is secret of it.
type Entry struct {
	Tenant, ID          string
	Suite               keywrap.Suite
	Token               string // pkcs11 URI, or ""
	NotBefore, NotAfter time.Time
	Retired             bool
}

// Entries returns all attestation keys, of each tenant first the one to wrap to.
func (f *File) Entries() []Entry {
	es := make([]Entry, 0, len(f.keys))
	for _, k := range f.keys {
		e := Entry{Tenant: k.Tenant, ID: k.ID, Suite: k.Suite, Token: k.Token, NotBefore: time.Unix(k.NotBefore, 0), Retired: k.Retired}
		if k.NotAfter != 0 {
			e.NotAfter = time.Unix(k.NotAfter, 0)
		}
		es = append(es, e)
	}
	return es
}

func (f *File) find(tenant, kid string) *key {
	for i := range f.keys {
		if f.keys[i].Tenant == tenant && f.keys[i].ID == kid {
			return &f.keys[i]
		}
	}
	return nil
}

// Keys returns the attestation keys. Those in tokens are opened with token, which
// is given the pkcs11 URI and, of a hybrid key, the 64-byte seed of the half of
// ML-KEM, which it may keep; if token is nil, such a key is an error.
func (f *File) Keys(token func(uri string, mlkem []byte) (keywrap.Opener, error)) (*teebroker.KeySet, error) {
	tenants := map[string][]teebroker.AttestationKey{}
	for _, k := range f.keys {
		a := teebroker.AttestationKey{ID: k.ID, NotBefore: time.Unix(k.NotBefore, 0), Retired: k.Retired}
		if k.NotAfter != 0 {
			a.NotAfter = time.Unix(k.NotAfter, 0)
		}
		var err error
		switch {
		case k.Retired:
		case k.Token == "":
			a.Opener, err = open(k.Suite, k.Seed)
		case token == nil:
			err = errors.New("it is in a token, and there is none")
		default:
			a.Opener, err = token(k.Token, slices.Clone(k.Seed))
		}
		if err == nil && !k.Retired && a.Opener.Recipient().Suite() != k.Suite {
			err = errors.New("the token's key is of another suite")
		}
		if err != nil {
			return nil, fmt.Errorf("keyfile: key %q of %q: %w", k.ID, k.Tenant, err)
		}
		tenants[k.Tenant] = append(tenants[k.Tenant], a)
	}
	return teebroker.NewKeySet(tenants)
}
