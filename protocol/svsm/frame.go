package svsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxFrame is the most bytes that the JSON of one message may have, 1 MiB. A
// longer one is refused before anything is allocated for it.
const MaxFrame = 1 << 20

// maxAnswer bounds the message that has the secret: text in a JWE in base64 of a
// reply of maxReply, and the same of the token.
const maxAnswer = 4 * maxReply

// ErrMalformed is wrapped by every error about a message that is not as the
// protocol has it, of the other side of the stream or of the broker.
var ErrMalformed = errors.New("svsm: malformed message")

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, a...))
}

// readFrame reads one message of at most limit bytes. At the end of the stream
// before the first byte the error is [io.EOF].
func readFrame(r io.Reader, limit uint64) ([]byte, error) {
	var prefix [8]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n == 0 || n > limit {
		return nil, malformed("length of a frame is %d, at most %d", n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, unexpected(err)
	}
	return b, nil
}

// unexpected returns err for a stream that may not end here.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// writeFrame writes one message, with its length, in one call.
func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(b)), uint64(len(b))), b...))
	return err
}
