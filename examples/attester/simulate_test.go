package main

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/snp"
)

// Everyone who comes at once, and after, gets the same platform.
func TestReadOrCreateOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "platform")
	got := make([][]byte, 16)
	var ready, done sync.WaitGroup
	ready.Add(len(got))
	for i := range got {
		done.Go(func() {
			b, err := readOrCreate(path, func() []byte {
				ready.Done()
				ready.Wait() // all have found that there is none
				return bytes.Repeat([]byte{byte(i)}, 4096)
			})
			if err != nil {
				t.Error(err)
			}
			got[i] = b
		})
	}
	done.Wait()
	for _, b := range got {
		if len(b) != 4096 || !bytes.Equal(b, got[0]) {
			t.Fatal("two processes have different platforms")
		}
	}
}

func TestPlatformIsPrivate(t *testing.T) {
	dir := simulated(t)
	must(t, "show", "-simulate", dir)
	for path, mode := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, platformFile(dir, snp.Turin): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, mode)
		}
	}
}

// A platform that was changed is an error, never quietly another platform.
func TestPlatformChanged(t *testing.T) {
	dir := simulated(t)
	must(t, "show", "-simulate", dir, "-product", "Turin")
	must(t, "show", "-simulate", dir, "-product", "Milan")
	turin, milan := read(t, platformFile(dir, snp.Turin)), read(t, platformFile(dir, snp.Milan))
	_, vendor := pem.Decode(turin)
	_, vendorMilan := pem.Decode(milan)
	chip := turin[:len(turin)-len(vendor)]
	milanFirst := append(bytes.Clone(milan), vendor...)
	for _, test := range []struct {
		name    string
		line    snp.Line
		content []byte
	}{
		{"empty", snp.Turin, nil},
		{"chip alone", snp.Turin, chip},
		{"vendor alone", snp.Turin, vendor},
		{"truncated", snp.Turin, turin[:len(turin)-100]},
		{"of another line", snp.Turin, milan},
		{"of two lines", snp.Turin, append(bytes.Clone(turin), vendorMilan...)},
		{"of two lines, its own first", snp.Milan, milanFirst},
		{"chip of another", snp.Turin, append(bytes.Clone(milan[:len(milan)-len(vendorMilan)]), vendor...)},
		{"twice", snp.Turin, append(bytes.Clone(turin), turin...)},
		{"something else", snp.Turin, []byte("no platform")},
		{"beyond every limit", snp.Turin, bytes.Repeat([]byte{'\n'}, maxPlatform+1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := platformFile(dir, test.line)
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if status, _, _ := try("show", "-simulate", dir, "-product", test.line.String()); status != 2 {
				t.Errorf("status %d", status)
			}
			if !bytes.Equal(read(t, path), test.content) {
				t.Error("the file was changed")
			}
		})
	}
}
