package ccatest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"slices"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// Form is how a collection is written. The zero Form is CMW.
type Form uint8

// The Forms.
const (
	CMW    Form = iota // tag 907, with CMW records
	Tag399             // tag 399, with bare tokens
	Hybrid             // tag 399 with CMW records, which nothing makes
)

// Realm is what a realm token says, and the faults of both tokens. The zero
// Realm is one that just started, and is accepted.
type Realm struct {
	Profiles Profiles
	Form     Form

	Hash    cca.Hash // if zero, SHA256
	RIM     cca.Octets
	REM     [4]cca.Octets // if empty, as RIM zeros
	RPV     [64]byte
	RAKHash cca.Hash       // if zero, SHA256
	MEC     cca.MECPolicy  // if zero, the token does not say
	ID      cca.InstanceID // realm-instance-id; if zero, a random one

	// Key is the RAK. If nil, a new one on P-384.
	Key *ecdsa.PrivateKey

	// Faults of the platform token, of the realm token, of the collection before
	// and after it is encoded.
	PlatformToken, RealmToken Signing
	Collect                   func(Map) Map
	Raw                       func([]byte) []byte
}

// Signing is how one token is made. The zero Signing makes a good one. Functions
// that are not nil are called in their order, and change what they are given.
type Signing struct {
	Claims      func(Map) Map
	Payload     func([]byte) []byte // the encoded claims
	Protected   func(Map) Map
	Unprotected func(Map) Map
	Key         *ecdsa.PrivateKey // signs in the place of the right one
	Hash        crypto.Hash       // signs with it, whatever the header says
	Token       func([]byte) []byte
}

// Token returns signed Evidence of r on p, with challenge as the realm's challenge,
// zero-padded to 64 bytes. It is zero if challenge is not
// [evidence.Binding.Checked]. The platform token is bound to whatever RAK the realm
// token has in the end.
func (p *Platform) Token(r Realm, challenge evidence.Binding) evidence.Evidence {
	r = r.withDefaults()
	claims := edit(r.RealmToken.Claims, r.claims(challenge))
	realm := r.RealmToken.sign(r.Key, nil, false, claims)
	platform := r.PlatformToken.sign(p.Key, p.Chain, p.Thumbprint, edit(r.PlatformToken.Claims, p.claims(r.Profiles, r.bind(claims))))
	raw := edit(r.Raw, r.collect(platform, realm))
	return evidence.Evidence{Format: cca.Format, Raw: raw}
}

func (r Realm) withDefaults() Realm {
	if r.Hash == 0 {
		r.Hash = cca.SHA256
	}
	if r.RAKHash == 0 {
		r.RAKHash = cca.SHA256
	}
	zeros := cca.Octets(make([]byte, r.Hash.Size()))
	for _, digest := range []*cca.Octets{&r.RIM, &r.REM[0], &r.REM[1], &r.REM[2], &r.REM[3]} {
		if *digest == "" {
			*digest = zeros
		}
	}
	if r.ID == (cca.InstanceID{}) {
		rand.Read(r.ID[:]) // never fails
		r.ID[0] = wire.UEIDTypeRAND
	}
	if r.Key == nil {
		r.Key = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	}
	return r
}

// edit returns v as f changes it.
func edit[T any](f func(T) T, v T) T {
	if f == nil {
		return v
	}
	return f(v)
}

// claims returns the claims of the realm token.
func (r Realm) claims(challenge evidence.Binding) Map {
	var padded [64]byte
	copy(padded[:], challenge.Bytes())
	var rems []any
	for _, rem := range r.REM {
		rems = append(rems, []byte(rem))
	}
	var m Map
	if profile := r.Profiles.Realm(); profile != "" {
		m = m.With(wire.Profile, profile)
	}
	m = m.With(wire.Challenge, padded[:]).
		With(wire.RPV, r.RPV[:]).
		With(wire.RealmHash, r.Hash.String()).
		With(wire.RIM, []byte(r.RIM)).
		With(wire.REM, rems).
		With(wire.RAKHash, r.RAKHash.String()).
		With(wire.RAK, r.rak())
	if r.Profiles.second() {
		m = m.With(wire.UEID, r.ID[:])
		if r.MEC != 0 {
			m = m.With(wire.MECPolicy, int64(r.MEC-cca.MECShared))
		}
	}
	return m
}

// rak returns the content of the claim with the RAK.
func (r Realm) rak() []byte {
	point := must(r.Key.PublicKey.Bytes())
	if r.Profiles == Legacy {
		return point
	}
	return must(COSEKey(&r.Key.PublicKey).MarshalCBOR())
}

// COSEKey returns key as a COSE_Key, with its type, curve and coordinates.
func COSEKey(key *ecdsa.PublicKey) Map {
	curve := map[elliptic.Curve]int64{elliptic.P256(): 1, elliptic.P384(): wire.CurveP384, elliptic.P521(): 3}[key.Curve]
	point := must(key.Bytes())[1:]
	return Map{
		{int64(wire.KeyType), int64(wire.KeyTypeEC2)},
		{int64(wire.KeyCurve), curve},
		{int64(wire.KeyX), point[:len(point)/2]},
		{int64(wire.KeyY), point[len(point)/2:]},
	}
}

