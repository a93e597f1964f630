package collateral

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Limits of a directory of a Cache.
const (
	maxInFolder = 1024      // files that are looked at in one of 256 folders
	maxVEKFiles = 256       // files in a folder beside which a VEK is still written
	maxOfName   = 32        // files that are looked at for one name
	maxInAll    = 256 << 20 // bytes that are read when a Cache is made
	tempPrefix  = ".new-"
	tempAge     = time.Hour // after which an unfinished file is of nobody who is alive
)

// directory has the files of a Cache: one for each piece of collateral, called after
// what is in it, in a folder called after its name. So nothing is ever written over,
// and processes that share it need no lock: what is there is what all of them
// wrote, and the newest of it counts.
//
// Whoever can write to it can delete from it, and nothing worse: what is read is
// verified as an answer of upstream is, and names inside of files are only compared.
type directory struct{ root *os.Root }

func openDirectory(path string) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &directory{root}, nil
}

// list returns the names of the files in folder that start with prefix, sorted: none
// if there is no such folder.
func (d *directory) list(folder, prefix string, limit int) ([]string, error) {
	if info, err := d.root.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil || !info.IsDir() {
		return nil, errors.Join(errors.New("not a folder"), err)
	}
	f, err := d.root.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.ReadDir(maxInFolder)
	if err != nil && err != io.EOF {
		return nil, err
	}
	var names []string
	for _, x := range all {
		if x.Type().IsRegular() && strings.HasPrefix(x.Name(), prefix) && len(names) < limit {
			names = append(names, x.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// read returns the content of a file, which must be a regular one.
func (d *directory) read(name string) ([]byte, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait
	if err != nil {
		return nil, err
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return nil, fmt.Errorf("%s: not a file of at most %d bytes", name, maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// write puts b under name in folder, at once and durably. Nobody sees half of it.
func (d *directory) write(folder, name string, b []byte) error {
	to := path.Join(folder, name)
	if old, err := d.read(to); err == nil && bytes.Equal(old, b) {
		return nil
	}
	if err := d.root.Mkdir(folder, 0o700); err == nil {
		if err := d.sync("."); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	temp := path.Join(folder, tempPrefix+rand.Text())
	if err := d.writeTemp(temp, b); err != nil {
		return errors.Join(err, d.remove(temp))
	}
	if err := d.root.Rename(temp, to); err != nil {
		return errors.Join(err, d.remove(temp))
	}
	return d.sync(folder)
}

func (d *directory) writeTemp(name string, b []byte) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// sync makes the names in folder durable.
func (d *directory) sync(folder string) error {
	f, err := d.root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *directory) remove(name string) error {
	if err := d.root.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// clean removes what writers that died left unfinished in folder.
func (d *directory) clean(folder string, now time.Time) error {
	temps, err := d.list(folder, tempPrefix, maxInFolder)
	failed := []error{err}
	for _, name := range temps {
		name = path.Join(folder, name)
		if info, err := d.root.Lstat(name); err == nil && now.Sub(info.ModTime()) > tempAge {
			failed = append(failed, d.remove(name))
		}
	}
	return errors.Join(failed...)
}
