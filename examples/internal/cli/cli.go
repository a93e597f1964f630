// Package cli is what the example programs have in common at a terminal:
// commands whose -h teaches, exit statuses, aligned output, JSON, and files.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The exit statuses of every program.
const (
	Yes      = 0
	No       = 1 // refused, rejected, expiring
	Unusable = 2 // usage, unreadable input, or a service out of reach
)

// A Command is a program, or one subcommand of it.
type Command struct {
	Name  string // as it is typed, such as "attester quote"
	Args  string // what follows the flags, such as "FILE"
	About string // what it does and an example, in plain text

	// Env returns the environment variable that stands for a flag that is not
	// given, or ""; if nil, none does.
	Env func(flag string) string

	// Setup registers the flags and returns what to do with them.
	Setup func(*flag.FlagSet) Action
}

// An Action answers yes or no, or returns an error if there can be no answer.
// It writes the answer to stdout and nothing else.
type Action func(args []string, stdout io.Writer) (bool, error)

// Main runs c with the arguments after its name and returns the exit status.
// Help that was asked for goes to stdout, complaints to stderr.
func (c Command) Main(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the package would print errors and help itself, to one place
	act := c.Setup(fs)
	fromEnv := c.environment(fs)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(fs, stdout)
		return Yes
	}
	if err == nil {
		err = fromEnv
	}
	if err != nil {
		return c.unusable(stderr, Usagef("%w", err))
	}
	yes, err := act(fs.Args(), stdout)
	switch {
	case err != nil:
		return c.unusable(stderr, err)
	case !yes:
		return No
	}
	return Yes
}

func (c Command) unusable(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "%s: %s\n", c.Name, Printable(err.Error()))
	if errors.As(err, new(usageError)) {
		fmt.Fprintf(stderr, "%s -h tells more\n", c.Name)
	}
	return Unusable
}

func (c Command) help(fs *flag.FlagSet, w io.Writer) {
	usage := strings.TrimSpace(c.Name + " [flags] " + c.Args)
	fmt.Fprintf(w, "Usage: %s\n\n%s\n\nFlags:\n", usage, strings.TrimSpace(c.About))
	fs.SetOutput(w)
	fs.PrintDefaults()
	fmt.Fprint(w, "\nExit status: 0 yes or done, 1 no, 2 usage or unreadable input.\n")
}

// A Group is a program of several Commands, the first arguments naming one.
type Group struct {
	Name     string
	About    string
	Commands []Command // their Names start with the Group's and go on with one word or two
}

// Main runs the Command that args names and returns the exit status.
func (g Group) Main(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case "-h", "-help", "--help":
			g.help(stdout)
			return Yes
		}
		for _, c := range g.Commands {
			words := strings.Fields(strings.TrimPrefix(c.Name, g.Name))
			if n := len(words); len(args) >= n && slices.Equal(args[:n], words) {
				return c.Main(args[n:], stdout, stderr)
			}
		}
		fmt.Fprintf(stderr, "%s: no command %s\n", g.Name, Printable(args[0]))
	}
	g.help(stderr)
	return Unusable
}

func (g Group) help(w io.Writer) {
	fmt.Fprintf(w, "Usage: %s COMMAND [flags]\n\n%s\n\nCommands, each with a -h of its own:\n", g.Name, strings.TrimSpace(g.About))
	for _, c := range g.Commands {
		first, _, _ := strings.Cut(strings.TrimSpace(c.About), "\n")
		fmt.Fprintf(w, "  %-16s %s\n", c.Name, first)
	}
}

// usageError is an error that -h helps with.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usagef returns an error about how the command was called: the complaint then
// points to -h.
func Usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }
