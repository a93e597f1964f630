// Command ekcheck asks a broker whether the endorsement key of a Keylime agent was bound
// to accepted evidence. It is the ek_check_script of a Keylime tenant, which runs it
// without arguments.
//
// Exit status: 0 yes, 1 no, 2 when there is no answer.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	os.Exit(run(ctx, os.Args[1:], os.Getenv, self, os.Stdout, os.Stderr))
}
