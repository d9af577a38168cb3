package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"

	"github.com/musterhq/muster/cloudconfig/datasource"
	"github.com/musterhq/muster/cloudconfig/firstboot"
)

// firstBoot is `musterd firstboot`: it makes the host what its user-data asks for and ends.
func firstBoot(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("musterd firstboot", flag.ContinueOnError)
	root := flags.String("root", "/", "root directory of the host")
	operator := flags.Bool("operator", false, "apply the operator's cloud-config that cloud-init left in /etc/muster, not the user-data")
	wait := flags.Duration("wait", firstboot.DefaultWait, "how long a data source may take to appear")
	level := logLevel(flags)
	if done, err := parse(flags, args, stderr); done || err != nil {
		return err
	}
	err := firstboot.Run(ctx, firstboot.Options{Root: *root, Log: newLog(stderr, *level), Operator: *operator, Wait: *wait})
	if errors.Is(err, datasource.ErrNotHere) {
		return fmt.Errorf("nobody told this host what it shall be: no data source was found within %s; "+
			"give the machine a disk labelled cidata or config-2, a metadata service, or cloud-config-url= on the kernel command line", *wait)
	}
	return err
}

// logLevel defines the flag that all of musterd's commands have.
func logLevel(flags *flag.FlagSet) *slog.Level {
	level := new(slog.Level)
	flags.TextVar(level, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn, error")
	return level
}

func newLog(stderr io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
}

// parse reads a command line of flags only. done says that it asked for help, which has been given.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer) (done bool, err error) {
	flags.SetOutput(stderr)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return true, nil
	case err != nil:
		return false, &usageError{err}
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "%s takes flags only, not %q\n", flags.Name(), flags.Arg(0))
		flags.Usage()
		return false, &usageError{errors.New("unexpected argument")}
	}
	return false, nil
}
