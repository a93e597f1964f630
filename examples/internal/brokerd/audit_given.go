package brokerd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/store/checkpoint"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// maxReceipts is the most bytes of a file of receipts.
const maxReceipts = 64 << 20

// givenCheckpoints reads what was kept of the broker with this id. A directory is one
// that broker serve or owner record kept it in, or one of files that end in .jws; a
// file is one of these.
func givenCheckpoints(paths []string, broker [32]byte) ([]sqlstore.Given, error) {
	var all []sqlstore.Given
	for _, path := range paths {
		files, err := filesOf(path, func(name string) bool {
			return name == filepath.Base(checkpoint.In(path, broker).Path()) || strings.HasSuffix(name, ".jws")
		})
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			b, err := cli.ReadFile(file, checkpoint.MaxFile)
			if err != nil {
				return nil, err
			}
			if !strings.HasPrefix(string(b), "{") {
				all = append(all, tokensOf(file, b)...)
				continue
			}
			set, err := checkpoint.Parse(b, broker)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			for _, c := range set.Sorted() {
				all = append(all, sqlstore.Given{From: file, Token: c.Token})
			}
		}
	}
	return all, nil
}

// givenReceipts reads receipts: of a directory, all its files.
func givenReceipts(paths []string) ([]sqlstore.Given, error) {
	var all []sqlstore.Given
	for _, path := range paths {
		files, err := filesOf(path, func(name string) bool { return !strings.HasPrefix(name, ".") })
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			b, err := cli.ReadFile(file, maxReceipts)
			if err != nil {
				return nil, err
			}
			all = append(all, tokensOf(file, b)...)
		}
	}
	return all, nil
}

// filesOf returns the files in a directory that are wanted, of which there has to be
// one, or path itself if it is a file.
func filesOf(path string, want func(name string) bool) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if e.Type().IsRegular() && want(e.Name()) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: nothing there that could be meant", path)
	}
	return files, nil
}

// tokensOf returns the compact JWS in a file, one on a line.
func tokensOf(file string, b []byte) []sqlstore.Given {
	var all []sqlstore.Given
	for token := range strings.FieldsSeq(string(b)) {
		all = append(all, sqlstore.Given{From: file, Token: []byte(token)})
	}
	if len(all) == 0 {
		return []sqlstore.Given{{From: file}} // which nobody signed
	}
	return all
}
