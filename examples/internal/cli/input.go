package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// ErrTooLarge is wrapped by [ReadFile] for a file beyond the limit.
var ErrTooLarge = errors.New("file is too large")

// ReadFile returns the content of a file of at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", path, ErrTooLarge, limit)
	}
	return b, nil
}

// StateDir returns where the programs keep what they have to remember of this user.
// It need not be there.
func StateDir() (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) { // as the XDG specification says
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no state directory: %w: set XDG_STATE_HOME", err)
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "teebroker"), nil
}

// ReadBrokerID returns the broker id in a file: 32 bytes in base64url.
func ReadBrokerID(path string) ([32]byte, error) {
	b, err := ReadFile(path, 4<<10)
	if err != nil {
		return [32]byte{}, err
	}
	id, err := strictjson.ParseBase64(strings.TrimSpace(string(b)))
	if err != nil || len(id) != 32 {
		return [32]byte{}, fmt.Errorf("%s: not a broker id", path)
	}
	return [32]byte(id), nil
}

// WriteFile replaces a file at once: nobody sees half of it.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // is gone if it was renamed
	return os.Rename(tmp, path)
}

// CreateFile makes a file at once, and only if there is none: of several
// processes one succeeds, the others get an error wrapping [os.ErrExist].
func CreateFile(path string, data []byte, mode os.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	return os.Link(tmp, path)
}

// writeTemp writes data durably to a new file beside path and returns its name.
func writeTemp(path string, data []byte, mode os.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// List is a flag of names separated by commas. Given again, it adds to them.
type List []string

// String implements [flag.Value].
func (l *List) String() string { return strings.Join(*l, ",") }

// Set implements [flag.Value].
func (l *List) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		if name == "" {
			return errors.New("empty name in a list")
		}
		*l = append(*l, name)
	}
	return nil
}
