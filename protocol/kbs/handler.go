package kbs

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// auth answers with a challenge. Nothing is stored.
func (h *Handler) auth(w http.ResponseWriter, r *http.Request) error {
	b, err := read(w, r, maxAuth)
	if err != nil {
		return err
	}
	req := request{}
	if err := decode(b, "the request", &req); err != nil {
		return atAttest(err)
	}
	if err := h.served(req); err != nil {
		return err
	}
	hash, named := h.hash(req.Extra)
	c, err := h.cfg.Broker.Challenge(r.Context(), nonce.ProfileCoCo)
	if err != nil {
		return err
	}
	session := Session{Hash: hash}
	if _, ok := h.cfg.Delegated[req.TEE]; ok {
		session.Delegated = req.TEE
	}
	id, err := h.cfg.Sessions.New(c.Nonce, session)
	if err != nil {
		return fmt.Errorf("kbs: session: %w: %w", teebroker.Unavailable, err)
	}
	setCookie(w, id, c.Expires)
	answer := challenge{Nonce: base64.StdEncoding.EncodeToString(c.Nonce[:]), Extra: ""}
	if named {
		answer.Extra = selected{hashName(hash)}
	}
	write(w, http.StatusOK, answer)
	return nil
}

// served returns an error unless the version and TEE of req are served here.
func (h *Handler) served(req request) error {
	unserved := func(detail string) error {
		return &refusal{status: http.StatusUnauthorized, kind: kindAttestation, code: teebroker.MalformedRequest, detail: detail}
	}
	if req.Version != Version {
		return unserved("the protocol version is not " + Version)
	}
	if len(req.Extra) == 0 {
		return atAttest(malformed("the request has no extra-params", nil))
	}
	if _, ok := h.cfg.Delegated[req.TEE]; ok {
		return nil
	}
	switch req.TEE {
	case "snp", "tdx", "cca", "az-snp-vtpm", "az-tdx-vtpm", "azsnpvtpm", "aztdxvtpm":
		return nil
	case "sample":
		if h.cfg.AllowSampleEvidenceUnsafe {
			return nil
		}
		return unserved("sample evidence proves nothing and is not taken here")
	case "tpm":
		return unserved("evidence of a TPM that no TEE vouches for is not taken here")
	case "nvidia", "sgx", "csv", "se", "hygondcu", "sampledevice", "nvidia-dpu", "sev":
		return unserved("evidence of this TEE is not verified here")
	}
	return unserved("the TEE is unknown")
}

// hash returns what the digests of a session are made with, and whether the
// client is to be told: one that offers nothing takes SHA-384.
func (h *Handler) hash(offer json.RawMessage) (crypto.Hash, bool) {
	x := extra{}
	if err := strictjson.UnmarshalKnown(offer, &x); err != nil || len(x.Hashes) == 0 {
		return crypto.SHA384, false
	}
	if slices.Contains(x.Hashes, hashName(h.cfg.Hash)) {
		return h.cfg.Hash, h.cfg.Hash != crypto.SHA384
	}
	for _, c := range hashes {
		if slices.Contains(x.Hashes, c.name) {
			return c.hash, true
		}
	}
	return crypto.SHA384, false
}

// attest judges evidence, keeps it, and answers with a token.
func (h *Handler) attest(w http.ResponseWriter, r *http.Request) error {
	b, err := read(w, r, maxAttest)
	if err != nil {
		return err
	}
	body := attestation{}
	if err := decode(b, "the attestation", &body); err != nil {
		return err
	}
	req, session, err := h.request(r, body)
	if err != nil {
		return err
	}
	a, err := h.cfg.Broker.Attest(r.Context(), req)
	if err != nil {
		return atAttest(err)
	}
	if err := suits(a, body.InitData); err != nil {
		return atAttest(err)
	}
	token, err := h.keep(r, a, session)
	if err != nil {
		return atAttest(err)
	}
	setCookie(w, session, a.NotAfter())
	write(w, http.StatusOK, map[string]string{"token": token})
	return nil
}

