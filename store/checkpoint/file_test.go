package checkpoint_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/checkpoint"
)

// signed returns a checkpoint of p.
func (p *process) signed(tenant string, generation, seq uint64, head byte) store.Checkpoint {
	p.Helper()
	token, err := teebroker.Checkpoint{
		Tenant: tenant, Chain: teebroker.Decisions, Generation: generation, Seq: seq, Head: [32]byte{head}, Time: 1,
	}.Sign(p.identity)
	if err != nil {
		p.Fatal(err)
	}
	c, err := checkpoint.Verify(token, p.id())
	if err != nil {
		p.Fatal(err)
	}
	return c
}

// The later one of a chain is kept; two of one place show a fork.
func TestSetAdd(t *testing.T) {
	p := newProcess(t)
	s := checkpoint.Set{}
	for _, tt := range []struct {
		generation, seq uint64
		head            byte
		want            uint64
		err             error
	}{
		{1, 5, 5, 5, nil},
		{1, 4, 4, 5, nil},
		{1, 5, 5, 5, nil},
		{1, 5, 6, 5, checkpoint.ErrDiffers},
		{1, 7, 7, 7, nil},
		{2, 3, 3, 3, nil},
		{1, 9, 9, 3, nil},
	} {
		err := s.Add(p.signed("acme", tt.generation, tt.seq, tt.head))
		got := s[checkpoint.Key{Tenant: "acme", Chain: teebroker.Decisions}]
		if !errors.Is(err, tt.err) || got.Seq != tt.want {
			t.Errorf("%+v: at %d, %v", tt, got.Seq, err)
		}
	}
}

// A file that is not whole, not this broker's, or that others write to is not used,
// and a Keeper does not begin.
func TestFileRefuses(t *testing.T) {
	p, evil := newProcess(t), newProcess(t)
	whole := checkpoint.Set{}
	for _, c := range []store.Checkpoint{p.signed("acme", 1, 3, 1), p.signed("other", 1, 4, 1)} {
		if err := whole.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	b, err := whole.Encode(p.id())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := checkpoint.Parse(b, p.id()); err != nil || len(s) != 2 {
		t.Fatal(s, err)
	}
	theirs := string(evil.signed("acme", 1, 3, 1).Token)
	bad := map[string][]byte{
		"empty":             {},
		"garbage":           bytes.Repeat([]byte{0x5a, 0}, 5000),
		"oversized":         append(bytes.Repeat([]byte(" "), checkpoint.MaxFile), b...),
		"more behind it":    append(bytes.Clone(b), '{', '}'),
		"another version":   bytes.Replace(b, []byte(`"v": 1`), []byte(`"v": 2`), 1),
		"another broker":    bytes.Replace(b, []byte(firstToken(whole)), []byte(theirs), 1),
		"one chain twice":   bytes.Replace(b, []byte(lastToken(whole)), []byte(firstToken(whole)), 1),
		"a changed token":   bytes.Replace(b, []byte("eyJ"), []byte("eyK"), 1),
		"no list":           []byte(strings.Split(string(b), `"checkpoints"`)[0] + `"checkpoints": null}`),
		"an unknown member": bytes.Replace(b, []byte(`"v": 1`), []byte(`"v": 1, "x": 1`), 1),
	}
	for i := 1; i < len(b)-1; i += 37 {
		bad[fmt.Sprintf("cut after %d bytes", i)] = b[:i]
	}
	for name, b := range bad {
		if err := os.WriteFile(p.file().Path(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.file().Read(); !errors.Is(err, checkpoint.ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.file().Update(func(checkpoint.Set) error { return nil }); !errors.Is(err, checkpoint.ErrFile) {
			t.Errorf("%s: written over: %v", name, err)
		}
	}
	if _, err := checkpoint.New(checkpoint.Config{Identity: p.identity, Dir: p.dir}); !errors.Is(err, checkpoint.ErrFile) {
		t.Errorf("a Keeper begins: %v", err)
	}
	if _, err := checkpoint.Parse(b, evil.id()); !errors.Is(err, checkpoint.ErrFile) {
		t.Errorf("of another broker: %v", err)
	}
	if _, err := checkpoint.Parse(bytes.Replace(b, []byte(`"broker": "`), []byte(`"broker": "A`), 1), [32]byte{}); !errors.Is(err, checkpoint.ErrFile) {
		t.Errorf("of nobody: %v", err)
	}
	if err := os.WriteFile(p.file().Path(), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.file().Path(), 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := p.file().Read(); !errors.Is(err, checkpoint.ErrFile) {
		t.Errorf("others may write: %v", err)
	}
	if err := errors.Join(os.Remove(p.file().Path()), os.Mkdir(p.file().Path(), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.file().Read(); !errors.Is(err, checkpoint.ErrFile) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := checkpoint.In(t.TempDir(), p.id()).Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

func firstToken(s checkpoint.Set) string { return string(s.Sorted()[0].Token) }
func lastToken(s checkpoint.Set) string  { return string(s.Sorted()[len(s)-1].Token) }

// Processes that share a directory lose nothing of each other, and the file never
// goes back.
func TestUpdateAtOnce(t *testing.T) {
	p := newProcess(t)
	var wg sync.WaitGroup
	for i := range 8 {
		c := []store.Checkpoint{p.signed(fmt.Sprint("t", i), 1, 1, 1), p.signed("acme", 1, uint64(i)+1, byte(i)+1)}
		wg.Go(func() {
			_, err := p.file().Update(func(s checkpoint.Set) error { return errors.Join(s.Add(c[0]), s.Add(c[1])) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := p.file().Read()
	if err != nil || len(s) != 9 || s[checkpoint.Key{Tenant: "acme", Chain: teebroker.Decisions}].Seq != 8 {
		t.Errorf("%v, %v", s, err)
	}
}

// The helper of TestKilled: it keeps later and later checkpoints until it is
// killed, and says each time what is durable.
func TestMain(m *testing.M) {
	if dir := os.Getenv("TEEBROKER_TEST_KEEP"); dir != "" {
		p := newKilled(dir)
		for seq := uint64(1); ; seq++ {
			c := p.signed("acme", 1, seq, 1)
			if _, err := p.file().Update(func(s checkpoint.Set) error { return s.Add(c) }); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			fmt.Println(seq)
		}
	}
	os.Exit(m.Run())
}

// A process that is killed while it writes leaves the old file or the new one.
func TestKilled(t *testing.T) {
	p := newProcess(t)
	saveKey(t, p)
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TEEBROKER_TEST_KEEP="+p.dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		var durable uint64
		for range 5 + 7*round {
			if !lines.Scan() {
				t.Fatal("it ended")
			}
			if durable, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
				t.Fatal(lines.Text())
			}
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if durable, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
				t.Fatal(lines.Text())
			}
		}
		_ = cmd.Wait() // it was killed
		s, err := p.file().Read()
		got := s[checkpoint.Key{Tenant: "acme", Chain: teebroker.Decisions}].Seq
		if err != nil || got != durable && got != durable+1 {
			t.Errorf("at %d after %d was durable, %v", got, durable, err)
		}
		// What was left of a write is not taken for a file of checkpoints, and goes.
		if err := os.WriteFile(p.file().Path()+".new", []byte(`{"v"`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.file().Update(func(s checkpoint.Set) error { clear(s); return nil }); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(p.file().Path() + ".new"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	p := &process{T: &testing.T{}, identity: fixedKey()}
	s := checkpoint.Set{}
	if err := errors.Join(s.Add(p.signed("acme", 1, 3, 1)), s.Add(p.signed("other", 1, 3, 1))); err != nil {
		f.Fatal(err)
	}
	b, err := s.Encode(p.id())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"v":1,"broker":"","checkpoints":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := checkpoint.Parse(b, p.id())
		if err != nil {
			if !errors.Is(err, checkpoint.ErrFile) || s != nil {
				t.Error(s, err)
			}
			return
		}
		again, err := s.Encode(p.id())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := checkpoint.Parse(again, p.id()); err != nil || len(got) != len(s) {
			t.Error(got, err)
		}
	})
}
