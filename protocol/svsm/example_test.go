package svsm_test

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/teebroker/teebroker/protocol/svsm"
)

// A proxy on the host takes a guest, here an emulated one, to a broker.
func ExampleProxy_Serve() {
	broker := httptest.NewServer(newKBS([]byte("the vTPM state key of this guest")))
	defer broker.Close()

	proxy, err := svsm.NewProxy(svsm.ProxyConfig{Broker: broker.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("unix", filepath.Join(dir, "svsm"))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error)
	go func() { ended <- proxy.Serve(ctx, listener) }()

	conn, err := net.Dial("unix", filepath.Join(dir, "svsm"))
	if err != nil {
		fmt.Println(err)
		return
	}
	secret, err := guest(0).Attest(ctx, conn)
	fmt.Println(string(secret), err)
	conn.Close()

	cancel()
	fmt.Println(<-ended)
	// Output:
	// the vTPM state key of this guest <nil>
	// <nil>
}
