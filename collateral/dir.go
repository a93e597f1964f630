package collateral

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
)

// Limits of what [Dir] reads.
const (
	maxFile  = 4 << 20  // bytes of a file
	maxTotal = 64 << 20 // bytes of all files
	maxFiles = 1 << 14  // files and folders
	maxDepth = 8        // folders in folders
)

// Files is a Source of files that [Dir] read. It is immutable and safe for
// concurrent use. The zero Files has nothing.
type Files struct {
	found Fixed
	files []file
}

// Fixed returns all that f has, for example for [Contents]. It must not be modified.
func (f *Files) Fixed() Fixed { return f.found }

// file is a file that was met, and what it is good for.
type file struct {
	path  string
	names []string
}

// Dir returns a Source of the files under paths, folders or files. It sorts them
// by what they hold, whatever they are called:
//
//   - certificates of VCEKs and VLEKs of SEV-SNP, and lists that an ARK issued, in
//     DER or, any number in a file, in PEM. An ARK signs all CAs of its line, so
//     its list answers to both names of the line;
//   - certificate tables of SEV-SNP, for the VCEK and VLEK in them. A list in a
//     table came with evidence and is never taken;
//   - TCB Info of TDX and identities of its quoting enclave, as Intel publishes
//     them, with the chain that signed them wherever under paths it is: in PEM, or
//     escaped as in the headers of a PCS or PCCS. Such chains answer to no name;
//   - lists of Intel's root and of its PCK CAs in DER, PEM or hexadecimal;
//   - files of the directory of a [Cache].
//
// Anything else is ignored, as [Files.All] tells. So are other CA certificates,
// because trust anchors never come from a Source, and in folders symbolic links,
// what is no regular file, and files of more than 4 MiB.
//
// It is an error if paths can't be read, all of them, or have more than 16,384 files
// and folders, 64 MiB, folders nested more than 8 deep, or 64 certificates of
// issuers. Files are read once: to
// see what changed since, call Dir again.
func Dir(paths ...string) (*Files, error) {
	r := reader{found: found{named: map[string][]candidate{}}}
	for _, path := range paths {
		if err := r.read(path); err != nil {
			return nil, fmt.Errorf("collateral: %w", err)
		}
	}
	sorted, err := r.found.sorted()
	if err != nil {
		return nil, fmt.Errorf("collateral: %w", err)
	}
	return &Files{sorted, r.files}, nil
}

// Get implements [evidence.Source]. Of several candidates the one issued last is
// first. What it returns shares memory with f and must not be modified.
func (f *Files) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	return f.found.Get(ctx, name)
}

// All yields the path of each file that Dir met, and the names it answers to,
// sorted: none if it was ignored.
func (f *Files) All() iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for _, x := range f.files {
			if !yield(x.path, slices.Clone(x.names)) {
				return
			}
		}
	}
}

// reader is what Dir has read so far.
type reader struct {
	found found
	files []file
	met   int
	total int
}

func (r *reader) read(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return r.folder(path)
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return fmt.Errorf("%s: not a folder, and not a file of at most %d bytes", path, maxFile)
	}
	return r.file(path, func() (fs.File, error) { return os.Open(path) })
}

// folder reads what is under path. The path that was asked for may be a link, but
// none below it leads anywhere, also if it is put there meanwhile.
func (r *reader) folder(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	files := root.FS()
	return fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if r.met++; r.met > maxFiles {
			return fmt.Errorf("%s: more than %d files and folders", path, maxFiles)
		}
		full := filepath.Join(path, filepath.FromSlash(name))
		switch {
		case d.IsDir() && strings.Count(name, "/") >= maxDepth:
			return fmt.Errorf("%s: nested too deeply", full)
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			r.files = append(r.files, file{path: full})
			return nil
		}
		return r.file(full, func() (fs.File, error) { return files.Open(name) })
	})
}

// errTotal is the error of more than maxTotal bytes.
var errTotal = errors.New("more than 64 MiB of files")

// file reads the file that open opens.
func (r *reader) file(path string, open func() (fs.File, error)) error {
	f, err := open()
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	x := file{path: path}
	if info.Mode().IsRegular() && info.Size() <= maxFile {
		b, err := io.ReadAll(io.LimitReader(f, maxFile))
		if err != nil {
			return err
		}
		if r.total += len(b); r.total > maxTotal {
			return errTotal
		}
		x.names = r.found.add(b)
	}
	r.files = append(r.files, x)
	return nil
}
