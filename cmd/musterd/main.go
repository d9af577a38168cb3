// Command musterd is the daemon of a host: it joins the cluster, runs units and reports, and on voters runs the store.
// It is started with the host's root directory and finds everything else there. `musterd firstboot` does what user-data asks
// for, on hosts without cloud-init, and ends. `musterd fd-forward` is what fleetctl runs on hosts that it reaches over SSH.
// `musterd guard` is started by musterd itself, see agent/runtime/guard.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/musterhq/muster/agent"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/update/dir"
)

// version is set by the linker.
var version = "dev"

// gcPercent trades processor time, of which an agent needs little, for memory, of which its host has better use: the heap
// may grow by half before it is collected.
const gcPercent = 50

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	catchIgnored()
	debug.SetGCPercent(gcPercent)
	args, err := commandLine(os.Args[0], os.Args[1:], os.Stderr)
	if err == nil {
		err = run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	}
	var bad *usageError
	var exit *exitStatus
	switch {
	case errors.As(err, &bad):
		os.Exit(2)
	case errors.As(err, &exit):
		os.Exit(exit.code)
	case err != nil:
		fmt.Fprintln(os.Stderr, "musterd:", err)
		os.Exit(1)
	}
}

// usageError is a wrong command line, which has been told about already.
type usageError struct{ error }

// run is musterd with a command line. It returns nil when ctx ends.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "firstboot":
			return firstBoot(ctx, args[1:], stderr)
		case "guard":
			return runGuard(ctx, args[1:], stderr)
		case "fd-forward":
			return fdForward(ctx, args[1:], stdin, stdout, stderr)
		}
	}
	flags := flag.NewFlagSet("musterd", flag.ContinueOnError)
	root := flags.String("root", "/", "root directory of the host")
	level := logLevel(flags)
	show := flags.Bool("version", false, "print the version and end")
	if done, err := parse(flags, args, stderr); done || err != nil {
		return err
	}
	if *show {
		_, err := fmt.Fprintln(stdout, "musterd", version)
		return err
	}
	log := newLog(stderr, *level)
	if dir.Waiting(*root) {
		return load(ctx, *root, args, stdout, stderr, log)
	}
	return restart(serve(ctx, agent.Config{Root: *root, Version: version, Log: log}))
}

// serve is the daemon until ctx ends.
func serve(ctx context.Context, cfg agent.Config) error {
	ctx, cancel := context.WithCancel(ctx)
	var trimming sync.WaitGroup
	trimming.Go(func() { keepTrim(ctx, cfg.Log) })
	defer trimming.Wait()
	defer cancel()
	return agent.Run(ctx, cfg)
}

// When memory that is not needed is given back: when the start is over, and now and then.
const (
	firstTrim = 5 * time.Second
	trimEvery = 10 * time.Minute
)

func keepTrim(ctx context.Context, log *slog.Logger) {
	for wait := firstTrim; pause.For(ctx, wait) == nil; wait = trimEvery {
		trim(log)
	}
}
