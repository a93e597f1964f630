package svsm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// Guest says what the kernel of COCONUT-SVSM says, byte for byte: a fresh key on
// P-521 with coordinates of 66 bytes, a report of SEV-SNP over SHA-512(x ‖ y ‖
// challenge), no certificates, ECDH-ES+A256KW and A256GCM. It is for tests and for
// trying a broker out, and safe for concurrent use if Report is.
type Guest struct {
	// Report returns the 1184 bytes of a report with data as REPORT_DATA, that of
	// the guest at VMPL 0. It is required.
	Report func(ctx context.Context, data [64]byte) ([]byte, error)

	key keywrap.Opener // if nil, a fresh one each time
}

// Attest gets the secret of g through the proxy at conn, which it does not close.
// The caller owns the secret. Errors wrap [ErrRefused] if the proxy says that there
// is none, [ErrMalformed] if it says what it should not, and [keywrap.ErrOpen] if the
// answer does not open: to a guest these are all the same, it can't boot.
//
// Nothing tells who sealed the secret. It is to be believed as far as it opens
// something that nobody else could have made.
func (g Guest) Attest(ctx context.Context, conn net.Conn) ([]byte, error) {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	key, err := g.newKey()
	if err != nil {
		return nil, err
	}
	if err := writeJSON(conn, negotiation{version[:], teeSNP}); err != nil {
		return nil, fmt.Errorf("svsm: negotiation: %w", err)
	}
	b, err := readFrame(conn, MaxFrame)
	if err != nil {
		return nil, fmt.Errorf("svsm: challenge: %w", unexpected(err))
	}
	a, err := g.answerTo(ctx, b, key.Recipient())
	if err != nil {
		return nil, err
	}
	if err := writeJSON(conn, a); err != nil {
		return nil, fmt.Errorf("svsm: attestation: %w", err)
	}
	if b, err = readFrame(conn, maxAnswer); err != nil {
		return nil, fmt.Errorf("svsm: answer: %w", unexpected(err))
	}
	return openAnswer(ctx, b, key)
}

func (g Guest) newKey() (keywrap.Opener, error) {
	switch {
	case g.Report == nil:
		return nil, errors.New("svsm: Guest.Report is not set")
	case g.key != nil:
		return g.key, nil
	}
	return keywrap.Generate(keywrap.JWEP521)
}

// answerTo returns evidence for key and the challenge in b.
func (g Guest) answerTo(ctx context.Context, b []byte, key keywrap.Recipient) (attestation, error) {
	raw, err := parseChallenge(b)
	if err != nil {
		return attestation{}, err
	}
	// The kernel takes a challenge of any length; here, what could be cut into
	// key and challenge in another way is not signed.
	n, err := nonce.Parse(raw)
	if err != nil {
		return attestation{}, malformed("challenge: %w", err)
	}
	bound, err := nonce.SVSM{}.Bind(n, key)
	if err != nil {
		return attestation{}, fmt.Errorf("svsm: %w", err)
	}
	report, err := g.Report(ctx, [64]byte(bound.Bytes()))
	if err != nil {
		return attestation{}, fmt.Errorf("svsm: report: %w", err)
	}
	x, y, _ := key.XY()
	return attestation{TEE: teeSNP, Evidence: evidence{snpEvidence{Report: report}}, Challenge: raw, Key: point{x, y}}, nil
}

// jwe is the form that package keywrap opens.
type jwe struct {
	Protected    string            `json:"protected"`
	EncryptedKey strictjson.Base64 `json:"encrypted_key"`
	IV           strictjson.Base64 `json:"iv"`
	Ciphertext   strictjson.Base64 `json:"ciphertext"`
	Tag          strictjson.Base64 `json:"tag"`
}

// openAnswer returns the secret in b. The ephemeral key is there twice, by itself
// and in what is authenticated: they have to be the same.
func openAnswer(ctx context.Context, b []byte, key keywrap.Opener) ([]byte, error) {
	a, err := parseAnswer(b)
	if err != nil {
		return nil, err
	}
	if !a.Success {
		return nil, ErrRefused
	}
	d := a.Decryption
	header, err := strictjson.ParseBase64(string(d.AAD))
	if err != nil {
		return nil, malformed("answer: aad: %w", err)
	}
	p, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(p.X, d.EPK.X) || !bytes.Equal(p.Y, d.EPK.Y) {
		return nil, malformed("answer: epk is not that of the header")
	}
	text, err := json.Marshal(jwe{
		string(d.AAD), strictjson.Base64(d.WrappedCEK), strictjson.Base64(d.IV),
		strictjson.Base64(a.Secret), strictjson.Base64(d.Tag),
	})
	if err != nil {
		return nil, fmt.Errorf("svsm: %w", err)
	}
	var sealed keywrap.Sealed
	if err := sealed.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("svsm: %w", err)
	}
	secret, err := key.Open(ctx, sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("svsm: %w", err)
	}
	return secret, nil
}
