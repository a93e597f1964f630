package keyfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Read reads the key file at path. It is refused if it is not a regular file or
// if anybody but its owner may read or write it.
func Read(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	defer r.Close()
	info, err := r.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("keyfile: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a file", ErrFile, path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%w: %s has mode %04o, want 0600", ErrFile, path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	defer clear(b)
	if err != nil {
		return nil, fmt.Errorf("keyfile: %w", err)
	}
	return Parse(b)
}

// Create writes f to path, where there must be nothing yet: the error is
// [os.ErrExist] otherwise. The file is durable when Create returns.
func (f *File) Create(path string) error { return f.write(path, os.Link) }

// Replace writes f to path in place of what is there. Who reads meanwhile finds
// the old file or the new one, whole. The file is durable when Replace returns.
func (f *File) Replace(path string) error { return f.write(path, os.Rename) }

// write writes f beside path and has put place it there.
func (f *File) write(path string, put func(from, to string) error) (err error) {
	b, err := f.encode()
	if err != nil {
		return err
	}
	defer clear(b)
	dir := filepath.Dir(path)
	t, err := os.CreateTemp(dir, ".keys-*") // with mode 0600
	if err != nil {
		return fmt.Errorf("keyfile: %w", err)
	}
	defer os.Remove(t.Name()) // which fails if it was renamed
	_, err = t.Write(b)
	if err = errors.Join(err, t.Sync(), t.Close()); err == nil {
		err = put(t.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("keyfile: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
