package svsmproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/protocol/svsm"
)

// broker refuses everybody after a challenge.
func broker(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/acme/kbs/v0/auth" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, `{"nonce":"04sxM58dm6gbNmPPA48MmsJD+qQFV9BqQrtjH5/j3Fs=","extra-params":""}`)
}

// challenged says hello on conn and returns what it hears.
func challenged(t *testing.T, conn io.ReadWriter) string {
	t.Helper()
	hello := `{"version":[0,1,0],"tee":"snp"}`
	if _, err := conn.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(hello))), hello...)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 110)
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	return string(b[8:])
}

const challenge = `{"challenge":"04sxM58dm6gbNmPPA48MmsJD+qQFV9BqQrtjH5/j3Fs=","params":["EcPublicKeyBytes","Challenge"]}`

// written is where run says that it listens.
type written chan string

func (w written) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

func TestUnixOverTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(broker))
	defer s.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "svsm")
	for range 2 { // the second time in place of a socket that is left over
		c := config{unix: path, ca: ca, proxy: svsm.ProxyConfig{Broker: s.URL + "/acme"}}
		ctx, cancel := context.WithCancel(context.Background())
		w, ended := make(written, 1), make(chan error)
		go func() { ended <- c.run(ctx, w) }()
		if got := <-w; got != "listening on unix "+path+"\n" {
			t.Errorf("said %q", got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v", info, err)
		}
		if _, err := listenUnix(path); err == nil {
			t.Error("a socket that is in use was taken")
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if got := challenged(t, conn); got != challenge {
			t.Errorf("heard %q", got)
		}
		conn.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		leaveSocket(t, path)
	}
}

// leaveSocket makes a socket that nobody listens on.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"-broker http://127.0.0.1:1", "-broker http://127.0.0.1:1 -unix a -vsock 1", "-unix a", "-broker ftp://a -unix a", "-broker http://a.example -unix a",
		"-broker http://127.0.0.1:1 -unix a more", "-broker https://a.example -unix a -ca " + file, "-broker https://a.example -unix a -tls-cert " + file,
		"-broker http://127.0.0.1:1 -vsock 4294967295", "-broker http://127.0.0.1:1 -unix " + file, "-broker http://127.0.0.1:1 -timeout -1s -unix a",
	} {
		var stdout, stderr bytes.Buffer
		if status := Command("broker svsm-proxy").Main(strings.Fields(args), &stdout, &stderr); status != 2 || stderr.Len() == 0 {
			t.Errorf("%s: status %d, %s", args, status, &stderr)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "no certificate" {
		t.Error("a file that is no socket was replaced")
	}
}
