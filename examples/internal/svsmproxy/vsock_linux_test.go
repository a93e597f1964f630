package svsmproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/teebroker/teebroker/protocol/svsm"
)

// A port of vsock can be listened on, and a listener that is closed says so also to
// who waits. Whoever runs this has no guest to call.
func TestVsock(t *testing.T) {
	l, err := listenVsock(unix.VMADDR_PORT_ANY)
	if errors.Is(err, unix.EAFNOSUPPORT) && os.Getenv("CI") == "" {
		t.Skip("SKIPPED, NOT PASSED: this kernel has no vsock")
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}

// otherwise returns a vsockListener on a unix socket at path: the kernel here may have
// no vsock to itself, and all but the name of a peer is the same.
func otherwise(t *testing.T, path string) *vsockListener {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	return &vsockListener{os.NewFile(uintptr(fd), "vsock"), vsockAddr{unix.VMADDR_CID_ANY, 1}}
}

func TestVsockAccepts(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(broker))
	defer s.Close()
	p, err := svsm.NewProxy(svsm.ProxyConfig{Broker: s.URL + "/acme"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l := otherwise(t, path)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Serve(ctx, l) }()
	for range 2 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if got := challenged(t, conn); got != challenge {
			t.Errorf("heard %q", got)
		}
		conn.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Deadlines, which the proxy relies on, work on these connections.
func TestVsockDeadline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := otherwise(t, path)
	defer l.Close()
	peer, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
	if conn.LocalAddr().String() != "port 1" || conn.RemoteAddr().Network() != "vsock" || (vsockAddr{3, 4}).String() != "3:4" {
		t.Errorf("%v, %v", conn.LocalAddr(), conn.RemoteAddr())
	}
}
