package teebroker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/sealed"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// confirms remembers the confirm key of each Commit.
type confirms struct {
	teebroker.Ledger
	keys [][]byte
	seen [][]byte // as it was handed over, to see it cleared
}

func (c *confirms) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	if g.ConfirmKey != nil {
		return teebroker.Terms{}, errors.New("a confirm key before there is a release")
	}
	return c.Ledger.Check(ctx, g)
}

func (c *confirms) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (teebroker.Response, error) {
	c.keys, c.seen = append(c.keys, bytes.Clone(g.ConfirmKey)), append(c.seen, g.ConfirmKey)
	return c.Ledger.Commit(ctx, g, r, e)
}

// Every release has a confirm key of its own, which the Ledger and the guest
// have and nobody else; a redelivery has none.
func TestConfirmKey(t *testing.T) {
	c := &confirms{}
	w := newWorld(t, func(cfg *teebroker.Config) { c.Ledger, cfg.Ledger = cfg.Ledger, c })
	w.authorize(func(a *teebroker.Authorization) { a.Uses = 2 })
	var last []byte
	for i := range 2 {
		key := w.key(keywrap.X25519)
		s := w.session(func(c *guest.Config) { c.Key = key })
		req := w.request(s, honest())
		r, err := w.answer(req)
		w.check(err)
		secret := w.unsealed(key, s, req, r)
		if len(secret.ConfirmKey) != 32 || !bytes.Equal(secret.ConfirmKey, c.keys[2*i]) || bytes.Equal(secret.ConfirmKey, last) {
			t.Errorf("sealed %x, committed %x, last %x", secret.ConfirmKey, c.keys[2*i], last)
		}
		if !bytes.Equal(c.seen[2*i], make([]byte, 32)) {
			t.Error("not cleared")
		}
		last = secret.ConfirmKey
		_, err = w.answer(w.request(s, honest()))
		w.check(err)
		if c.keys[2*i+1] != nil {
			t.Error("a redelivery has a confirm key")
		}
	}
}

// Clients of older profiles get the secret and nothing else.
func TestNoConfirmKey(t *testing.T) {
	c := &confirms{}
	w := newWorld(t, func(cfg *teebroker.Config) { c.Ledger, cfg.Ledger = cfg.Ledger, c })
	w.authorize(nil)
	a, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileSVSM, w.key(keywrap.JWEP521), honest()))
	w.check(err)
	_, err = w.broker.Fetch(t.Context(), a, "kbs/key/1")
	w.check(err)
	if len(c.keys) != 1 || c.keys[0] != nil {
		t.Errorf("committed %x", c.keys)
	}
}

func (w *world) unsealed(key keywrap.Opener, s *guest.Session, req teebroker.Request, r teebroker.Response) sealed.Secret {
	w.Helper()
	var box keywrap.Sealed
	w.check(json.Unmarshal(r.Sealed, &box))
	b, err := s.Bind(req.Nonce, req.Evidence[0].Format)
	w.check(err)
	plain, err := key.Open(w.Context(), box, sealed.Info(box.Suite(), b))
	w.check(err)
	got, err := sealed.Parse(plain)
	w.check(err)
	return got
}
