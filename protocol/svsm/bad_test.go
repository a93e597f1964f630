package svsm_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/protocol/svsm"
)

const hello = `{"version":[0,1,0],"tee":"snp"}`

var report = b64(bytes.Repeat([]byte{2}, 1184))

// attestation is a well-formed one that replaces old by new.
func attestation(old, new string) string {
	good := `{"tee":"snp","evidence":{"Snp":{"report":"` + report + `"}},"challenge":"` + b64(make([]byte, 32)) +
		`","key":{"x":"` + b64(make([]byte, 66)) + `","y":"` + b64(bytes.Repeat([]byte{1}, 66)) + `"}}`
	if old != "" && !strings.Contains(good, old) {
		panic(old)
	}
	return strings.Replace(good, old, new, 1)
}

func TestBadNegotiation(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `null`, `{"version":[0,1,0]}`, `{"tee":"snp"}`, `{"version":[0,1],"tee":"snp"}`, `{"version":[0,1,0,0],"tee":"snp"}`,
		`{"version":[0,2,0],"tee":"snp"}`, `{"version":"0.1.0","tee":"snp"}`, `{"version":[0,1,-1],"tee":"snp"}`, `{"version":[0,1,0],"tee":"tdx"}`,
		`{"version":[0,1,0],"tee":"snp","tee":"snp"}`, `{"version":[0,1,0],"TEE":"snp"}`, `{"version":[0,1,0],"tee":null}`, hello + hello, hello[:20],
	} {
		if err := svsm.ParseNegotiation([]byte(text)); !errors.Is(err, svsm.ErrMalformed) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := svsm.ParseNegotiation([]byte(hello)); err != nil {
		t.Error(err)
	}
}

