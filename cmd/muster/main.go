// Command muster is the operator's tool: it makes a cluster from a file, tells how it does, and ends it.
//
// This package only wires: each verb has a file that turns flags into a call of cluster/apply or of the agent's API and
// prints what comes back. It holds the list of drivers (drivers.go) and knows of no cloud beyond that.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker (see the Makefile).
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
