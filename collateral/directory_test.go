package collateral_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// kept returns the paths of the files in the directory of a Cache.
func kept(t testing.TB, dir string) (paths []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return paths
}

// Whatever is wrong with a file, it is ignored and reported, others are used, and
// what is missing is asked for and written again.
func TestCacheBadFiles(t *testing.T) {
	outside := write(t, map[string][]byte{"secret": []byte("secret")})
	for name, spoil := range map[string]func(path string) error{
		"cut in half":  func(p string) error { return os.Truncate(p, 500) },
		"empty":        func(p string) error { return os.Truncate(p, 0) },
		"too large":    func(p string) error { return os.Truncate(p, 5<<20) },
		"rubbish":      func(p string) error { return os.WriteFile(p, []byte("rubbish"), 0o600) },
		"gone":         os.Remove,
		"of another":   func(p string) error { return replace(p, `"name":"/vcek`, `"name":"/vlek`) },
		"another kind": func(p string) error { return replace(p, `teebroker/1`, `teebroker/2`) },
		"one byte":     func(p string) error { return replace(p, `"data":"MII`, `"data":"MIJ`) },
		"link outside": func(p string) error {
			return errors.Join(os.Remove(p), os.Symlink(filepath.Join(outside, "secret"), p))
		},
		"link to itself": func(p string) error { return errors.Join(os.Remove(p), os.Symlink(filepath.Base(p), p)) },
		"folder":         func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
		"pipe":           func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) },
		"shard a file": func(p string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(p)), os.WriteFile(filepath.Dir(p), nil, 0o600))
		},
		"shard a link": func(p string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(p)), os.Symlink(outside, filepath.Dir(p)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, c, dir := newVendor(), &clock{now}, t.TempDir()
			v.set(milanCRL, amdList(now, 30))
			gets(t, cacheOf(t, v, c, dir), milanCRL, v.has[milanCRL][0].Data)
			paths := kept(t, dir)
			if len(paths) != 1 {
				t.Fatal(paths)
			}
			if err := spoil(paths[0]); err != nil {
				t.Fatal(err)
			}
			r := &reports{}
			cache := cacheOf(t, v, c, dir, func(cfg *collateral.CacheConfig) { cfg.Report = r.add })
			if s := cache.Stats(); s.Entries != 0 {
				t.Errorf("used: %+v", s)
			}
			before := v.total()
			gets(t, cache, milanCRL, v.has[milanCRL][0].Data)
			if v.total() != before+1 {
				t.Error("upstream was not asked")
			}
			if b, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(b) != "secret" {
				t.Errorf("outside of the directory: %q, %v", b, err)
			}
			switch name {
			case "gone", "link outside", "link to itself", "folder", "pipe": // not regular, so not there
			default:
				if r.text() == "" || cache.Stats().DirErrors == 0 {
					t.Error("nobody was told")
				}
			}
			v.down = errDown
			again := cacheOf(t, v, c, dir)
			if name == "folder" || strings.HasPrefix(name, "shard") { // in the way for ever
				refuses(t, again, milanCRL, errDown)
				return
			}
			gets(t, again, milanCRL, v.has[milanCRL][0].Data)
		})
	}
}

func replace(path, old, with string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(b), old) {
		return fmt.Errorf("no %s", old)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(b), old, with, 1)), 0o600)
}

// A file that says a number is not believed: only what is signed raises the floor.
func TestCacheForgedFloor(t *testing.T) {
	v, c, dir := newVendor(), &clock{now}, t.TempDir()
	v.set(qeName, identity(intel(), 18, now))
	gets(t, cacheOf(t, v, c, dir), qeName, v.has[qeName][0].Data)
	floors, err := os.ReadDir(filepath.Join(dir, "floor"))
	if err != nil || len(floors) != 1 {
		t.Fatal(floors, err)
	}
	forged := newVendor()
	stranger := simulatedIntel()
	forged.set(qeName, identity(stranger, 4000000000, now))
	elsewhere := t.TempDir()
	other := cacheOf(t, forged, c, elsewhere, func(cfg *collateral.CacheConfig) { cfg.Intel = stranger.Anchors() })
	gets(t, other, qeName, forged.has[qeName][0].Data)
	for _, path := range kept(t, elsewhere) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(elsewhere, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, rel), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cache := cacheOf(t, v, c, dir)
	if n := cache.Stats().EvaluationDataNumber; n != 18 {
		t.Errorf("the floor is %d", n)
	}
	gets(t, cache, qeName, v.has[qeName][0].Data)
}

