package kbs

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
)

// cookieName is what clients send back without knowing it.
const cookieName = "kbs-session-id"

// Sessions makes the ids that cookies carry from the challenge to the evidence.
// Like an Issuer of nonces it keeps no state, so that strangers can't fill a
// store.
type Sessions interface {
	// New returns the id of the session s that n opens. It is 1 to 128 characters
	// that a cookie may have.
	New(n nonce.Nonce, s Session) (id string, err error)

	// Open returns the session that id was made of for n, or false.
	Open(id string, n nonce.Nonce) (s Session, ok bool)
}

// Session is what was settled with a challenge.
type Session struct {
	Hash crypto.Hash // of digests

	// Delegated is the TEE that the client says it is of, if that is one of
	// Config.Delegated, or "". The shape of other evidence says what it is.
	Delegated string
}

// NewSessions returns Sessions whose ids are the first 16 bytes of
// HMAC-SHA-256(key, "teebroker/kbs/session" ‖ 0x00 ‖ hash name ‖ 0x00 ‖ delegated ‖
// 0x00 ‖ nonce) in hexadecimal. key is 32 random bytes of no other use, the same in every replica;
// zero is an error.
func NewSessions(key [32]byte) (Sessions, error) {
	if key == [32]byte{} {
		return nil, errors.New("kbs: no session key")
	}
	return sessions{key}, nil
}

type sessions struct{ key [32]byte }

func (s sessions) New(n nonce.Nonce, of Session) (string, error) {
	mac := hmac.New(sha256.New, s.key[:])
	fmt.Fprintf(mac, "teebroker/kbs/session\x00%s\x00%s\x00%s", hashName(of.Hash), of.Delegated, n[:])
	return hex.EncodeToString(mac.Sum(nil)[:16]), nil
}

func (s sessions) Open(id string, n nonce.Nonce) (Session, bool) {
	for _, tee := range append([]string{""}, delegable()...) {
		for _, h := range hashes {
			of := Session{h.hash, tee}
			want, _ := s.New(n, of)
			if subtle.ConstantTimeCompare([]byte(id), []byte(want)) == 1 {
				return of, true
			}
		}
	}
	return Session{}, false
}

// delegable are the TEEs whose evidence others may verify for a Handler. That of SE
// needs a challenge of its own kind.
func delegable() []string { return []string{"sgx", "csv"} }

// hashes are those of the protocol that the engine has, as clients spell them.
var hashes = []struct {
	name string
	hash crypto.Hash
}{{"sha384", crypto.SHA384}, {"sha512", crypto.SHA512}, {"sha256", crypto.SHA256}}

func hashName(h crypto.Hash) string {
	for _, x := range hashes {
		if x.hash == h {
			return x.name
		}
	}
	return ""
}

// Issuer lets a nonce of one KBS profile serve the other: whether a client is of
// Confidential Containers or an SVSM shows in its evidence only, after the
// challenge. A nonce is still redeemed once, whichever it serves, and no digest
// of one profile is one of the other. Nonces of all other profiles pass through.
//
// It goes into the Config of the Broker that a Handler has.
func Issuer(i nonce.Issuer) nonce.Issuer { return issuer{i} }

type issuer struct{ nonce.Issuer }

func either(p nonce.Profile) nonce.Profile {
	if p == nonce.ProfileSVSM {
		return nonce.ProfileCoCo
	}
	return p
}

func (i issuer) New(p nonce.Profile) (nonce.Nonce, time.Time, error) { return i.Issuer.New(either(p)) }

func (i issuer) Open(p nonce.Profile, n nonce.Nonce) (time.Time, error) {
	return i.Issuer.Open(either(p), n)
}

// setCookie hands id to the client until expires. It has no Secure: clients that
// speak plain HTTP, as an SVSM's proxy does, would drop it, and who has the id
// gets nothing but bytes sealed to the attested key.
func setCookie(w http.ResponseWriter, id string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: id, Path: "/", Expires: expires,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// cookie returns the session id that r comes with, or "".
func cookie(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil || len(c.Value) > 128 {
		return ""
	}
	return c.Value
}

// row is the key of the session row that a cookie or token names to the guests of
// this tenant. A store never sees either, so that reading it opens nothing.
func (h *Handler) row(kind, value string) string {
	sum := sha256.Sum256([]byte("teebroker/kbs/" + kind + "\x00" + h.cfg.Tenant + "\x00" + value))
	return "kbs-" + kind + "-" + hex.EncodeToString(sum[:])
}

// remember makes session and token name the kept Attestation.
func (h *Handler) remember(ctx context.Context, session, token, kept string, until time.Time) error {
	for _, key := range []string{h.row("cookie", session), h.row("token", token)} {
		if err := h.cfg.Kept.Put(ctx, key, []byte(kept), until); err != nil {
			return fmt.Errorf("kbs: session: %w: %w", teebroker.Unavailable, err)
		}
	}
	return nil
}

// attestation returns what the cookie or, without one, the token of r names.
func (h *Handler) attestation(r *http.Request) (*teebroker.Attestation, error) {
	key := ""
	if id := cookie(r); id != "" {
		key = h.row("cookie", id)
	} else if token, ok := bearer(r); ok {
		key = h.row("token", token)
	} else {
		return nil, &refusal{status: http.StatusUnauthorized, kind: kindToken, code: teebroker.Gone, detail: "no session: attest first"}
	}
	kept, err := h.cfg.Kept.Get(r.Context(), key)
	switch {
	case errors.Is(err, teebroker.Gone):
		return nil, gone(err)
	case err != nil:
		return nil, fmt.Errorf("kbs: session: %w: %w", teebroker.Unavailable, err)
	}
	a, err := h.cfg.Broker.Resume(r.Context(), string(kept))
	if errors.Is(err, teebroker.Gone) {
		return nil, gone(err)
	}
	return a, err
}

// gone makes a client start over, which it does for nothing but this status.
func gone(err error) error {
	return &refusal{status: http.StatusUnauthorized, kind: kindToken, code: teebroker.Gone, detail: "the session is over, or was never attested: start over", err: err}
}

func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" || len(token) > 64<<10 {
		return "", false
	}
	return token, true
}

func requestID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
