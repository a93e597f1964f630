//go:build !linux

package svsmproxy

import (
	"errors"
	"net"
)

func listenVsock(uint32) (net.Listener, error) { return nil, errors.New("vsock: only on Linux") }
