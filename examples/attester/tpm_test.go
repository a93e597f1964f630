package main

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// echo is a TPM that answers with what it was asked.
type echo struct {
	asked int
	err   error
}

func (e *echo) Send(b []byte) ([]byte, error) {
	e.asked++
	return b, e.err
}

// What is no command never gets to the TPM, and ends the client only.
func TestPassCommands(t *testing.T) {
	command := []byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7a, 1, 2}
	for name, tt := range map[string]struct {
		in     []byte
		passed int
		tpm    error
		want   error // or nil for any
	}{
		"two":                {append(bytes.Clone(command), command...), 2, nil, io.EOF},
		"cut in the header":  {command[:9], 0, nil, io.ErrUnexpectedEOF},
		"cut":                {command[:11], 0, nil, io.ErrUnexpectedEOF},
		"less than a header": {[]byte{0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0}, 0, nil, nil},
		"too much":           {[]byte{0x80, 1, 0, 0, 0x10, 1, 0, 0, 0, 0}, 0, nil, nil},
		"much too much":      {[]byte{0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, 0, nil, nil},
		"a TPM that ended":   {command, 1, io.ErrClosedPipe, io.ErrClosedPipe},
	} {
		var out bytes.Buffer
		tpm := &echo{err: tt.tpm}
		err := passCommands(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(tt.in), &out}, tpm)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || tpm.asked != tt.passed || errors.As(err, new(*tpmError)) != (tt.tpm != nil) {
			t.Errorf("%s: %v, %d passed", name, err, tpm.asked)
		}
		if tt.tpm == nil && out.Len() != tt.passed*len(command) {
			t.Errorf("%s: answered %x", name, out.Bytes())
		}
	}
}
