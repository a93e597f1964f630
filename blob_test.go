package teebroker_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/owner"
)

// counted counts how often a key is used, and can fail as a token does.
type counted struct {
	keywrap.Opener
	used *int
	err  error
}

func (c counted) Open(ctx context.Context, s keywrap.Sealed, info []byte) ([]byte, error) {
	*c.used++
	if c.err != nil {
		return nil, c.err
	}
	return c.Opener.Open(ctx, s, info)
}

// blobs is a Directory whose instance has blobs registered.
type blobs struct {
	teebroker.Directory
	m     map[string]teebroker.Blob
	image string
}

func (d *blobs) Instance(ctx context.Context, l teebroker.Lookup) (teebroker.Instance, error) {
	i, err := d.Directory.Instance(ctx, l)
	i.Blobs, i.Image = d.m, d.image
	return i, err
}

// blobWorld has attestation keys "one" of every suite of owners and "two" of
// P-384, and "three", which is retired; "other" is the key of another tenant.
type blobWorld struct {
	*world
	*blobs
	keys map[string]keywrap.Opener
	used int
}

func newBlobWorld(t testing.TB, suite keywrap.Suite) *blobWorld {
	t.Helper()
	w := &blobWorld{keys: map[string]keywrap.Opener{}, blobs: &blobs{image: "image-1"}}
	key := func(id string, s keywrap.Suite) teebroker.AttestationKey {
		k, err := keywrap.Generate(s)
		if err != nil {
			t.Fatal(err)
		}
		w.keys[id] = k
		return teebroker.AttestationKey{ID: id, Opener: counted{k, &w.used, nil}}
	}
	three := key("three", keywrap.P384)
	three.Retired = true
	set, err := teebroker.NewKeySet(map[string][]teebroker.AttestationKey{
		tenant:  {key("one", suite), key("two", keywrap.P384), three},
		"other": {key("other", keywrap.P384)},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.world = newWorld(t, func(c *teebroker.Config) {
		c.Keys = set
		w.blobs.Directory, c.Directory = c.Directory, w.blobs
	})
	return w
}

// wrapped is what an owner makes of the secret, for purpose.
func (w *blobWorld) wrapped(edit func(*owner.Blob)) keywrap.Wrapped {
	w.Helper()
	doc, err := w.broker.KeysDocument(w.Context(), tenant)
	w.check(err)
	b := owner.Blob{Keys: doc, Broker: w.broker.ID(), Time: w.time(), Tenant: tenant, Instance: instance, Purpose: purpose}
	apply(edit, &b)
	got, err := owner.Wrap(b, []byte(secret))
	w.check(err)
	return got
}

// crafted is a blob with any header, made by the words of section 6 of the
// protocol and not by the package that makes them.
func (w *blobWorld) crafted(kid, header string) keywrap.Wrapped {
	w.Helper()
	protected := base64.RawURLEncoding.EncodeToString([]byte(header))
	box, err := w.keys[kid].Recipient().Seal([]byte(secret), []byte("teebroker/v1/wrap\x00"+protected))
	w.check(err)
	var s struct{ Enc, CT string }
	w.check(json.Unmarshal(encoded(w, box), &s))
	return keywrap.Wrapped{Protected: []byte(protected), Enc: []byte(s.Enc), Ciphertext: []byte(s.CT)}
}

func encoded(w *blobWorld, v any) []byte {
	w.Helper()
	b, err := json.Marshal(v)
	w.check(err)
	return b
}

// register makes b the current blob of purpose, with a copy or without.
func (w *blobWorld) register(b keywrap.Wrapped, copied bool) {
	w.Helper()
	reg := teebroker.Blob{Digest: b.Digest()}
	if copied {
		reg.Wrapped = encoded(w, b)
	}
	w.m = map[string]teebroker.Blob{purpose: reg}
}

// presenting is a session whose guest has b, unless that is zero.
func (w *blobWorld) presenting(b keywrap.Wrapped) *guest.Session {
	w.Helper()
	return w.session(func(c *guest.Config) {
		if b.Protected != nil {
			c.Wrapped = encoded(w, b)
		}
	})
}

// A registered blob is unwrapped for the guest that presents it and for the one
// that presents none, if the owner left a copy; and receipt, record and retries
// are as with any other secret.
func TestBlobs(t *testing.T) {
	for _, suite := range keywrap.OwnerSuites() {
		for _, image := range []bool{false, true} {
			for _, presents := range []bool{false, true} {
				for _, copied := range []bool{false, true} {
					if !presents && !copied {
						continue
					}
					t.Run(fmt.Sprintf("%s image=%v presents=%v copied=%v", suite, image, presents, copied), func(t *testing.T) {
						w := newBlobWorld(t, suite)
						w.authorize(nil)
						b := w.wrapped(func(b *owner.Blob) {
							if image {
								b.Instance, b.Image = [16]byte{}, "image-1"
							}
						})
						w.register(b, copied)
						var shown keywrap.Wrapped
						if presents {
							shown = b
						}
						w.releasesOnce(w.presenting(shown), b)
					})
				}
			}
		}
	}
}

// releasesOnce fails unless s gets the secret out of b, again with a new nonce,
// and the key is used once.
func (w *blobWorld) releasesOnce(s *guest.Session, b keywrap.Wrapped) {
	w.Helper()
	for _, kind := range []teebroker.Kind{teebroker.KindRelease, teebroker.KindRedelivery} {
		r, err := w.answer(w.request(s, honest()))
		w.check(err)
		w.opens(s, r)
		got, err := teebroker.VerifyReceipt(r.Receipt, w.broker.ID())
		w.check(err)
		if got.Kind != kind || got.Blob != b.Digest() || !slices.Equal(got.Weakened, []string{teebroker.WeakSoftwareAttestationKey}) {
			w.Errorf("receipt %+v", got)
		}
	}
	if w.used != 1 {
		w.Errorf("the key was used %d times", w.used)
	}
}

// Nothing but the registered blob with the registered header reaches a key.
func TestBlobsRefused(t *testing.T) {
	const id = "00000000-0000-0000-0000-000000000001"
	header := func(old, new string) string {
		const good = `{"v":1,"by":"owner","kid":"two","suite":"HPKE-P384","tenant":"acme","instance":"` + id + `","purpose":"disk/root","epoch":0}`
		if !strings.Contains(good, old) {
			panic(old)
		}
		return strings.Replace(good, old, new, 1)
	}
	craft := func(kid, header string) func(*blobWorld) keywrap.Wrapped {
		return func(w *blobWorld) keywrap.Wrapped { return w.crafted(kid, header) }
	}
	for name, make := range map[string]func(*blobWorld) keywrap.Wrapped{
		"version":            craft("two", header(`"v":1`, `"v":2`)),
		"no version":         craft("two", header(`"v":1,`, ``)),
		"by the broker":      craft("two", header(`"by":"owner"`, `"by":"broker"`)),
		"by nobody":          craft("two", header(`"by":"owner"`, `"by":""`)),
		"unknown kid":        craft("two", header(`"two"`, `"four"`)),
		"retired kid":        craft("three", header(`"two"`, `"three"`)),
		"another tenant's":   craft("other", header(`"two"`, `"other"`)),
		"suite of the kid":   craft("two", header(`"kid":"two"`, `"kid":"one"`)),
		"suite of guests":    craft("two", header(`"HPKE-P384"`, `"HPKE-P256"`)),
		"A256GCM":            craft("two", header(`"HPKE-P384"`, `"A256GCM"`)),
		"another suite":      craft("two", header(`"HPKE-P384"`, `"HPKE-MLKEM1024-P384"`)),
		"tenant":             craft("two", header(`"acme"`, `"other"`)),
		"instance":           craft("two", header(id, strings.Replace(id, "1", "2", 1))),
		"neither":            craft("two", header(`"instance":"`+id+`",`, ``)),
		"both":               craft("two", header(`"purpose"`, `"image":"image-1","purpose"`)),
		"both, one empty":    craft("two", header(`"purpose"`, `"image":"","purpose"`)),
		"another image":      craft("two", header(`"instance":"`+id+`"`, `"image":"image-2"`)),
		"purpose":            craft("two", header(`"disk/root"`, `"disk/data"`)),
		"epoch":              craft("two", header(`"epoch":0`, `"epoch":1`)),
		"no epoch":           craft("two", header(`,"epoch":0`, ``)),
		"epoch of an image":  craft("two", header(`"instance":"`+id+`","purpose":"disk/root","epoch":0`, `"image":"image-1","purpose":"disk/root","epoch":1`)),
		"owner key":          craft("two", header(`"epoch":0`, `"epoch":0,"owner":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`)),
		"another policy":     craft("two", header(`"epoch":0`, `"epoch":0,"policy":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`)),
		"zero policy":        craft("two", header(`"epoch":0`, `"epoch":0,"policy":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`)),
		"unknown member":     craft("two", header(`"epoch":0`, `"epoch":0,"x":1`)),
		"member twice":       craft("two", header(`"epoch":0`, `"epoch":0,"v":1`)),
		"member in capitals": craft("two", header(`"epoch"`, `"Epoch"`)),
		"not an object":      craft("two", `[]`),
		"trailing data":      craft("two", header(`"epoch":0}`, `"epoch":0}{}`)),
	} {
		t.Run(name, func(t *testing.T) {
			w := newBlobWorld(t, keywrap.MLKEM1024P384)
			w.authorize(func(a *teebroker.Authorization) { a.Uses = 2 })
			b := make(w)
			for _, presents := range []bool{false, true} {
				w.register(b, !presents)
				var shown keywrap.Wrapped
				if presents {
					shown = b
				}
				r, err := w.answer(w.request(w.presenting(shown), honest()))
				w.refusedWith(fmt.Sprintf("presents=%v", presents), r, err, teebroker.ForeignBlob)
				if teebroker.Code(err) != "denied" {
					t.Error(err)
				}
			}
			if w.used != 0 {
				t.Error("it reached a key")
			}
		})
	}
	t.Run("the same, with nothing wrong", func(t *testing.T) {
		w := newBlobWorld(t, keywrap.MLKEM1024P384)
		w.authorize(nil)
		b := w.crafted("two", header(`"v":1`, `"v":1`))
		w.register(b, false)
		w.releasesOnce(w.presenting(b), b)
	})
}

// A blob that is not the registered one never reaches a key, nor does any other
// where Secrets has the secret.
func TestUnregisteredBlobs(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(w *blobWorld, mine, other keywrap.Wrapped) (shown keywrap.Wrapped)
		want error
	}{
		{"none registered", func(w *blobWorld, mine, other keywrap.Wrapped) keywrap.Wrapped { return mine }, teebroker.ForeignBlob},
		{"another registered", func(w *blobWorld, mine, other keywrap.Wrapped) keywrap.Wrapped {
			w.register(other, true)
			return mine
		}, teebroker.ForeignBlob},
		{"registered for another purpose", func(w *blobWorld, mine, other keywrap.Wrapped) keywrap.Wrapped {
			w.register(mine, true)
			w.m = map[string]teebroker.Blob{"disk/data": w.m[purpose]}
			return mine
		}, teebroker.ForeignBlob},
		{"registered without a digest", func(w *blobWorld, mine, other keywrap.Wrapped) keywrap.Wrapped {
			w.register(mine, true)
			w.m[purpose] = teebroker.Blob{Wrapped: w.m[purpose].Wrapped}
			return mine
		}, teebroker.ForeignBlob},
		{"registered for an epoch", func(w *blobWorld, mine, other keywrap.Wrapped) keywrap.Wrapped {
			w.m = map[string]teebroker.Blob{purpose: {Digest: mine.Digest(), Epoch: 1}}
			return mine
		}, teebroker.ForeignBlob},
		{"of the epoch that is registered", func(w *blobWorld, mine, other keywrap.Wrapped) keywrap.Wrapped {
			b := w.crafted("two", `{"v":1,"by":"owner","kid":"two","suite":"HPKE-P384","tenant":"acme","instance":"00000000-0000-0000-0000-000000000001","purpose":"disk/root","epoch":1}`)
			w.m = map[string]teebroker.Blob{purpose: {Digest: b.Digest(), Epoch: 1}}
			return b
		}, teebroker.ForeignBlob},
		{"none presented, no copy", func(w *blobWorld, mine, other keywrap.Wrapped) keywrap.Wrapped {
			w.register(mine, false)
			return keywrap.Wrapped{}
		}, teebroker.ForeignBlob},
		{"the copy is another", func(w *blobWorld, mine, other keywrap.Wrapped) keywrap.Wrapped {
			w.m = map[string]teebroker.Blob{purpose: {Digest: mine.Digest(), Wrapped: encoded(w, other)}}
			return keywrap.Wrapped{}
		}, teebroker.Unavailable},
		{"the copy is none", func(w *blobWorld, mine, other keywrap.Wrapped) keywrap.Wrapped {
			w.m = map[string]teebroker.Blob{purpose: {Digest: mine.Digest(), Wrapped: []byte("{}")}}
			return keywrap.Wrapped{}
		}, teebroker.Unavailable},
	} {
		w := newBlobWorld(t, keywrap.MLKEM1024P384)
		w.authorize(nil)
		shown := tt.edit(w, w.wrapped(nil), w.wrapped(nil))
		r, err := w.answer(w.request(w.presenting(shown), honest()))
		w.refusedWith(tt.name, r, err, tt.want)
		if w.used != 0 {
			t.Errorf("%s: it reached a key", tt.name)
		}
		if n := len(w.entries(teebroker.Decisions)); n != 0 {
			t.Errorf("%s: %d decisions", tt.name, n)
		}
	}
}

// A guest that is not authorized does not reach a key, whatever it presents.
func TestBlobNotAuthorized(t *testing.T) {
	w := newBlobWorld(t, keywrap.MLKEM1024P384)
	b := w.wrapped(nil)
	w.register(b, true)
	r, err := w.answer(w.request(w.presenting(b), honest()))
	w.refusedWith("not authorized", r, err, teebroker.NotAuthorized)
	w.authorize(nil)
	s := w.presenting(b)
	w.releasesOnce(s, b)
	r, err = w.answer(w.request(w.presenting(b), honest()))
	w.refusedWith("another key", r, err, teebroker.OtherKey)
	if w.used != 1 {
		t.Errorf("the key was used %d times", w.used)
	}
}

// A bit that changes anywhere in a blob whose digest an owner registered by
// mistake makes it one that does not open.
func TestBlobDoesNotOpen(t *testing.T) {
	for _, member := range []string{"protected", "enc", "ciphertext"} {
		w := newBlobWorld(t, keywrap.P384)
		w.authorize(nil)
		b := w.wrapped(func(b *owner.Blob) { b.Suite = keywrap.P384 })
		switch member {
		case "protected": // the same header in another spelling
			b.Protected = []byte(base64.RawURLEncoding.EncodeToString(append(must(base64.RawURLEncoding.DecodeString(string(b.Protected))), ' ')))
		case "enc":
			b.Enc = w.wrapped(func(b *owner.Blob) { b.Suite = keywrap.P384 }).Enc
		case "ciphertext":
			raw := must(base64.RawURLEncoding.DecodeString(string(b.Ciphertext)))
			raw[7] ^= 1
			b.Ciphertext = []byte(base64.RawURLEncoding.EncodeToString(raw))
		}
		w.register(b, false)
		r, err := w.answer(w.request(w.presenting(b), honest()))
		w.refusedWith(member, r, err, teebroker.ForeignBlob)
	}
}

var errToken = errors.New("token removed")

// A token that fails has refused nobody: the same key gets the secret once the
// token is back.
func TestTokenFails(t *testing.T) {
	w := newBlobWorld(t, keywrap.P384)
	w.authorize(nil)
	b := w.wrapped(nil)
	w.register(b, true)
	good := w.cfg
	cfg := w.cfg
	for name, keys := range map[string]teebroker.Keys{
		"opener": keysWith{cfg.Keys, counted{w.keys["one"], new(int), errToken}, nil},
		"keys":   keysWith{cfg.Keys, nil, errToken},
	} {
		cfg.Keys = keys
		w.broker = must(teebroker.New(cfg))
		s := w.presenting(b)
		req := w.request(s, honest())
		r, err := w.answer(req)
		w.refusedWith(name, r, err, teebroker.Unavailable)
		if !errors.Is(err, errToken) {
			t.Errorf("%s: the cause is lost: %v", name, err)
		}
		w.broker = must(teebroker.New(good))
		w.authorize(nil)
		w.recoversBlob(s, req)
	}
	cfg.Keys = keysWith{cfg.Keys, nil, nil}
	w.broker = must(teebroker.New(cfg))
	w.authorize(nil)
	r, err := w.answer(w.request(w.presenting(b), honest()))
	w.refusedWith("no key and no error", r, err, teebroker.ForeignBlob)
	cfg.Keys = nil
	w.broker = must(teebroker.New(cfg))
	r, err = w.answer(w.request(w.presenting(b), honest()))
	w.refusedWith("a broker without keys", r, err, teebroker.ForeignBlob)
}

func (w *blobWorld) recoversBlob(s *guest.Session, req teebroker.Request) {
	w.Helper()
	if _, err := w.answer(req); !errors.Is(err, teebroker.InProgress) {
		w.Errorf("again: %v", err)
	}
	r, err := w.answer(w.request(s, honest()))
	w.check(err)
	w.opens(s, r)
}

// keysWith has one key, or fails.
type keysWith struct {
	teebroker.Keys
	key keywrap.Opener
	err error
}

func (k keysWith) Key(context.Context, string, string) (keywrap.Opener, error) { return k.key, k.err }

// A client of two requests presents no blob; the owner's copy serves it.
func TestBlobFetched(t *testing.T) {
	w := newBlobWorld(t, keywrap.P384)
	w.authorize(nil)
	b := w.wrapped(func(b *owner.Blob) { b.Purpose = "kbs/key/1" })
	w.m = map[string]teebroker.Blob{"kbs/key/1": {Digest: b.Digest(), Wrapped: encoded(w, b)}}
	key := w.key(keywrap.JWEP521)
	a, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileSVSM, key, honest()))
	w.check(err)
	r, err := w.broker.Fetch(t.Context(), a, "kbs/key/1")
	w.check(err)
	if got := w.openRaw(key, r); got != secret {
		t.Errorf("%q", got)
	}
}

// What unwrapping costs beside a release that has its secret at hand.
func BenchmarkAnswerBlob(b *testing.B) {
	for _, suite := range keywrap.OwnerSuites() {
		b.Run(string(suite), func(b *testing.B) {
			w := newBlobWorld(b, suite)
			w.authorize(func(a *teebroker.Authorization) { a.Uses = 1 << 20 })
			blob := w.wrapped(nil)
			w.register(blob, false)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				req := w.request(w.presenting(blob), honest())
				b.StartTimer()
				if _, err := w.answer(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
