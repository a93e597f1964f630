package sealed_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/sealed"
	"github.com/teebroker/teebroker/keywrap"
)

var whole = sealed.Secret{
	Binding: []byte{1}, Release: [16]byte{2}, Tenant: "acme", Instance: [16]byte{3}, Purpose: "disk", Key: []byte{4},
	ConfirmKey: bytes.Repeat([]byte{5}, 32),
}

func encode(t testing.TB, s sealed.Secret) []byte {
	t.Helper()
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The members are those of section 4 of the protocol, and all are there.
func TestParse(t *testing.T) {
	text := string(encode(t, whole))
	const want = `{"binding":"AQ","release":"02000000-0000-0000-0000-000000000000","tenant":"acme",` +
		`"instance":"03000000-0000-0000-0000-000000000000","purpose":"disk","key":"BA","confirm_key":"BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"}`
	if text != want {
		t.Errorf("encodes to %s", text)
	}
	if _, err := sealed.Parse([]byte(text)); err != nil {
		t.Error(err)
	}
	for _, member := range []string{"binding", "release", "tenant", "instance", "purpose", "key", "confirm_key"} {
		if _, err := sealed.Parse([]byte(strings.Replace(text, `"`+member+`"`, `"x"`, 1))); err == nil {
			t.Errorf("an unknown member in place of %s", member)
		}
	}
	for name, edit := range map[string]func(*sealed.Secret){
		"binding": func(s *sealed.Secret) { s.Binding = nil }, "release": func(s *sealed.Secret) { s.Release = [16]byte{} },
		"tenant": func(s *sealed.Secret) { s.Tenant = "" }, "instance": func(s *sealed.Secret) { s.Instance = [16]byte{} },
		"purpose": func(s *sealed.Secret) { s.Purpose = "" }, "key": func(s *sealed.Secret) { s.Key = nil },
		"confirm_key": func(s *sealed.Secret) { s.ConfirmKey = nil },
	} {
		s := whole
		edit(&s)
		if _, err := sealed.Parse(encode(t, s)); err == nil {
			t.Errorf("takes an empty %s", name)
		}
	}
	for _, n := range []int{1, 31, 33} {
		s := whole
		s.ConfirmKey = make([]byte, n)
		if _, err := sealed.Parse(encode(t, s)); err == nil {
			t.Errorf("takes a confirm_key of %d bytes", n)
		}
	}
}

// An error about a secret quotes nothing of it.
func TestParseQuotesNothing(t *testing.T) {
	_, err := sealed.Parse([]byte(`{"tell":"nobody"}`))
	if err == nil || strings.Contains(err.Error(), "tell") || strings.Contains(err.Error(), "nobody") {
		t.Error(err)
	}
}

// JWE has no place for info, and is given none.
func TestInfo(t *testing.T) {
	b, err := evidence.NewBinding([]byte{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	want := append([]byte("teebroker/v1/sealed"), 0, 1, 2)
	for _, s := range []keywrap.Suite{keywrap.MLKEM768X25519, keywrap.MLKEM1024P384, keywrap.P256, keywrap.P384, keywrap.X25519} {
		if got := sealed.Info(s, b); !bytes.Equal(got, want) {
			t.Errorf("%s: %q", s, got)
		}
	}
	for _, s := range []keywrap.Suite{keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521, keywrap.JWERSA} {
		if got := sealed.Info(s, b); len(got) != 0 {
			t.Errorf("%s: %q", s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(f, whole))
	f.Add([]byte(`{"binding":"AQ"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := sealed.Parse(b)
		if err != nil {
			return
		}
		if _, err := sealed.Parse(encode(t, s)); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	})
}