// What a writer that died left behind is never read, and removed when it is old.
func TestCacheLeftovers(t *testing.T) {
	v, c, dir := newVendor(), &clock{now}, t.TempDir()
	v.set(milanCRL, amdList(now, 30))
	gets(t, cacheOf(t, v, c, dir), milanCRL, v.has[milanCRL][0].Data)
	whole := kept(t, dir)[0]
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	shard, _ := filepath.Rel(dir, filepath.Dir(whole))
	if err := os.Mkdir(filepath.Join(dir, "floor"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{
		shard + "/.new-old": 2 * time.Hour, shard + "/.new-young": 0, "floor/.new-old": 2 * time.Hour, "floor/.new-young": 0,
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, b[:len(b)/2], 0o600), os.Chtimes(path, time.Time{}, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	r := &reports{}
	cache := cacheOf(t, v, c, dir, func(cfg *collateral.CacheConfig) { cfg.Report = r.add })
	gets(t, cache, milanCRL, v.has[milanCRL][0].Data)
	if r.text() != "<nil>" || len(kept(t, dir)) != 3 {
		t.Errorf("%s, %v", r.text(), kept(t, dir))
	}
}

// A directory that can't be written is read, and the rest is in memory.
func TestCacheReadOnly(t *testing.T) {
	v, c, dir := newVendor(), &clock{now}, t.TempDir()
	v.set(milanCRL, amdList(now, 30))
	v.set(rootName, intelList(tdxtest.Root, now, 30))
	gets(t, cacheOf(t, v, c, dir), milanCRL, v.has[milanCRL][0].Data)
	unwritable(t, dir)
	r := &reports{}
	cache := cacheOf(t, v, c, dir, func(cfg *collateral.CacheConfig) { cfg.Report = r.add })
	for range 2 {
		gets(t, cache, rootName, v.has[rootName][0].Data)
	}
	if v.asked[rootName] != 1 || !strings.Contains(r.text(), "cache directory") || cache.Stats().DirErrors == 0 {
		t.Errorf("asked %d times, reported %s", v.asked[rootName], r.text())
	}
	v.down = errDown
	gets(t, cache, milanCRL, v.has[milanCRL][0].Data)
}

// Strangers choose which VEKs are asked for, so these do not fill the disk; what
// everybody needs is written still.
func TestCacheFull(t *testing.T) {
	v, c, dir := newVendor(), &clock{now}, t.TempDir()
	names := everything(v, now)
	for i := range 256 {
		folder := filepath.Join(dir, fmt.Sprintf("%02x", i))
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	first := cacheOf(t, v, c, dir)
	gets(t, first, names[0], v.has[names[0]][0].Data)
	paths := kept(t, dir)
	if len(paths) != 1 {
		t.Fatal(paths)
	}
	if err := os.Remove(paths[0]); err != nil {
		t.Fatal(err)
	}
	for i := range 256 {
		if err := os.WriteFile(filepath.Join(filepath.Dir(paths[0]), fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &reports{}
	cache := cacheOf(t, v, c, dir, func(cfg *collateral.CacheConfig) { cfg.Report = r.add })
	for range 2 {
		gets(t, cache, names[0], v.has[names[0]][0].Data)
	}
	if v.asked[names[0]] != 2 || !strings.Contains(r.text(), "full") {
		t.Errorf("asked %d times, reported %s", v.asked[names[0]], r.text())
	}
	for _, name := range names[1:] {
		gets(t, cache, name, v.has[name][0].Data)
	}
	if n := len(kept(t, dir)) - 256; n != len(names)-1+1 { // and the floor
		t.Errorf("%d files", n)
	}
}

// unwritable makes dir one in which no folder can be made, also for root, who may
// write wherever there is a file system: names of new folders are files already.
func unwritable(t *testing.T, dir string) {
	t.Helper()
	for i := range 256 {
		path := filepath.Join(dir, fmt.Sprintf("%02x", i))
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := os.WriteFile(path, nil, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
}

const childDir = "TEEBROKER_TEST_CACHE_DIR"

// TestMain lets the test binary be a second process that uses a directory.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir, os.Getenv(childDir+"_LIMIT") != ""); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child reads vendors' answers from a folder beside dir and asks a Cache for them,
// over and over, newer ones each time, until it is killed or through.
func child(dir string, limit bool) error {
	if limit { // as if the disk were full
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 100, Max: 100}); err != nil {
			return err
		}
	}
	ark, err := os.ReadFile(filepath.Join(dir, "..", "amd.pem"))
	if err != nil {
		return err
	}
	amd, err := snptest.LoadAMD(ark)
	if err != nil {
		return err
	}
	v, c := newVendor(), &clock{now.AddDate(0, 0, 1)}
	var told error
	cache, err := collateral.NewCache(collateral.CacheConfig{
		Upstream: v, AMD: amd.Anchors(snp.Milan), Dir: dir, Time: c.now, Report: func(err error) { told = err },
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for round := range childRounds {
		made := now.Add(time.Duration(round) * time.Minute)
		v.set(milanCRL, evidence.Collateral{Data: amd.IssueCRL(snptest.CRL{Line: snp.Milan, ThisUpdate: made, NextUpdate: now.AddDate(0, 6, 0)})})
		got, err := cache.Get(context.Background(), milanCRL)
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if at, err := thisUpdate(got); err != nil || at.Before(made) { // others may be ahead
			return fmt.Errorf("round %d: a list of %v, %v", round, at, err)
		}
		c.advance(25 * time.Hour)
	}
	if limit && told == nil {
		return errors.New("nobody was told that the disk is full")
	}
	return nil
}

// childRounds is how many lists each child writes.
const childRounds = 40

// thisUpdate returns that of the one list in got.
func thisUpdate(got []evidence.Collateral) (time.Time, error) {
	if len(got) == 0 {
		return time.Time{}, errors.New("none")
	}
	list, err := x509.ParseRevocationList(got[0].Data)
	if err != nil {
		return time.Time{}, err
	}
	return list.ThisUpdate, nil
}

// startChild starts a process that uses dir.
func startChild(t *testing.T, dir string, env ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), append(env, childDir+"="+dir)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

// sharedDir returns a directory beside which the simulated AMD is saved.
func sharedDir(t *testing.T) string {
	t.Helper()
	base := write(t, map[string][]byte{"amd.pem": amd().MarshalPEM()})
	return filepath.Join(base, "cache")
}

func finish(t *testing.T, cmd *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	var said strings.Builder
	_, _ = out.WriteTo(&said)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, said.String())
	}
}

// Processes that write at once leave the newest of what any of them had.
func TestCacheProcesses(t *testing.T) {
	dir := sharedDir(t)
	var wg sync.WaitGroup
	for range 3 {
		cmd, out := startChild(t, dir)
		wg.Go(func() { finish(t, cmd, out) })
	}
	wg.Wait()
	v := newVendor()
	v.down = errDown
	got, err := cacheOf(t, v, &clock{now.AddDate(0, 2, 0)}, dir).Get(t.Context(), milanCRL)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := thisUpdate(got); err != nil || !at.Equal(now.Add((childRounds-1)*time.Minute)) {
		t.Errorf("a list of %v, %v", at, err)
	}
	if files := kept(t, dir); len(files) > 3 { // the last of each, if they wrote at once
		t.Errorf("left behind: %v", files)
	}
}

// A process that is killed while it writes leaves nothing that does harm.
func TestCacheKilled(t *testing.T) {
	dir := sharedDir(t)
	for range 4 {
		cmd, out := startChild(t, dir)
		if line, err := out.ReadString('\n'); line != "ready\n" {
			t.Fatal(line, err)
		}
		for range 100 { // let it get somewhere
			if _, err := os.Stat(dir); err == nil && len(kept(t, dir)) > 0 {
				break
			}
			runtime.Gosched()
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		r := &reports{}
		v := newVendor()
		v.set(milanCRL, amdList(now, 400))
		cache := cacheOf(t, v, &clock{now.AddDate(0, 2, 0)}, dir, func(cfg *collateral.CacheConfig) { cfg.Report = r.add })
		for _, e := range r.errs {
			t.Errorf("after a kill: %v", e)
		}
		_, _ = cache.Get(t.Context(), milanCRL)
		if s := cache.Stats(); s.DirErrors != 0 {
			t.Errorf("after a kill: %v", r.text())
		}
	}
}

// With a full disk the Cache works from memory, says so, and leaves no halves.
func TestCacheDiskFull(t *testing.T) {
	dir := sharedDir(t)
	cmd, out := startChild(t, dir, childDir+"_LIMIT=1")
	finish(t, cmd, out)
	if files := kept(t, dir); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}
