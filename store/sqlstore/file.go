package sqlstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// PrivateFile makes an empty file for SQLite that only its owner reads and
// writes, mode 0600, if there is none, and otherwise refuses one that others may
// read or write, and what is no regular file. SQLite gives the files that it makes
// beside it the same mode.
func PrivateFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("sqlstore: %w", err)
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return fmt.Errorf("sqlstore: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("sqlstore: %s is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("sqlstore: others may use %s: its mode is %#o, want 0600", path, info.Mode().Perm())
	}
	return nil
}
