package main

import (
	"context"
	"flag"
	"io"

	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/agent/runtime/systemd"
)

// runGuard is `musterd guard`, which musterd starts on hosts with units of Singleton=strict, or has systemd start, and which
// outlives it.
func runGuard(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("musterd guard", flag.ContinueOnError)
	dir := flags.String("dir", "", "directory of the units")
	bySystemd := flags.Bool("systemd", false, "the units are systemd's")
	instance := flags.String("instance", "", "ID of the host's instance, which marks the units' processes")
	level := logLevel(flags)
	if done, err := parse(flags, args, stderr); done || err != nil {
		return err
	}
	log := newLog(stderr, *level)
	if *bySystemd {
		return systemd.Guard(ctx, log)
	}
	return process.Guard(ctx, *dir, *instance, log)
}
