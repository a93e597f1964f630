// Command quickstart shows the whole protocol in one process, with nothing
// installed: genuine AMD evidence is verified and refused for what it says, a
// simulated confidential VM gets its key, and then everything is tried that must
// not work; the same in short with Intel TDX and Arm CCA.
//
//	go run ./examples/quickstart
//
// Exit status 0 means that all that must succeed did, and all that must be
// refused was.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "quickstart takes no flags: it verifies genuine AMD and Intel evidence, releases keys to\nsimulated confidential VMs, and tries what must not work.\n\nExit status: 0 if everything went as it must, 1 if not.")
		os.Exit(2)
	}
	os.Exit(run(context.Background(), os.Stdout))
}

// run tells the story to w and returns the exit status.
func run(ctx context.Context, w io.Writer) int {
	began := time.Now()
	t := &transcript{w: w}
	vendor := &world{} // of the chapters with AMD
	amd := func(chapter func(context.Context, *transcript, *world) error) func(context.Context, *transcript) error {
		return func(ctx context.Context, t *transcript) error { return chapter(ctx, t, vendor) }
	}
	for _, chapter := range []func(context.Context, *transcript) error{
		genuine, amd(release), genuineTDX, releaseTDX, releaseCCA, overHTTP, amd(clones),
	} {
		if err := chapter(ctx, t); err != nil {
			fmt.Fprintln(w, "\nquickstart can't go on:", err)
			return 1
		}
	}
	t.say("")
	if t.failed > 0 {
		t.say("%d of %d steps did not go as they must.", t.failed, t.steps)
		return 1
	}
	t.say("All %d steps went as they must, in %v.", t.steps, time.Since(began).Round(time.Millisecond))
	t.say("Next: go run ./examples/broker serve -trust-simulated sim, and docs/threat-model.md for what this does not protect against.")
	return 0
}
