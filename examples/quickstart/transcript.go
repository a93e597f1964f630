package main

import (
	"fmt"
	"io"
	"time"

	"github.com/teebroker/teebroker"
)

// accepted is what a step must come to that is not to be refused.
const accepted = ""

// transcript prints what was tried and what came of it, and counts what should
// have come of it and did not.
type transcript struct {
	w             io.Writer
	steps, failed int
}

// title begins a chapter.
func (t *transcript) title(format string, args ...any) {
	fmt.Fprintf(t.w, "\n"+format+"\n", args...)
}

// say prints one line.
func (t *transcript) say(format string, args ...any) { fmt.Fprintf(t.w, format+"\n", args...) }

// note prints one line about the step before it.
func (t *transcript) note(format string, args ...any) {
	fmt.Fprintf(t.w, "                       "+format+"\n", args...)
}

// try does what is said of it and reports whether its code, the one word that a
// peer is told, is want: accepted, or why it has to be refused.
func (t *transcript) try(what, want string, do func() error) bool {
	began := time.Now()
	err := do()
	got := teebroker.Code(err)
	took := time.Since(began)
	verdict := "ok"
	if t.steps++; got != want {
		verdict = "FAILED"
		t.failed++
	}
	fmt.Fprintf(t.w, "  %-6s  %9.3f ms  %s", verdict, float64(took.Microseconds())/1000, what)
	if want != accepted || got != want {
		fmt.Fprintf(t.w, ": %s", outcome(got))
	}
	if got != want {
		fmt.Fprintf(t.w, ", which had to be %s: %v", outcome(want), err)
	}
	fmt.Fprintln(t.w)
	return got == want
}

func outcome(code string) string {
	if code == accepted {
		return "accepted"
	}
	return "refused, " + code
}
