// Package swtpm runs the program swtpm, a TPM 2.0 of software, over a socket that
// has no name: nobody else can speak to it, and it ends with who started it.
package swtpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"
)

// KeySize is the size in bytes of the key that a state is encrypted with.
const KeySize = 32

// StateFile is the file in the directory of a TPM that has its seeds, persistent
// objects and NV indices. There is no other that a TPM needs to start.
const StateFile = "tpm2-00.permall"

const (
	// headerSize is the size of the header of commands and responses: tag(2),
	// size(4) and code(4), TPM 2.0 Part 1, section 18.
	headerSize = 10

	// maxResponse bounds what is read of a response; TPMs have 4096 bytes.
	maxResponse = 64 << 10

	// patience is for a command, of which making an RSA key is the longest.
	patience = time.Minute

	// rcRetry is TPM_RC_RETRY: TPM 2.0 Part 2, section 6.6.3.
	rcRetry = 0x922
	retries = 8

	// farewell is how long a TPM that is told to end may take to write its state.
	farewell = 10 * time.Second
)

// Process is a swtpm that runs until it is closed. Send is safe for concurrent use.
type Process struct {
	mu   sync.Mutex
	conn conn
	cmd  *exec.Cmd
	done chan struct{}
}

type conn interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
}

// Start starts the program swtpm, which is in PATH, with its state in dir, where it
// makes a new one if there is none. Its files there are encrypted with key, which
// swtpm reads from a pipe; with no key they are not. Of a program that is not there the error
// wraps exec.ErrNotFound.
func Start(dir string, key []byte) (*Process, error) {
	program, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	if len(key) != 0 && len(key) != KeySize {
		return nil, fmt.Errorf("swtpm: a key of %d bytes", len(key))
	}
	ours, theirs, err := pair()
	if err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir+",mode=0600",
		"--fd", "3", "--flags", "not-need-init,startup-clear")
	cmd.ExtraFiles = []*os.File{theirs}
	err = start(cmd, key)
	if err := errors.Join(err, theirs.Close()); err != nil { // its end is then the program's alone
		return nil, errors.Join(fmt.Errorf("swtpm: %w", err), ours.Close())
	}
	p := &Process{conn: ours, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is seen by who speaks to it
		close(p.done)
	}()
	// TPM2_GetCapability of nothing: that it answers shows that it read its state.
	if _, err := p.Send([]byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 1}); err != nil {
		return nil, errors.Join(fmt.Errorf("swtpm: does not start with this state: %w", err), p.Close())
	}
	return p, nil
}

// start starts cmd, and passes it key through a pipe.
func start(cmd *exec.Cmd, key []byte) error {
	if len(key) == 0 {
		return cmd.Start()
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = w.Write(key) // a pipe holds more than this
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, r)
	cmd.Args = append(cmd.Args, "--key", "fd=4,mode=aes-256-cbc,format=binary,remove=false")
	return cmd.Start()
}

// Send sends one command and returns its response, both with their headers, as
// transport.TPM of go-tpm has it. A TPM that did not start with a command, and says so
// with TPM_RC_RETRY, is sent it again, as drivers do.
func (p *Process) Send(command []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for try := 0; ; try++ {
		response, err := p.send(command)
		if err != nil || try == retries || binary.BigEndian.Uint32(response[6:]) != rcRetry {
			return response, err
		}
		time.Sleep(time.Millisecond << try)
	}
}

func (p *Process) send(command []byte) ([]byte, error) {
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	if _, err := p.conn.Write(command); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	var header [headerSize]byte
	if _, err := io.ReadFull(p.conn, header[:]); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < headerSize || size > maxResponse {
		return nil, fmt.Errorf("swtpm: a response of %d bytes", size)
	}
	response := make([]byte, size)
	copy(response, header[:])
	if _, err := io.ReadFull(p.conn, response[headerSize:]); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	return response, nil
}

// Close ends the TPM without a TPM2_Shutdown, and returns when its state is
// written. It may be called again.
func (p *Process) Close() error {
	err := p.conn.Close() // which tells swtpm to end
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	t := time.NewTimer(farewell)
	defer t.Stop()
	select {
	case <-p.done:
		return err
	case <-t.C:
		kill := p.cmd.Process.Kill()
		<-p.done
		return errors.Join(err, kill, errors.New("swtpm: did not end by itself"))
	}
}