func TestBadAttestation(t *testing.T) {
	x, y := b64(make([]byte, 66)), b64(bytes.Repeat([]byte{1}, 66))
	for name, text := range map[string]string{
		"no tee":              attestation(`"tee":"snp",`, ""),
		"other tee":           attestation(`"snp"`, `"tdx"`),
		"no evidence":         attestation(`"evidence":{"Snp":{"report":"`+report+`"}},`, ""),
		"evidence of another": attestation(`"Snp"`, `"Tdx"`),
		"empty report":        attestation(report, ""),
		"report is a number":  attestation(`"`+report+`"`, "7"),
		"report without pad":  attestation(report, strings.TrimRight(report, "=")),
		"two reports":         attestation(`"report"`, `"report":"AA==","report"`),
		"no challenge":        attestation(`"challenge":"`+b64(make([]byte, 32))+`",`, ""),
		"empty challenge":     attestation(b64(make([]byte, 32))+`"`, `"`),
		"no key":              attestation(`,"key":{"x":"`+x+`","y":"`+y+`"}`, ""),
		"no y":                attestation(`,"y":"`+y+`"`, ""),
		"key is a string":     attestation(`{"x":"`+x+`","y":"`+y+`"}`, `"key"`),
		"x of 65 bytes":       attestation(x, b64(make([]byte, 65))),
		"x of 67 bytes":       attestation(x, b64(make([]byte, 67))),
		"x with a line break": attestation(x, x[:4]+`\n`+x[4:]),
		"y in base64url":      attestation(y, strings.Repeat("_", 88)),
		"null certificates":   attestation(`"report"`, `"certs_buf":null,"report"`),
		"unknown member":      attestation(`"tee"`, `"more":1,"tee"`),
		"other case":          attestation(`"key"`, `"Key"`),
		"cut off":             attestation("", "")[:100],
	} {
		if _, err := svsm.KBSBody([]byte(text)); !errors.Is(err, svsm.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := svsm.KBSBody([]byte(attestation("", ""))); err != nil {
		t.Error(err)
	}
}

// A frame's length is believed only up to a limit, and costs nothing beyond it.
func TestFrames(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"nothing":        {nil, io.EOF},
		"half a length":  {[]byte{1, 0, 0}, io.ErrUnexpectedEOF},
		"empty":          {make([]byte, 8), svsm.ErrMalformed},
		"2⁶⁴-1 bytes":    {bytes.Repeat([]byte{0xff}, 8), svsm.ErrMalformed},
		"1 MiB and one":  {[]byte{1, 0, 0x10, 0, 0, 0, 0, 0}, svsm.ErrMalformed},
		"big endian":     {[]byte{0, 0, 0, 0, 0, 0, 0, 2, '{', '}'}, svsm.ErrMalformed},
		"less than said": {framed(hello)[:20], io.ErrUnexpectedEOF},
		"nothing behind": {framed(hello)[:8], io.ErrUnexpectedEOF},
	} {
		if b, err := svsm.ReadFrame(bytes.NewReader(c.in), svsm.MaxFrame); !errors.Is(err, c.want) || b != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	longest := make([]byte, svsm.MaxFrame)
	if b, err := svsm.ReadFrame(bytes.NewReader(framed(string(longest))), svsm.MaxFrame); err != nil || len(b) != svsm.MaxFrame {
		t.Errorf("1 MiB: %d bytes, %v", len(b), err)
	}
}

// Guests that send anything are told so or cut off, and others are served.
func TestBadGuests(t *testing.T) {
	s := httptest.NewServer(newKBS(secret))
	defer s.Close()
	errs := make(chan error, 1)
	dial := serve(t, svsm.ProxyConfig{Broker: s.URL, Done: func(_ net.Addr, err error) { errs <- err }})
	for name, c := range map[string]struct {
		say  []byte
		hear string // at the end
	}{
		"nothing":                   {nil, ""},
		"a huge frame":              {bytes.Repeat([]byte{0xff}, 8), ""},
		"no JSON":                   {framed("hello"), ""},
		"another version":           {framed(`{"version":[1,0,0],"tee":"snp"}`), ""},
		"half an attestation":       {append(framed(hello), framed(attestation("", ""))[:50]...), refusal},
		"a malformed attestation":   {append(framed(hello), framed("{}")...), refusal},
		"an attestation that fails": {append(framed(hello), framed(attestation("", ""))...), refusal},
		"a negotiation for another": {append(framed(hello), framed(hello)...), refusal},
	} {
		conn := dial()
		if _, err := conn.Write(c.say); err != nil {
			t.Fatal(err)
		}
		conn.(*net.UnixConn).CloseWrite()
		heard, err := io.ReadAll(conn)
		if err != nil || !strings.HasSuffix(string(heard), c.hear) || c.hear == "" && len(heard) > 0 {
			t.Errorf("%s: heard %q, %v", name, heard, err)
		}
		conn.Close()
		if err := <-errs; err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	conn := dial()
	if _, err := guest(0).Attest(t.Context(), conn); err != nil {
		t.Errorf("the next guest: %v", err)
	}
	conn.Close()
	if err := <-errs; err != nil {
		t.Errorf("the next guest: %v", err)
	}
}

// What a guest hears from a proxy that is not honest.
func TestGuestHearsAnything(t *testing.T) {
	n := b64(bytes.Repeat([]byte{7}, 32))
	good := `{"challenge":"` + n + `","params":["EcPublicKeyBytes","Challenge"]}`
	for name, c := range map[string]struct {
		challenge, answer string
		want              error
	}{
		"nothing":               {"", "", io.ErrUnexpectedEOF},
		"no challenge":          {`{"params":["EcPublicKeyBytes","Challenge"]}`, "", svsm.ErrMalformed},
		"challenge of 33 bytes": {strings.Replace(good, n, b64(make([]byte, 33)), 1), "", svsm.ErrMalformed},
		"other params":          {strings.Replace(good, `"Challenge"`, `"Nonce"`, 1), "", svsm.ErrMalformed},
		"fewer params":          {strings.Replace(good, `"EcPublicKeyBytes",`, "", 1), "", svsm.ErrMalformed},
		"a refusal":             {good, refusal, svsm.ErrRefused},
		"success with nothing":  {good, `{"success":true,"decryption":null,"token":null}`, svsm.ErrMalformed},
		"no JSON":               {good, "{", svsm.ErrMalformed},
		"success with no JWE":   {good, `{"success":true,"secret":"","decryption":{"epk":{"x":"","y":""},"wrapped_cek":"","aad":"","iv":"","tag":""},"token":{"Jwt":""}}`, svsm.ErrMalformed},
	} {
		mine, its := net.Pipe()
		go func() {
			defer its.Close()
			for _, text := range []string{c.challenge, c.answer} {
				if _, err := svsm.ReadFrame(its, svsm.MaxFrame); err != nil || text == "" {
					return
				}
				its.Write(framed(text))
			}
		}()
		if b, err := guest(0).Attest(t.Context(), mine); !errors.Is(err, c.want) || b != nil {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		mine.Close()
	}
}

// Each part of an answer matters: with one bit of it changed nothing opens.
func TestAnswerIsChanged(t *testing.T) {
	r := recordings(t)["aproxy_success"]
	key, err := keywrap.FromECDH(keywrap.JWEP521, p521(t, r.Keys[0].PEM))
	if err != nil {
		t.Fatal(err)
	}
	good := string(r.guests(t)[0][3].Raw[8:])
	for _, member := range []string{"secret", "x", "y", "wrapped_cek", "aad", "iv", "tag"} {
		before, rest, _ := strings.Cut(good, `"`+member+`":"`)
		value, after, _ := strings.Cut(rest, `"`)
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)-1] ^= 1
		b, err := svsm.OpenAnswer(t.Context(), []byte(before+`"`+member+`":"`+b64(raw)+`"`+after), key)
		if err == nil || b != nil {
			t.Errorf("%s: %q, %v", member, b, err)
		}
	}
}

// Replies of a broker that are nearly right.
func TestBadReplies(t *testing.T) {
	nonce := `{"nonce":"` + b64(bytes.Repeat([]byte{7}, 32)) + `","extra-params":""}`
	if b, err := svsm.ParseAuth([]byte(nonce)); err != nil || len(b) != 32 {
		t.Errorf("%x, %v", b, err)
	}
	for name, text := range map[string]string{
		"no nonce":          `{"extra-params":""}`,
		"empty nonce":       `{"nonce":"","extra-params":""}`,
		"long nonce":        `{"nonce":"` + b64(make([]byte, 1025)) + `","extra-params":""}`,
		"nonce is a number": `{"nonce":7,"extra-params":""}`,
		"two nonces":        strings.Replace(nonce, `"nonce"`, `"nonce":"AA==","nonce"`, 1),
		"line break":        strings.Replace(nonce, `"Bw`, `"B\nw`, 1),
		"stray bits":        strings.Replace(nonce, `wc="`, `wd="`, 1),
		"other case":        strings.Replace(nonce, `extra-params`, `Extra-Params`, 1),
	} {
		if b, err := svsm.ParseAuth([]byte(text)); !errors.Is(err, svsm.ErrMalformed) || text == nonce {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
	for _, text := range []string{"", "{}", `{"token":7}`, `{"token":null}`, `{"token":"a","token":"b"}`, `{"Token":"a"}`, `{"token":"a"}x`} {
		if jwt, err := svsm.ParseToken([]byte(text)); !errors.Is(err, svsm.ErrMalformed) {
			t.Errorf("%s: %q, %v", text, jwt, err)
		}
	}
}
