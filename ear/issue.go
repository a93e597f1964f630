package ear

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/policy"
)

// MaxLife is how long an EAR may be valid at most.
const MaxLife = 24 * time.Hour

// IssuerConfig configures an [Issuer]. All but Time is required.
type IssuerConfig struct {
	// Signer has the key for EARs, which has no other use: on P-256 it signs with
	// ES256, on P-384 with ES384. It may be in a token.
	Signer crypto.Signer

	Profile  Profile
	Verifier VerifierID

	// Life is how long an EAR is valid, at most MaxLife and a whole number of
	// seconds. None is valid for longer than what its evidence rests on.
	Life time.Duration

	Time func() time.Time // if nil, time.Now
}

// Issuer signs EARs. It is immutable, and safe for concurrent use if its Signer and
// its clock are.
type Issuer struct {
	cfg   IssuerConfig
	names spelling
}

// NewIssuer returns an Issuer, or an error that names the field of cfg at fault.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	names, known := cfg.Profile.spelling()
	switch {
	case cfg.Signer == nil:
		return nil, errors.New("ear: IssuerConfig.Signer: none")
	case !known:
		return nil, errors.New("ear: IssuerConfig.Profile: unknown")
	case cfg.Verifier.Developer == "" || cfg.Verifier.Build == "":
		return nil, errors.New("ear: IssuerConfig.Verifier: incomplete")
	case cfg.Life < time.Second || cfg.Life > MaxLife || cfg.Life%time.Second != 0:
		return nil, errors.New("ear: IssuerConfig.Life: not a number of seconds from 1 to a day")
	}
	pub, _ := cfg.Signer.Public().(*ecdsa.PublicKey)
	if _, err := jws.KeyID(pub); err != nil {
		return nil, fmt.Errorf("ear: IssuerConfig.Signer: %w", err)
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	return &Issuer{cfg, names}, nil
}

// Result is what a Verifier made of an Attester. A broker has it in its Attestation,
// or where it refuses, in its DeniedError or in an [*evidence.Error].
type Result struct {
	// Appraisal is the verdict, accepted or not, and has the evidence that it is of.
	// Its policies must have documents, which name them.
	Appraisal policy.Appraisal

	// Refused is set, and Appraisal is zero, if evidence was not authentic.
	Refused *evidence.Error

	Audience string // who is told; required
	Nonce    []byte // what they gave to be answered, 8 to 64 bytes, or nil

	// Key is the key that the evidence was bound to. It is said only of accepted
	// evidence. The zero Recipient is none. It must have a SubjectPublicKeyInfo, and
	// in the KBS profile a JWK: a key of a hybrid suite has neither.
	Key keywrap.Recipient
}

// Issue returns the EAR of r as a compact JWS. If r is not accepted, then neither it
// nor any submodule is [Affirming]. If it is accepted, it is what the evidence shows:
// of a guest that its host may debug no policy makes an affirming one.
func (i *Issuer) Issue(r Result) ([]byte, error) {
	switch {
	case r.Audience == "":
		return nil, errors.New("ear: no audience")
	case r.Nonce != nil && (len(r.Nonce) < minNonce || len(r.Nonce) > maxNonce):
		return nil, errors.New("ear: nonce of another size than 8 to 64 bytes")
	case r.Refused != nil && (r.Appraisal.Accepted() || len(r.Appraisal.Verified()) > 0):
		return nil, errors.New("ear: refused, and appraised as well")
	}
	subs, err := i.judge(r)
	if err != nil {
		return nil, err
	}
	now := i.cfg.Time()
	until := now.Add(i.cfg.Life)
	for _, v := range r.Appraisal.Verified() {
		if r.Appraisal.Accepted() && v.NotAfter.Before(until) {
			until = v.NotAfter
		}
	}
	if until.Unix() <= now.Unix() {
		return nil, errors.New("ear: the evidence rests on what is not valid any more")
	}
	payload, err := i.encode(r, subs, now, until)
	if err != nil {
		return nil, err
	}
	token, err := jws.SignKeyed(i.cfg.Signer, Type, payload)
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	if len(token) > jws.MaxSize {
		return nil, errors.New("ear: too long")
	}
	return token, nil
}

// encode returns the claims of r.
func (i *Issuer) encode(r Result, subs []Submodule, now, until time.Time) ([]byte, error) {
	n := i.names
	modules := map[string]any{}
	overall := Affirming
	for _, s := range subs {
		m, err := n.encode(s, r.Nonce)
		if err != nil {
			return nil, err
		}
		modules[s.Label] = m
		overall = min(overall, s.Status)
	}
	m := map[string]any{
		"eat_profile": i.cfg.Profile, "iat": now.Unix(), "exp": until.Unix(), "aud": r.Audience,
		n.verifier: i.cfg.Verifier, n.status: overall, "submods": modules,
	}
	if r.Nonce != nil {
		m["eat_nonce"] = strictjson.Base64(r.Nonce)
	}
	return marshal(m)
}

// encode returns the members of s. Services of the KBS protocol find the nonce, as
// they gave it out, beside the key.
func (n spelling) encode(s Submodule, nonce []byte) (map[string]any, error) {
	m := map[string]any{n.status: s.Status, n.vector: s.Vector}
	if len(s.PolicyIDs) > 0 {
		if m[n.policies] = strings.Join(s.PolicyIDs, " "); n.listed {
			m[n.policies] = s.PolicyIDs
		}
	}
	if s.Signed != nil {
		if len(s.Signed) < minNonce || len(s.Signed) > maxNonce {
			return nil, errors.New("ear: the evidence has no nonce of 8 to 64 bytes")
		}
		m["eat_nonce"] = strictjson.Base64(s.Signed)
	}
	if len(s.Reasons) > 0 {
		m[n.reasons] = map[string]any{n.reasonCodes: s.Reasons}
	}
	if s.Key != nil {
		m[n.key] = map[string]any{"akpub": strictjson.Base64(s.Key)}
	}
	if s.TEEKey != nil {
		runtime := map[string]any{n.teeKey: json.RawMessage(s.TEEKey)}
		if nonce != nil {
			runtime["nonce"] = base64.StdEncoding.EncodeToString(nonce)
		}
		m[n.evidence] = map[string]any{n.runtime: runtime}
	}
	return m, nil
}

// marshal is json.Marshal without escapes that only HTML needs.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// policyIDs names the policies of a.
func policyIDs(a policy.Appraisal) ([]string, error) {
	var ids []string
	for _, p := range a.Policies() {
		if p.Digest == [32]byte{} {
			return nil, errors.New("ear: a policy without a document")
		}
		ids = append(ids, "sha256:"+hex.EncodeToString(p.Digest[:]))
	}
	return ids, nil
}
