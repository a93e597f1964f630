package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/google/go-tpm/tpm2/transport"
)

// Sizes of commands: TPM 2.0 Part 1, section 18, and what TPMs take at most.
const (
	commandHeader = 10
	maxCommand    = 4096
)

// serveTPM passes commands that come in at a Unix socket, which nobody else may open,
// to t, as swtpm does, until the process is told to end. Once they can, it calls ready.
func serveTPM(path string, t transport.TPM, ready func() error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("-tpm: %w", err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("-tpm: %w", err)
	}
	if err := ready(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("-tpm: %w", err)
		}
		// One after the other: a TPM has one owner at a time, who is done when he hangs up.
		hangUp := context.AfterFunc(ctx, func() { _ = c.Close() })
		err = passCommands(c, t)
		hangUp()
		_ = c.Close() // nothing is left to say
		if errors.As(err, new(*tpmError)) {
			return err
		}
	}
}

// tpmError is an error of the TPM, and not of who speaks to it.
type tpmError struct{ error }

func (e *tpmError) Unwrap() error { return e.error }

// passCommands passes the commands of one client to t until it hangs up, or sends
// what is no command.
func passCommands(c io.ReadWriter, t transport.TPM) error {
	for {
		var header [commandHeader]byte
		if _, err := io.ReadFull(c, header[:]); err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(header[2:])
		if size < commandHeader || size > maxCommand {
			return errors.New("not a command")
		}
		command := make([]byte, size)
		copy(command, header[:])
		if _, err := io.ReadFull(c, command[commandHeader:]); err != nil {
			return err
		}
		response, err := t.Send(command)
		if err != nil {
			return &tpmError{err}
		}
		if _, err := c.Write(response); err != nil {
			return err
		}
	}
}
