//go:build !unix

package swtpm

import (
	"errors"
	"os"
)

func pair() (conn, *os.File, error) {
	return nil, nil, errors.New("no sockets without a name on this system")
}
