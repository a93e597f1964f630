package pkcs11_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/keywrap/pkcs11"
)

// The URI of an operator's flag, without the PIN when it is printed.
func ExampleParseURI() {
	u, err := pkcs11.ParseURI("pkcs11:token=broker;object=att%202026?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-value=1234")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, %s\n%s\n", u.Token, u.Object, u)
	// Output:
	// broker, att 2026
	// pkcs11:token=broker;object=att%202026?module-path=/usr/lib/softhsm/libsofthsm2.so
}

func TestParseURI(t *testing.T) {
	for s, want := range map[string]pkcs11.URI{
		"pkcs11:":                         {},
		"pkcs11:token=a":                  {Token: "a"},
		"pkcs11:object=a;type=private":    {Object: "a"},
		"pkcs11:object=a;type=secret-key": {Object: "a"},
		"pkcs11:id=%00%ff%Fe":             {ID: []byte{0, 255, 254}},
		"pkcs11:serial=1;model=SoftHSM%20v2;manufacturer=m&m,(x)": {Serial: "1", Model: "SoftHSM v2", Manufacturer: "m&m,(x)"},
		"pkcs11:token=%c3%bc":                      {Token: "ü"},
		"pkcs11:?pin-source=/run/pin":              {PINSource: "/run/pin"},
		"pkcs11:?pin-source=file:/run/pin":         {PINSource: "/run/pin"},
		"pkcs11:?pin-source=file:///run/pin":       {PINSource: "/run/pin"},
		"pkcs11:?pin-value=a%26b":                  {PIN: []byte("a&b")},
		"pkcs11:?module-path=/m.so&pin-source=/p?": {Module: "/m.so", PINSource: "/p?"},
	} {
		if got, err := pkcs11.ParseURI(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "pkcs11", "PKCS11:", "http:", "pkcs11:token", "pkcs11:token=", "pkcs11:=a", "pkcs11:token=a;", "pkcs11:;token=a",
		"pkcs11:token=a;token=a", "pkcs11:Token=a", "pkcs11:slot-id=1", "pkcs11:library-version=3", "pkcs11:x-vendor=1", "pkcs11:type=cert",
		"pkcs11:token=a b", "pkcs11:token=ü", "pkcs11:token=%", "pkcs11:token=%4", "pkcs11:token=%4g", "pkcs11:token=%ff", "pkcs11:token=a/b",
		"pkcs11:pin-value=1", "pkcs11:?token=a", "pkcs11:?", "pkcs11:?pin-value=", "pkcs11:?pin-value=1&", "pkcs11:?pin-value=1&pin-value=1",
		"pkcs11:?pin-value=1&pin-source=/p", "pkcs11:?pin-source=p", "pkcs11:?pin-source=|/bin/pin", "pkcs11:?pin-source=file://host/p",
		"pkcs11:?pin-source=//host/p", "pkcs11:?pin-source=/p%00", "pkcs11:?module-path=m.so", "pkcs11:?module-name=softhsm", "pkcs11:?module-path=/a%ff",
		"pkcs11:?pin-value=1;2", "pkcs11:token=a#b", "pkcs11:token=" + strings.Repeat("a", 2048),
	} {
		if got, err := pkcs11.ParseURI(s); !errors.Is(err, pkcs11.ErrURI) || !reflect.DeepEqual(got, pkcs11.URI{}) {
			t.Errorf("%.40q: %+v, %v", s, got, err)
		}
	}
	if _, err := pkcs11.ParseURI("pkcs11:?pin-value=secret word"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// What is parsed is printed as what parses to the same, but for the PIN.
func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:token=a%20b;object=c;id=%01?module-path=/m.so&pin-source=file:///pin")
	f.Add("pkcs11:manufacturer=m;model=m;serial=1;type=private?pin-value=1%26")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := pkcs11.ParseURI(s)
		if err != nil {
			return
		}
		text := u.String()
		if text != fmt.Sprintf("%#v", u) || len(u.PIN) > 0 && strings.Contains(text, "pin-value") {
			t.Errorf("%s prints as %s", s, text)
		}
		u.PIN = nil
		if again, err := pkcs11.ParseURI(text); len(text) <= 2048 && (err != nil || !reflect.DeepEqual(again, u)) {
			t.Errorf("%s prints as %s, which is %#v, %v", s, text, again, err)
		}
	})
}
