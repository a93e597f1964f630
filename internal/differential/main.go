package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/google/logger"
)

// The exit statuses.
const (
	explained   = 0
	unexplained = 1
	unusable    = 2
)

const about = `Usage: go run ./internal/differential [flags]

Gives the same evidence, genuine and simulated, mutated in structured ways, to
package snp and to go-sev-guest, or to package tdx and to go-tdx-guest: with the
same roots, the same lists and documents, the same clock and the same report data
asked for. Prints how often they agree, and by
what check or for what known reason they do not: docs/differential.md. On an
interrupt it stops, prints what it has, and how to go on.

Exit status: 0 all explained, 1 evidence that only we accept and nothing
explains, 2 usage or no start.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := program(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// program is main without a process.
func program(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return explained
	case err != nil:
		fmt.Fprintf(stderr, "differential: %v\n", err)
		return unusable
	}
	defer logger.Init("differential", false, false, io.Discard).Close() // both log if nobody says otherwise
	fmt.Fprintln(stderr, "making keys")
	l, err := newComparison(p.tee)
	if err != nil {
		fmt.Fprintf(stderr, "differential: %v\n", err)
		return unusable
	}
	p.workers = runtime.GOMAXPROCS(0)
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	p.progress, p.ticks = stderr, ticker.C
	return p.report(stdout, l, p.run(ctx, l))
}

// newComparison returns the lab of tee.
func newComparison(tee string) (comparison, error) {
	if tee == "tdx" {
		return newTDXLab()
	}
	return newLab()
}

// report writes what came of p and returns the exit status.
func (p plan) report(w io.Writer, l comparison, t *tally) int {
	l.describe(w)
	t.print(w, p)
	if next := p.start + t.cases; next < p.n {
		fmt.Fprintf(w, "\nInterrupted. To go on:\n  go run ./internal/differential -tee %s -seed %d -start %d -n %d\n", p.tee, p.seed, next, p.n)
	}
	if t.failures > 0 {
		return unexplained
	}
	return explained
}

// parse returns the plan that args ask for. Help goes to stdout.
func parse(args []string, stdout io.Writer) (plan, error) {
	var p plan
	fs := flag.NewFlagSet("differential", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&p.tee, "tee", "snp", "the `format` to compare: snp or tdx")
	fs.Uint64Var(&p.seed, "seed", 1, "the `seed` of all cases")
	fs.Uint64Var(&p.start, "start", 0, "the first `case`, to go on with a run that was interrupted")
	fs.Uint64Var(&p.n, "n", 10_000, "the `number` of cases, those before -start included")
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, about)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return p, err
	case err != nil:
		return p, err
	case fs.NArg() != 0:
		return p, fmt.Errorf("argument %q", fs.Arg(0))
	case p.tee != "snp" && p.tee != "tdx":
		return p, fmt.Errorf("no TEE %q", p.tee)
	case p.start > p.n:
		return p, errors.New("-start is after -n")
	}
	return p, nil
}
