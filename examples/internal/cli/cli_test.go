package cli

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// command returns a Command that answers yes, no or nothing, as -answer says.
func command() Command {
	return Command{
		Name: "demo ask", Args: "FILE", About: "\nAnswers.\n\n  demo ask -answer yes\n",
		Setup: func(fs *flag.FlagSet) Action {
			answer := fs.String("answer", "", "the `ANSWER`")
			return func(args []string, stdout io.Writer) (bool, error) {
				switch *answer {
				case "yes", "no":
					_, err := io.WriteString(stdout, *answer)
					return *answer == "yes", err
				case "usage":
					return false, Usagef("how to ask")
				}
				return true, errors.New("no answer\x1b[31m") // an error is never a yes
			}
		},
	}
}

func TestCommand(t *testing.T) {
	for _, test := range []struct {
		name           string
		args           string
		status         int
		stdout, stderr string // substrings; "" wants nothing
	}{
		{"yes", "-answer yes", Yes, "yes", ""},
		{"no", "-answer no", No, "no", ""},
		{"an error is no answer and is made printable", "", Unusable, "", `no answer\u001b[31m`},
		{"a usage error points to the help", "-answer usage", Unusable, "", "demo ask -h tells more"},
		{"an unknown flag is usage", "-unknown", Unusable, "", "demo ask -h tells more"},
		{"help is asked for and goes to stdout", "-h", Yes, "demo ask -answer yes", ""},
		{"help lists flags", "-help", Yes, "-answer ANSWER", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if got := command().Main(strings.Fields(test.args), &stdout, &stderr); got != test.status {
				t.Errorf("status %d, want %d", got, test.status)
			}
			holds(t, "stdout", stdout.String(), test.stdout)
			holds(t, "stderr", stderr.String(), test.stderr)
		})
	}
}

func TestGroup(t *testing.T) {
	two := command()
	two.Name = "demo ask twice"
	g := Group{Name: "demo", About: "Demonstrates.", Commands: []Command{two, command()}}
	for _, test := range []struct {
		name           string
		args           string
		status         int
		stdout, stderr string
	}{
		{"the first argument names the command", "ask -answer no", No, "no", ""},
		{"so do the first two", "ask twice -answer yes", Yes, "yes", ""},
		{"help lists commands", "-h", Yes, "demo ask         Answers.", ""},
		{"no command is usage", "", Unusable, "", "Demonstrates."},
		{"an unknown command is usage", "tell", Unusable, "", "no command tell"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if got := g.Main(strings.Fields(test.args), &stdout, &stderr); got != test.status {
				t.Errorf("status %d, want %d", got, test.status)
			}
			holds(t, "stdout", stdout.String(), test.stdout)
			holds(t, "stderr", stderr.String(), test.stderr)
		})
	}
}

func holds(t *testing.T, name, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("%s is %q, want %q in it", name, got, want)
	}
}

func TestPage(t *testing.T) {
	for _, test := range []struct {
		name   string
		colour bool
		want   string
	}{
		{"aligned", false, "yes it is\n\nWhy\n  a     1\n  long  2\n"},
		{"aligned in colour", true, "\x1b[32myes\x1b[0m it is\n\n\x1b[1mWhy\x1b[0m\n  \x1b[2ma\x1b[0m     1\n  long  2\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := NewPage(&bytes.Buffer{})
			p.colour = test.colour
			p.Line(Cell{"yes", Good}, Cell{"it is", Plain})
			p.Table("Why", [][]Cell{{{"a", Dim}, {"1", Plain}}, {{"long", Plain}, {"2", Plain}}})
			p.Table("Nothing", nil)
			var out bytes.Buffer
			if _, err := p.WriteTo(&out); err != nil || out.String() != test.want {
				t.Errorf("%q, %v, want %q", out.String(), err, test.want)
			}
		})
	}
}

func TestPageHasNoColourOffTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if NewPage(f).colour || NewPage(io.Discard).colour {
		t.Error("colour in a file")
	}
}

func TestPrintable(t *testing.T) {
	const in = "Zürich \x1b[2J\n\u202e\x00"
	const want = `Zürich \u001b[2J\u000a\u202e\u0000`
	if got := Printable(in); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(path, 5); err != nil || string(b) != "12345" {
		t.Errorf("at the limit: %q, %v", b, err)
	}
	if b, err := ReadFile(path, 4); !errors.Is(err, ErrTooLarge) || b != nil {
		t.Errorf("beyond the limit: %q, %v", b, err)
	}
	if _, err := ReadFile(path+"x", 5); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"first", "second"} {
		if err := WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content {
			t.Errorf("%q, %v, want %q", b, err, content)
		}
	}
	if err := CreateFile(path, []byte("third"), 0o600); !errors.Is(err, os.ErrExist) {
		t.Errorf("CreateFile over a file: %v", err)
	}
	alone(t, path, 0o600)
}

// Of many that create one file, one succeeds, and its content is what is there.
func TestCreateFileOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var mu sync.Mutex
	var winners []string
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			content := strings.Repeat(string(rune('a'+i)), 1000)
			if err := CreateFile(path, []byte(content), 0o600); err == nil {
				mu.Lock()
				winners = append(winners, content)
				mu.Unlock()
			} else if !errors.Is(err, os.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(path)
	if err != nil || len(winners) != 1 || winners[0] != string(b) {
		t.Errorf("%d winners, %v", len(winners), err)
	}
	alone(t, path, 0o600)
}

// alone checks that path is the only file in its folder, and its mode.
func alone(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files left, %v", len(entries), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != mode {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestList(t *testing.T) {
	var l List
	if err := errors.Join(l.Set("a,b"), l.Set("c")); err != nil || l.String() != "a,b,c" {
		t.Errorf("%v, %v", l, err)
	}
	for _, s := range []string{"", "a,", ",a", "a,,b"} {
		if err := new(List).Set(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}

// A variable stands for a flag that is not given, and for no other.
func TestEnvironment(t *testing.T) {
	c := command()
	c.Env = Variable
	status := func(args string) int { return c.Main(strings.Fields(args), io.Discard, io.Discard) }
	t.Setenv("TEEBROKER_ANSWER", "yes")
	if got := status(""); got != Yes {
		t.Errorf("from the environment: %d", got)
	}
	if got := status("-answer no"); got != No {
		t.Errorf("the command line does not win: %d", got)
	}
	t.Setenv("TEEBROKER_ANSWER", "")
	if got := status(""); got != Unusable {
		t.Errorf("an empty variable: %d", got)
	}
	if got := Variable("require-hsm"); got != "TEEBROKER_REQUIRE_HSM" {
		t.Error(got)
	}
}