// bind returns the digest of the RAK that realm has, by the algorithm that it
// names, or by SHA-256 if it names none.
func (r Realm) bind(realm Map) []byte {
	h := crypto.SHA256
	for _, known := range []crypto.Hash{crypto.SHA384, crypto.SHA512} {
		if realm.Get(wire.RAKHash) == hashName(known) {
			h = known
		}
	}
	rak, _ := realm.Get(wire.RAK).([]byte)
	return sum(h, rak)
}

// hashName returns the name of h in the IANA Named Information registry.
func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA384:
		return "sha-384"
	case crypto.SHA512:
		return "sha-512"
	}
	return "sha-256"
}

func sum(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}

// claims returns the claims of the platform token.
func (p *Platform) claims(profiles Profiles, binder []byte) Map {
	var components []any
	for _, c := range p.Components {
		components = append(components, p.component(c))
	}
	m := Map{{int64(wire.Profile), profiles.Platform()}}.
		With(profiles.binder(), binder).
		With(wire.Implementation, p.Implementation[:]).
		With(wire.UEID, p.Instance[:]).
		With(wire.Config, []byte(p.Config)).
		With(wire.Lifecycle, uint16(p.Lifecycle)).
		With(wire.PlatformHash, p.Hash.String()).
		With(wire.Components, components)
	if p.VerificationService != "" {
		m = m.With(wire.VerificationService, p.VerificationService)
	}
	if profiles.second() && profiles != P2023And2024 {
		m = m.With(wire.ClientID, int64(wire.ClientRMSD))
	}
	return m
}

// component returns a component, which names its algorithm unless it is that of p.
func (p *Platform) component(c cca.Component) Map {
	m := Map{}
	if c.Type != "" {
		m = m.With(wire.ComponentType, c.Type)
	}
	m = m.With(wire.ComponentMeasurement, []byte(c.Measurement)).With(wire.ComponentSignerID, []byte(c.SignerID))
	if c.Version != "" {
		m = m.With(wire.ComponentVersion, c.Version)
	}
	for _, h := range []cca.Hash{cca.SHA256, cca.SHA384, cca.SHA512} {
		if h != p.Hash && h.Size() == len(c.Measurement) {
			m = m.With(wire.ComponentHash, h.String())
		}
	}
	return m
}

// collect returns the collection of two tokens.
func (r Realm) collect(platform, realm []byte) []byte {
	var m Map
	for label, token := range map[int64][]byte{wire.PlatformToken: platform, wire.RealmToken: realm} {
		var value any = token
		if r.Form != Tag399 {
			value = []any{int64(wire.ContentEATCWT), token}
		}
		m = m.With(label, value)
	}
	slices.SortFunc(m, func(a, b Pair) int { return int(a.Key.(int64) - b.Key.(int64)) })
	tag := wire.TagLegacy
	if r.Form == CMW {
		tag = wire.TagCMW
	}
	return append([]byte(tag), must(edit(r.Collect, m).MarshalCBOR())...)
}

// sign returns a COSE_Sign1 of claims, which key signs.
func (s Signing) sign(key *ecdsa.PrivateKey, chain [][]byte, thumbprint bool, claims Map) []byte {
	if s.Key != nil {
		key = s.Key
	}
	payload := edit(s.Payload, must(claims.MarshalCBOR()))
	protected := Map{{int64(wire.Alg), algorithm(key.Curve)}}
	unprotected := Map{}
	if len(chain) > 0 {
		unprotected = unprotected.With(wire.X5Chain, x5chain(chain))
	}
	if thumbprint {
		digest := sha256.Sum256(chain[0])
		protected = protected.With(wire.X5T, []any{int64(wire.HashSHA256), digest[:]})
	}
	headers := edit(s.Protected, protected)
	encoded := must(headers.MarshalCBOR())
	token := must(encode([]any{encoded, edit(s.Unprotected, unprotected), payload, s.signature(key, headers, encoded, payload)}))
	return edit(s.Token, append([]byte(wire.TagSign1), token...))
}

// x5chain returns chain as it stands in a header.
func x5chain(chain [][]byte) any {
	if len(chain) == 1 {
		return chain[0]
	}
	var all []any
	for _, der := range chain {
		all = append(all, der)
	}
	return all
}

// algorithm returns the algorithm of keys on curve.
func algorithm(curve elliptic.Curve) int64 {
	return map[elliptic.Curve]int64{elliptic.P256(): wire.AlgES256, elliptic.P384(): wire.AlgES384, elliptic.P521(): wire.AlgES512}[curve]
}

// signature returns r ‖ s over the Sig_structure of RFC 9052, section 4.4, with the
// hash that the header names, so that a verifier that believes the header finds
// it good.
func (s Signing) signature(key *ecdsa.PrivateKey, headers Map, protected, payload []byte) []byte {
	h := s.Hash
	if h == 0 {
		h = map[any]crypto.Hash{int64(wire.AlgES256): crypto.SHA256, int64(wire.AlgES512): crypto.SHA512}[headers.Get(wire.Alg)]
	}
	if h == 0 {
		h = crypto.SHA384
	}
	signed := must(encode([]any{"Signature1", protected, []byte{}, payload}))
	sigR, sigS, err := ecdsa.Sign(rand.Reader, key, sum(h, signed))
	must(sigR, err)
	size := (key.Curve.Params().BitSize + 7) / 8
	return append(sigR.FillBytes(make([]byte, size)), sigS.FillBytes(make([]byte, size))...)
}
