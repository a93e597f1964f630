package svsmproxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/teebroker/teebroker/protocol/svsm"
)

var _ svsm.Peer = vsockAddr{}

// listenVsock listens on a port of vsock, on every context id of the machine.
func listenVsock(port uint32) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("vsock: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("vsock: bind: %w", err)
	}
	if err := unix.Listen(fd, 64); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("vsock: listen: %w", err)
	}
	// Package os waits for descriptors that don't block as package net does, which
	// knows no vsock.
	return &vsockListener{os.NewFile(uintptr(fd), "vsock"), vsockAddr{unix.VMADDR_CID_ANY, port}}, nil
}

// vsockListener implements [net.Listener].
type vsockListener struct {
	file *os.File
	addr vsockAddr
}

func (l *vsockListener) Accept() (net.Conn, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, closed(err)
	}
	var fd int
	var peer unix.Sockaddr
	var failed error
	err = raw.Read(func(listener uintptr) bool {
		fd, peer, failed = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return !errors.Is(failed, syscall.EAGAIN)
	})
	if err != nil {
		return nil, closed(err)
	}
	if failed != nil {
		return nil, fmt.Errorf("vsock: accept: %w", failed)
	}
	c := &vsockConn{File: os.NewFile(uintptr(fd), "vsock"), local: l.addr}
	if vm, ok := peer.(*unix.SockaddrVM); ok {
		c.remote = vsockAddr{vm.CID, vm.Port}
	}
	return c, nil
}

// closed returns err, of a wait that nothing but Close ends, as a listener of
// package net would. (Package os has another error for it, which can't be matched.)
func closed(err error) error { return fmt.Errorf("vsock: %w: %w", net.ErrClosed, err) }

func (l *vsockListener) Close() error   { return l.file.Close() }
func (l *vsockListener) Addr() net.Addr { return l.addr }

// vsockConn implements [net.Conn].
type vsockConn struct {
	*os.File
	local, remote vsockAddr
}

func (c *vsockConn) LocalAddr() net.Addr  { return c.local }
func (c *vsockConn) RemoteAddr() net.Addr { return c.remote }

type vsockAddr struct{ cid, port uint32 }

func (vsockAddr) Network() string { return "vsock" }

// Peer implements [svsm.Peer]: a guest is its context id, which the host gave it.
func (a vsockAddr) Peer() string { return strconv.FormatUint(uint64(a.cid), 10) }

func (a vsockAddr) String() string {
	if a.cid == unix.VMADDR_CID_ANY {
		return fmt.Sprintf("port %d", a.port)
	}
	return fmt.Sprintf("%d:%d", a.cid, a.port)
}