// request returns what body asks of the Broker, and the session that it is of.
func (h *Handler) request(r *http.Request, body attestation) (teebroker.Request, string, error) {
	n, err := parseNonce(body.Runtime.Nonce)
	if err != nil {
		return teebroker.Request{}, "", err
	}
	id := cookie(r)
	session, ok := h.cfg.Sessions.Open(id, n)
	if id == "" || !ok {
		return teebroker.Request{}, "", &refusal{
			status: http.StatusUnauthorized, kind: kindToken, code: teebroker.NonceSpent,
			detail: "no cookie of the session that this challenge opened",
		}
	}
	key, err := keywrap.ParseJWK(body.Runtime.Key, clients)
	if err != nil {
		return teebroker.Request{}, "", malformed("the tee-pubkey is not one that is taken here", err)
	}
	req := teebroker.Request{Nonce: n, Tenant: h.cfg.Tenant, Recipient: key}
	if err := h.shape(&req, body.Evidence, session); err != nil {
		return teebroker.Request{}, "", err
	}
	return req, id, nil
}

// keep stores what a session may ask for with, and returns its token.
func (h *Handler) keep(r *http.Request, a *teebroker.Attestation, session string) (string, error) {
	kept, err := h.cfg.Broker.Keep(r.Context(), a)
	if err != nil {
		return "", err
	}
	n := a.Nonce()
	token, err := h.cfg.Tokens.Issue(ear.Result{Appraisal: a.Appraisal(), Audience: h.cfg.Audience, Nonce: n[:], Key: a.Recipient()})
	if err != nil {
		return "", fmt.Errorf("kbs: token: %w: %w", teebroker.Unavailable, err)
	}
	return string(token), h.remember(r.Context(), session, string(token), kept, a.NotAfter())
}

// resource answers with a secret, sealed to the attested key.
func (h *Handler) resource(w http.ResponseWriter, r *http.Request, path []string) error {
	if slices.ContainsFunc(path, func(s string) bool { return !isSegment(s) }) {
		return &refusal{status: http.StatusNotFound, kind: kindPath, code: teebroker.MalformedRequest, detail: "not a resource path"}
	}
	a, err := h.attestation(r)
	if err != nil {
		return err
	}
	return h.release(w, r, a, purpose(a, strings.Join(path, "/")))
}

func (h *Handler) release(w http.ResponseWriter, r *http.Request, a *teebroker.Attestation, purpose string) error {
	answer, err := h.cfg.Broker.Fetch(r.Context(), a, purpose)
	if errors.Is(err, teebroker.MalformedRequest) { // no such name can be registered
		err = fmt.Errorf("%w: %w", teebroker.Denied, err)
	}
	if err != nil {
		return err
	}
	write(w, http.StatusOK, json.RawMessage(answer.Sealed))
	return nil
}

// isSegment reports whether s is a segment of a resource path:
// [A-Za-z0-9_-][A-Za-z0-9_.-]*.
func isSegment(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		case c == '.' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}

// purpose returns the name of the secret that a client means by path. An SVSM can
// ask for Alias only, and the engine is asked for nothing else on its behalf.
func purpose(a *teebroker.Attestation, path string) string {
	var mine []string
	for name, profiles := range a.Instance().Profiles {
		if slices.Contains(profiles, a.Profile()) {
			mine = append(mine, name)
		}
	}
	switch {
	case path == Alias && !slices.Contains(mine, Alias) && len(mine) == 1:
		return mine[0]
	case path != Alias && a.Profile() == nonce.ProfileSVSM:
		return "" // nothing is called so
	}
	return path
}

// unwrap answers with what a wrapped blob wraps, if it is the one that is
// registered for a secret of the attested instance and a copy of it is here.
func (h *Handler) unwrap(w http.ResponseWriter, r *http.Request) error {
	b, err := read(w, r, maxWrapped)
	if err != nil {
		return err
	}
	blob, err := keywrap.ParseWrapped(b)
	if err != nil {
		return malformed("the body is not a wrapped key", err)
	}
	a, err := h.attestation(r)
	if err != nil {
		return err
	}
	inst, digest := a.Instance(), blob.Digest()
	for name, profiles := range inst.Profiles {
		registered := inst.Blobs[name]
		if slices.Contains(profiles, a.Profile()) && bytes.Equal(registered.Digest[:], digest[:]) && registered.Wrapped != nil {
			return h.release(w, r, a, name)
		}
	}
	return fmt.Errorf("kbs: wrap-key: %w", teebroker.ForeignBlob)
}
