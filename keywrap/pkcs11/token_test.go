//go:build cgo

package pkcs11_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/keywrap/pkcs11"
)

var key = pkcs11.Object{Label: "attestation"}

// keyed is a token that has the key.
func keyed(s *soft, edit func(*pkcs11.Config)) *pkcs11.Token {
	s.Helper()
	t := s.open(edit)
	s.check(t.Generate(s.Context(), pkcs11.Unwrap, key))
	return t
}

// sealed is a secret sealed to o.
func sealed(t testing.TB, o keywrap.Opener, secret string) keywrap.Sealed {
	t.Helper()
	box, err := o.Recipient().Seal([]byte(secret), []byte("info"))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// What is sealed to a key in the token opens there and nowhere else, also a
// hybrid half of which is in memory. One Z in 256 begins with a zero, which has
// to be kept.
func TestOpener(t *testing.T) {
	s := newSoft(t)
	token := keyed(s, nil)
	for suite, seed := range map[keywrap.Suite][]byte{keywrap.P384: nil, keywrap.MLKEM1024P384: make([]byte, 64)} {
		o, err := token.Opener(t.Context(), key, seed)
		s.check(err)
		if o.Recipient().Suite() != suite || !keywrap.InToken(o) {
			t.Errorf("%s: suite %s, in token %v", suite, o.Recipient().Suite(), keywrap.InToken(o))
		}
		for range 300 {
			got, err := o.Open(t.Context(), sealed(t, o, "secret"), []byte("info"))
			if err != nil || string(got) != "secret" {
				t.Fatalf("%s: %q, %v", suite, got, err)
			}
		}
		other, err := keywrap.Generate(suite)
		s.check(err)
		for name, box := range map[string]keywrap.Sealed{
			"another key's": sealed(t, other, "secret"),
			"another suite": sealed(t, must(keywrap.Generate(keywrap.P256)), "secret"),
			"zero":          {},
		} {
			if got, err := o.Open(t.Context(), box, []byte("info")); !errors.Is(err, keywrap.ErrOpen) || errors.Is(err, pkcs11.ErrToken) || got != nil {
				t.Errorf("%s: %s: %q, %v", suite, name, got, err)
			}
		}
		if got, err := o.Open(t.Context(), sealed(t, o, "secret"), []byte("other")); !errors.Is(err, keywrap.ErrOpen) || got != nil {
			t.Errorf("%s: other info: %q, %v", suite, got, err)
		}
	}
	for suite, seed := range map[keywrap.Suite][]byte{keywrap.P384: nil, keywrap.MLKEM1024P384: make([]byte, 64)} {
		// A point that is not on the curve never comes to the token, which would
		// fail on it.
		enc := make([]byte, map[keywrap.Suite]int{keywrap.P384: 97, keywrap.MLKEM1024P384: 1665}[suite])
		enc[len(enc)-97] = 4
		box := keywrap.Sealed{}
		s.check(json.Unmarshal(fmt.Appendf(nil, `{"suite":%q,"enc":%q,"ct":%q}`, suite,
			base64.RawURLEncoding.EncodeToString(enc), base64.RawURLEncoding.EncodeToString(make([]byte, 16))), &box))
		o, err := token.Opener(t.Context(), key, seed)
		s.check(err)
		if got, err := o.Open(t.Context(), box, nil); !errors.Is(err, keywrap.ErrOpen) || errors.Is(err, pkcs11.ErrToken) || got != nil {
			t.Errorf("%s: off the curve: %q, %v", suite, got, err)
		}
	}
	if _, err := token.Opener(t.Context(), key, make([]byte, 63)); !errors.Is(err, pkcs11.ErrKey) {
		t.Error(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// More goroutines than sessions, on one key and one token.
func TestConcurrent(t *testing.T) {
	s := newSoft(t)
	token := keyed(s, func(c *pkcs11.Config) { c.Sessions = 3 })
	o, err := token.Opener(t.Context(), key, nil)
	s.check(err)
	box := sealed(t, o, "secret")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				if got, err := o.Open(t.Context(), box, []byte("info")); err != nil || string(got) != "secret" {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

// While the token is away nothing is decided; when it is back, all goes on, with
// keys that were opened before.
func TestRemoved(t *testing.T) {
	s := newSoft(t)
	token := keyed(s, nil)
	s.check(token.Generate(t.Context(), pkcs11.Sign, pkcs11.Object{Label: "identity"}))
	s.check(token.Generate(t.Context(), pkcs11.Encrypt, pkcs11.Object{Label: "cipher"}))
	o, err1 := token.Opener(t.Context(), key, nil)
	id, err2 := token.Signer(t.Context(), pkcs11.Object{Label: "identity"})
	c, err3 := token.Cipher(t.Context(), pkcs11.Object{Label: "cipher"})
	s.check(errors.Join(err1, err2, err3))
	box := sealed(t, o, "secret")
	value, err := c.Seal(t.Context(), []byte("value"), nil)
	s.check(err)
	digest := sha512.Sum384(nil)
	for range 3 {
		back := s.remove()
		for range 3 {
			if got, err := o.Open(t.Context(), box, []byte("info")); !errors.Is(err, pkcs11.ErrToken) || errors.Is(err, keywrap.ErrOpen) || got != nil {
				t.Errorf("away: %q, %v", got, err)
			}
			if got, err := id.Sign(rand.Reader, digest[:], crypto.SHA384); !errors.Is(err, pkcs11.ErrToken) || got != nil {
				t.Errorf("away: %x, %v", got, err)
			}
			if got, err := c.Open(t.Context(), value, nil); !errors.Is(err, pkcs11.ErrToken) || errors.Is(err, pkcs11.ErrOpen) || got != nil {
				t.Errorf("away: %q, %v", got, err)
			}
		}
		back()
		if got, err := o.Open(t.Context(), box, []byte("info")); err != nil || string(got) != "secret" {
			t.Errorf("back: %q, %v", got, err)
		}
		if _, err := id.Sign(rand.Reader, digest[:], crypto.SHA384); err != nil {
			t.Errorf("back: %v", err)
		}
		if got, err := c.Open(t.Context(), value, nil); err != nil || string(got) != "value" {
			t.Errorf("back: %q, %v", got, err)
		}
	}
}

// A token that comes back with another key of the same name is not the one that
// was there.
func TestExchanged(t *testing.T) {
	s := newSoft(t)
	other := keyed(s, nil)
	s.check(other.Close())
	s.check(os.Rename(s.dir, s.dir+".other"))
	s.check(os.Mkdir(s.dir, 0o700))
	s.init("test")
	token := keyed(s, nil)
	o, err := token.Opener(t.Context(), key, nil)
	s.check(err)
	box := sealed(t, o, "secret")
	back := s.remove()
	s.check(os.Rename(s.dir+".other", s.dir))
	for range 3 {
		if got, err := o.Open(t.Context(), box, []byte("info")); !errors.Is(err, pkcs11.ErrToken) || errors.Is(err, keywrap.ErrOpen) || got != nil {
			t.Errorf("the other: %q, %v", got, err)
		}
	}
	s.check(os.Rename(s.dir, s.dir+".other"))
	back()
	if got, err := o.Open(t.Context(), box, []byte("info")); err != nil || string(got) != "secret" {
		t.Errorf("back: %q, %v", got, err)
	}
}

// Many ask while the token goes away and comes back: each gets the secret or
// hears that the token is away.
func TestRemovedUnderLoad(t *testing.T) {
	s := newSoft(t)
	token := keyed(s, func(c *pkcs11.Config) { c.Sessions = 2 })
	o, err := token.Opener(t.Context(), key, nil)
	s.check(err)
	box := sealed(t, o, "secret")
	away, done := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for {
				got, err := o.Open(t.Context(), box, []byte("info"))
				switch {
				case err == nil && string(got) == "secret":
				case errors.Is(err, pkcs11.ErrToken) && got == nil:
					once.Do(func() { close(away) })
				default:
					t.Errorf("%q, %v", got, err)
					once.Do(func() { close(away) })
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	back := s.remove()
	<-away
	back()
	close(done)
	wg.Wait()
	if got, err := o.Open(t.Context(), box, []byte("info")); err != nil || string(got) != "secret" {
		t.Errorf("back: %q, %v", got, err)
	}
}

// A key is looked for in the token that it is said to be in.
func TestIs(t *testing.T) {
	token := newSoft(t).open(nil)
	for uri, want := range map[string]bool{
		"pkcs11:object=a": true, "pkcs11:token=test": true, "pkcs11:token=test;model=SoftHSM%20v2?pin-source=/pin": true, "pkcs11:token=test?module-path=" + module(t): true,
		"pkcs11:token=other": false, "pkcs11:token=test;serial=1": false, "pkcs11:token=test;manufacturer=m": false, "pkcs11:model=m": false,
		"pkcs11:token=test?module-path=/other.so": false,
	} {
		if got := token.Is(must(pkcs11.ParseURI(uri))); got != want {
			t.Errorf("%s: %v", uri, got)
		}
	}
}

// Of many who find the token broken one makes it new.
func TestResetOnce(t *testing.T) {
	token := newSoft(t).open(nil)
	first := token.State()
	for range 3 {
		if err := token.Reset(t.Context(), first); err != nil || token.State() != first+1 {
			t.Errorf("state %d after %d, %v", token.State(), first, err)
		}
	}
}

// A wrong PIN is tried once, so that the token does not lock itself.
func TestWrongPIN(t *testing.T) {
	s := newSoft(t)
	if _, err := pkcs11.Open(t.Context(), s.config(func(c *pkcs11.Config) { c.URI.PIN = []byte("0000") })); !errors.Is(err, pkcs11.ErrPIN) {
		t.Errorf("wrong PIN: %v", err)
	}
	source := filepath.Join(t.TempDir(), "pin")
	write := func(pin string, mode os.FileMode) {
		t.Helper()
		s.check(errors.Join(os.WriteFile(source, []byte(pin), 0o600), os.Chmod(source, mode)))
	}
	from := func(c *pkcs11.Config) { c.URI.PIN, c.URI.PINSource = nil, source }
	write(pin+"\n", 0o644)
	if _, err := pkcs11.Open(t.Context(), s.config(from)); !errors.Is(err, pkcs11.ErrPIN) {
		t.Errorf("a PIN that everybody reads: %v", err)
	}
	write("\n", 0o600)
	if _, err := pkcs11.Open(t.Context(), s.config(from)); !errors.Is(err, pkcs11.ErrPIN) {
		t.Errorf("an empty PIN: %v", err)
	}
	write(pin+"\n", 0o600)
	token := keyed(s, from)
	o, err := token.Opener(t.Context(), key, nil)
	s.check(err)
	box := sealed(t, o, "secret")

	// The token is away, and the PIN another when it comes back.
	back := s.remove()
	if _, err := o.Open(t.Context(), box, []byte("info")); !errors.Is(err, pkcs11.ErrToken) {
		t.Error(err)
	}
	back()
	write("0000", 0o600)
	tried := 0
	for range 20 {
		_, err := o.Open(t.Context(), box, []byte("info"))
		if !errors.Is(err, pkcs11.ErrPIN) {
			t.Error(err)
		}
		if said := p11.Error(0); errors.As(err, &said) {
			tried++
		}
	}
	if tried != 1 {
		t.Errorf("the token was asked %d times", tried)
	}
	write(pin, 0o600)
	if got, err := o.Open(t.Context(), box, []byte("info")); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	s := newSoft(t)
	s.init("twice")
	s.init("twice")
	for name, tt := range map[string]struct {
		edit func(*pkcs11.Config)
		want error // nil if any
	}{
		"no module":         {func(c *pkcs11.Config) { c.Module = "" }, nil},
		"relative module":   {func(c *pkcs11.Config) { c.Module = "softhsm.so" }, nil},
		"not a module":      {func(c *pkcs11.Config) { c.Module = "/dev/null" }, pkcs11.ErrToken},
		"no PIN":            {func(c *pkcs11.Config) { c.URI.PIN = nil }, nil},
		"two PINs":          {func(c *pkcs11.Config) { c.URI.PINSource = "/pin" }, nil},
		"no such PIN":       {func(c *pkcs11.Config) { c.URI.PIN, c.URI.PINSource = nil, "/none/pin" }, pkcs11.ErrPIN},
		"negative sessions": {func(c *pkcs11.Config) { c.Sessions = -1 }, nil},
		"another token":     {func(c *pkcs11.Config) { c.URI.Token = "other" }, pkcs11.ErrToken},
		"another serial":    {func(c *pkcs11.Config) { c.URI.Serial = "0" }, pkcs11.ErrToken},
		"another model":     {func(c *pkcs11.Config) { c.URI.Model = "0" }, pkcs11.ErrToken},
		"another maker":     {func(c *pkcs11.Config) { c.URI.Manufacturer = "0" }, pkcs11.ErrToken},
		"two of the name":   {func(c *pkcs11.Config) { c.URI.Token = "twice" }, pkcs11.ErrToken},
		"any token":         {func(c *pkcs11.Config) { c.URI.Token = "" }, pkcs11.ErrToken},
	} {
		if token, err := pkcs11.Open(t.Context(), s.config(tt.edit)); err == nil || tt.want != nil && !errors.Is(err, tt.want) || token != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	first := s.open(nil)
	if _, err := pkcs11.Open(t.Context(), s.config(nil)); !errors.Is(err, pkcs11.ErrToken) {
		t.Errorf("a second Token of one module: %v", err)
	}
	if err := first.Generate(t.Context(), pkcs11.Unwrap, key); err != nil {
		t.Errorf("the first one after that: %v", err)
	}
}

// What the context has no time for is not decided.
func TestContext(t *testing.T) {
	s := newSoft(t)
	token := keyed(s, func(c *pkcs11.Config) { c.Sessions = 1 })
	o, err := token.Opener(t.Context(), key, nil)
	s.check(err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := o.Open(over, sealed(t, o, "secret"), []byte("info")); !errors.Is(err, pkcs11.ErrToken) || !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := pkcs11.Open(over, s.config(nil)); err == nil {
		t.Error("opened")
	}
	// Somebody else has the only session.
	free := token.Occupy()
	waiting, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := o.Open(waiting, sealed(t, o, "secret"), []byte("info"))
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, pkcs11.ErrToken) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	free()
	if got, err := o.Open(t.Context(), sealed(t, o, "secret"), []byte("info")); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestClose(t *testing.T) {
	s := newSoft(t)
	token := keyed(s, nil)
	o, err := token.Opener(t.Context(), key, nil)
	s.check(err)
	for range 2 {
		s.check(token.Close())
	}
	if _, err := o.Open(t.Context(), sealed(t, o, "secret"), []byte("info")); !errors.Is(err, pkcs11.ErrToken) {
		t.Error(err)
	}
	again := s.open(nil)
	if _, err := again.Opener(t.Context(), key, nil); err != nil {
		t.Error(err)
	}
}

func BenchmarkOpen(b *testing.B) {
	for name, seed := range map[string][]byte{"P384": nil, "MLKEM1024P384": make([]byte, 64)} {
		b.Run(name, func(b *testing.B) {
			s := newSoft(b)
			token := keyed(s, nil)
			o, err := token.Opener(b.Context(), key, seed)
			s.check(err)
			box := sealed(b, o, "secret")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := o.Open(b.Context(), box, []byte("info")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A broker that has its identity and attestation keys in a token.
func ExampleOpen() {
	u, err := pkcs11.ParseURI("pkcs11:token=broker?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/teebroker/pin")
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	token, err := pkcs11.Open(ctx, pkcs11.Config{URI: u})
	if err != nil {
		log.Fatal(err)
	}
	defer token.Close()
	identity, err1 := token.Signer(ctx, pkcs11.Object{Label: "identity"})
	opener, err2 := token.Opener(ctx, pkcs11.Object{Label: "kek"}, nil)
	if err := errors.Join(err1, err2); err != nil {
		log.Print(err)
		return
	}
	fmt.Println(identity.Public(), opener.Recipient().Suite())
}
