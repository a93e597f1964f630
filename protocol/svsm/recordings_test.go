package svsm_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/protocol/svsm"
)

// recording is a run of aproxy between a guest and a KBS.
type recording struct {
	Name    string `json:"name"`
	BaseURL string `json:"base_url"`
	Keys    []struct {
		PEM string `json:"pem_pkcs8"`
	} `json:"private_keys"`
	Frames    json.RawMessage `json:"unix_socket_frames"`
	Exchanges []exchange      `json:"exchanges"`
	Client    struct {
		Running bool `json:"still_running_after_guest"`
	} `json:"client_result"`
	JWEs []struct {
		Ciphertext string `json:"ciphertext"`
	} `json:"jwe_intermediates"`
}

type exchange struct {
	Request struct {
		Method  string      `json:"method"`
		Target  string      `json:"target"`
		Headers [][2]string `json:"headers"`
		Body    string      `json:"body_text"`
	} `json:"request"`
	Response struct {
		Raw []byte `json:"raw_b64"`
	} `json:"response"`
}

type frame struct {
	Direction string `json:"direction"`
	Raw       []byte `json:"raw_b64"`
}

// guests returns the frames of each guest of r.
func (r recording) guests(t *testing.T) [][]frame {
	t.Helper()
	var all []struct {
		Frames []frame `json:"frames"`
		frame
	}
	if err := json.Unmarshal(r.Frames, &all); err != nil {
		t.Fatal(err)
	}
	var of [][]frame
	for _, a := range all {
		if a.Frames != nil {
			of = append(of, a.Frames)
			continue
		}
		if of == nil {
			of = make([][]frame, 1)
		}
		of[0] = append(of[0], a.frame)
	}
	return of
}

func recordings(t *testing.T) map[string]recording {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vectors.Path(t, "wire/recordings"), "aproxy_*.json"))
	if err != nil || len(files) != 33 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	rs := map[string]recording{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var r recording
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		rs[r.Name] = r
	}
	return rs
}

// script is a KBS that answers as recorded, and compares what it is asked.
type script struct {
	t *testing.T

	mu   sync.Mutex
	left []exchange
}

func (s *script) play(r recording) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = r.Exchanges
}

func (s *script) done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.left) == 0
}

// RoundTrip implements [http.RoundTripper].
func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.left) == 0 {
		return nil, errors.New("one request more than recorded")
	}
	x := s.left[0]
	s.left = s.left[1:]
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	if r.Method != x.Request.Method || r.URL.RequestURI() != x.Request.Target || string(body) != x.Request.Body {
		s.t.Errorf("request differs:\n%s %s\n%s\nrecorded:\n%s %s\n%s", r.Method, r.URL.RequestURI(), body, x.Request.Method, x.Request.Target, x.Request.Body)
	}
	for _, name := range []string{"Cookie", "Content-Type"} {
		var want string
		for _, h := range x.Request.Headers {
			if strings.EqualFold(h[0], name) {
				want = h[1]
			}
		}
		if got := r.Header.Get(name); got != want {
			s.t.Errorf("%s is %q, recorded %q", name, got, want)
		}
	}
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(x.Response.Raw)), r)
}

const refusal = `{"success":false,"decryption":null,"token":null}`

// Every message of aproxy is that of the proxy, to the guest and to the KBS. Where
// aproxy ends, the proxy tells the guest, or ends its stream, and serves the next.
func TestRecordings(t *testing.T) {
	all := recordings(t)
	for name, r := range all {
		t.Run(name, func(t *testing.T) {
			kbs := &script{t: t}
			dial := serve(t, svsm.ProxyConfig{Broker: r.BaseURL, Transport: kbs, AllowPlainHTTP: true})
			kbs.play(r)
			for i, frames := range r.guests(t) {
				replay(t, r, i, dial, frames)
			}
			if !kbs.done() {
				t.Error("fewer requests than recorded")
			}
			next := all["aproxy_success"]
			kbs.play(next)
			replay(t, next, 0, dial, next.guests(t)[0])
		})
	}
}

// replay says what guest i of r said, and compares what it hears.
func replay(t *testing.T, r recording, i int, dial func() net.Conn, frames []frame) {
	t.Helper()
	conn := dial()
	defer conn.Close()
	var heard []byte
	for _, f := range frames {
		if f.Direction == "svsm->aproxy" {
			if _, err := conn.Write(f.Raw); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got := make([]byte, len(f.Raw))
		n, err := io.ReadFull(conn, got)
		heard = append(heard, got[:n]...)
		if reordered := strings.HasPrefix(r.Name, "aproxy_header_order_"); !reordered && !bytes.Equal(got, f.Raw) || err != nil {
			t.Fatalf("heard %q, %v; recorded %q", got[:n], err, f.Raw)
		}
	}
	if r.Client.Running && frames[len(frames)-1].Direction != "svsm->aproxy" {
		opens(t, r, i, conn, heard)
		return
	}
	conn.(*net.UnixConn).CloseWrite()
	rest, err := io.ReadAll(conn)
	if len(frames) > 1 && len(rest) > 8 {
		rest = rest[8:]
	}
	if want := map[bool]string{true: refusal}[len(frames) > 1]; err != nil || string(rest) != want {
		t.Errorf("heard %q, %v; want %q", rest, err, want)
	}
}

// opens opens what the guest heard last with its recorded key, if it is a success.
// Where aproxy rewrote the header of the JWE, so that the guest could not open it,
// the proxy does not.
func opens(t *testing.T, r recording, i int, conn net.Conn, heard []byte) {
	t.Helper()
	conn.(*net.UnixConn).CloseWrite()
	more, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	_, last, ok := bytes.Cut(append(heard, more...), []byte(`{"success":`))
	if !ok {
		t.Fatal("no answer")
	}
	last = append([]byte(`{"success":`), last...)
	if string(last) == refusal {
		return
	}
	opener, err := keywrap.FromECDH(keywrap.JWEP521, p521(t, r.Keys[min(i, len(r.Keys)-1)].PEM))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := svsm.OpenAnswer(t.Context(), last, opener)
	if err != nil || string(secret) != "vTPM state key 0123456789abcdef!" {
		t.Errorf("secret %q, %v", secret, err)
	}
}

// The forms of base64 that the recordings have are the forms that are taken.
func TestRecordedKeyHasLeadingZeros(t *testing.T) {
	r := recordings(t)["aproxy_success_leading_zeros"]
	b := r.guests(t)[0][2].Raw
	_, x, _ := strings.Cut(string(b), `"key":{"x":"`)
	raw, err := base64.StdEncoding.DecodeString(x[:88])
	if err != nil || raw[0] != 0 || raw[1] != 0 {
		t.Errorf("x is %x, %v", raw, err)
	}
}
