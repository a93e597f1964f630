package v1_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

func sample(t testing.TB) teebroker.Request {
	t.Helper()
	key, err := keywrap.Generate(keywrap.X25519)
	if err != nil {
		t.Fatal(err)
	}
	return teebroker.Request{
		Profile: nonce.ProfileV1, Nonce: nonce.Nonce{1, 2}, Tenant: "acme", Broker: bytes.Repeat([]byte{7}, 32),
		Instance: instance, Purpose: "disk/root", Recipient: key.Recipient(),
		Evidence: []evidence.Evidence{{
			Format: "snp-report", Raw: []byte("raw"), Items: []evidence.Item{{Type: "snp-vek", Data: []byte("vek")}},
			Layers: []evidence.Evidence{{Format: "vtpm", Raw: []byte("below")}},
		}},
		Wrapped: []byte(`{"protected":"AA","enc":"AA","ciphertext":"AA"}`),
	}
}

func TestRequestRoundTrip(t *testing.T) {
	one := sample(t)
	two := one
	two.Evidence = append(two.Evidence[:1:1], evidence.Evidence{Format: "vtpm", Raw: []byte("quote")})
	two.Wrapped, two.Broker = nil, nil
	for _, want := range []teebroker.Request{one, two} {
		b, err := v1.MarshalRequest(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v1.ParseRequest(b, v1.Suites())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Broker, want.Broker) || got.Recipient.Thumbprint() != want.Recipient.Thumbprint() {
			t.Errorf("%+v", got)
		}
		got.Broker, got.Recipient = want.Broker, want.Recipient
		if len(got.Evidence) != len(want.Evidence) || got.Evidence[0].Format != "snp-report" || !reflect.DeepEqual(got.Evidence[0].Items, want.Evidence[0].Items) ||
			string(got.Evidence[0].Layers[0].Raw) != "below" || !bytes.Equal(got.Wrapped, want.Wrapped) || got.Purpose != want.Purpose ||
			got.Tenant != want.Tenant || got.Instance != want.Instance || got.Nonce != want.Nonce || got.Profile != nonce.ProfileV1 {
			t.Errorf("got %+v", got)
		}
	}
}

// Every member has to be there, once, under its name and in its only spelling.
func TestParseRequestIsStrict(t *testing.T) {
	good, err := v1.MarshalRequest(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v1.ParseRequest(good, v1.Suites()); err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(good, &members); err != nil {
		t.Fatal(err)
	}
	for name := range members {
		if name == "wrapped_key" {
			continue
		}
		without := map[string]json.RawMessage{}
		for n, v := range members {
			if n != name {
				without[n] = v
			}
		}
		b, err := json.Marshal(without)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v1.ParseRequest(b, v1.Suites()); !errors.Is(err, teebroker.MalformedRequest) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	replace := func(old, with string) []byte {
		b := bytes.Replace(good, []byte(old), []byte(with), 1)
		if bytes.Equal(b, good) {
			t.Errorf("nothing to replace: %s", old)
		}
		return b
	}
	for name, bad := range map[string][]byte{
		"empty":                    nil,
		"an array":                 []byte("[]"),
		"null":                     []byte("null"),
		"trailing data":            append(bytes.Clone(good), '{'),
		"another version":          replace(`"v":1`, `"v":2`),
		"an unknown member":        replace(`"v":1`, `"v":1,"x":1`),
		"a duplicate member":       replace(`"v":1`, `"v":1,"v":1`),
		"a member in other case":   replace(`"tenant"`, `"Tenant"`),
		"a null member":            replace(`"tenant":"acme"`, `"tenant":null`),
		"a null broker":            replace(`"broker":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"`, `"broker":null`),
		"padded base64":            replace(`"raw":"cmF3"`, `"raw":"cmF3="`),
		"stray bits":               replace(`"data":"dmVr"`, `"data":"dmVrZh"`),
		"line breaks":              replace(`"raw":"cmF3"`, `"raw":"cmF3\n"`),
		"an upper-case UUID":       replace(`00000001"`, `0000000A"`),
		"an unknown item member":   replace(`"type":"snp-vek"`, `"type":"snp-vek","more":1`),
		"a duplicate in evidence":  replace(`"format":"snp-report"`, `"format":"snp-report","format":"snp-report"`),
		"a duplicate in recipient": replace(`"suite":`, `"suite":"HPKE-P256","suite":`),
		"no evidence":              replace(`"evidence":{`, `"evidence":[],"x":{`),
		"a key of no suite":        replace(`"suite":"HPKE-X25519"`, `"suite":"RSA1_5"`),
		"a key of another suite":   replace(`"suite":"HPKE-X25519"`, `"suite":"HPKE-P256"`),
	} {
		if got, err := v1.ParseRequest(bad, v1.Suites()); !errors.Is(err, teebroker.MalformedRequest) || len(got.Evidence) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v1.ParseRequest(good, keywrap.Allow{}); !errors.Is(err, teebroker.MalformedRequest) {
		t.Errorf("a listener that takes no key: %v", err)
	}
	long := append(bytes.Clone(good), strings.Repeat(" ", v1.MaxRelease)...)
	if _, err := v1.ParseRequest(long, v1.Suites()); !errors.Is(err, teebroker.TooLarge) {
		t.Errorf("too long: %v", err)
	}
}

func TestResponse(t *testing.T) {
	want := teebroker.Response{Release: instance, Sealed: []byte(`{"suite":"x","enc":"AA","ct":"AA"}`), Receipt: []byte("a.b.c")}
	b := v1.MarshalResponse(want)
	if !json.Valid(b) {
		t.Fatalf("%s", b)
	}
	got, err := v1.ParseResponse(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	// What comes later for forwarders is passed over.
	if _, err := v1.ParseResponse(bytes.Replace(b, []byte(`{"release"`), []byte(`{"epoch":4,"release"`), 1)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		``, `{}`, `[]`, `{"release":"x","sealed":{},"receipt":""}`, `{"release":1,"sealed":{},"receipt":"a"}`,
		`{"release":"00000000-0000-0000-0000-000000000001","sealed":"{}","receipt":"a"}`,
		`{"release":"00000000-0000-0000-0000-000000000001","sealed":{},"receipt":null}`,
		`{"release":"00000000-0000-0000-0000-000000000001","sealed":{},"sealed":{},"receipt":"a"}`,
	} {
		if got, err := v1.ParseResponse([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	b, err := v1.MarshalRequest(sample(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"v":1,"evidence":[[]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := v1.ParseRequest(b, v1.Suites())
		if err != nil {
			if !errors.Is(err, teebroker.MalformedRequest) && !errors.Is(err, teebroker.TooLarge) {
				t.Fatalf("an error without a word: %v", err)
			}
			return
		}
		again, err := v1.MarshalRequest(req)
		if err != nil {
			// What is in the blob is for keywrap to say.
			if req.Wrapped == nil {
				t.Fatal(err)
			}
			return
		}
		twice, err := v1.ParseRequest(again, v1.Suites())
		if err != nil || twice.Nonce != req.Nonce || twice.Recipient.Thumbprint() != req.Recipient.Thumbprint() || len(twice.Evidence) != len(req.Evidence) {
			t.Fatalf("does not survive: %v", err)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add(v1.MarshalResponse(teebroker.Response{Release: instance, Sealed: []byte(`{"a":1}`), Receipt: []byte("a.b.c")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := v1.ParseResponse(b)
		if err != nil {
			return
		}
		if !bytes.Contains(b, r.Sealed) {
			t.Fatal("sealed bytes that were not received")
		}
	})
}
