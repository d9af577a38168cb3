package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cmd/muster/output"
	"github.com/musterhq/muster/cmd/muster/progress"
)

// changeFlags are those of the verbs that make and end hosts.
type changeFlags struct {
	dryRun  bool
	noWait  bool
	timeout time.Duration
}

const upLong = `up makes the cluster what the cluster file says: it makes the hosts that are missing, at all providers at once, brings
them together, and submits the units. Run again it changes nothing; run after a change of the file it changes that;
run after a failure or a crash it goes on.

up waits until all hosts are ready and then until all units run, for each at most as long as --timeout says. A unit that
waits for something tells what, and goes on without this command.

Hosts that are not in the file any more are destroyed, after a question. --yes answers it for scripts.`

func (c *cli) upCommand() *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "make the cluster what the cluster file says",
		Long:  upLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.dryRun {
				return c.preview(cmd.Context(), false)
			}
			return c.up(cmd.Context(), flags)
		},
	}
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "print what would be done, as `muster plan` does")
	cmd.Flags().BoolVar(&flags.noWait, "no-wait", false, "return when the hosts are asked for, before they join")
	cmd.Flags().DurationVar(&flags.timeout, "timeout", apply.DefaultTimeout, "how long hosts may take to be ready, and then units to run")
	return cmd
}

func (c *cli) up(ctx context.Context, flags changeFlags) error {
	deps, err := c.wantedDeps()
	if err != nil {
		return err
	}
	work, err := c.begin(deps)
	if err != nil {
		return err
	}
	started := c.now()
	result, err := apply.Up(ctx, work.deps, apply.Options{
		NoWait:     flags.noWait,
		Timeout:    flags.timeout,
		Confirm:    work.confirm,
		CrashPoint: crashPoint(),
	})
	if err == nil && !flags.noWait {
		err = c.awaitUnits(ctx, work, result, flags.timeout)
	}
	work.display.Close()
	switch {
	case err != nil:
		return work.outcome(err)
	case flags.noWait:
		return c.upNext(fmt.Sprintf("cluster %s: all hosts are asked for; `muster up%s` waits for them", work.deps.Spec.Cluster, c.fileFlag()))
	default:
		return c.upNext(fmt.Sprintf("cluster %s is up: %s, %s, %.1f s", work.deps.Spec.Cluster, count(len(result.Members), "host"),
			count(running(work.deps.Spec), "unit"), c.now().Sub(started).Seconds()))
	}
}

// upNext tells how to look around, after what there is to say.
func (c *cli) upNext(text string) error {
	if c.format != output.Table {
		return nil
	}
	if _, err := fmt.Fprintf(c.out, "\n%s\n\n", text); err != nil {
		return err
	}
	flag := c.fileFlag()
	return c.printNext(
		next{"muster status" + flag, "hosts, voters, units, and what is wrong with them"},
		next{"muster units list" + flag, "where every unit runs, with the address to curl"},
		next{"muster logs" + c.longFlag() + " UNIT", "what a unit printed; -f follows"},
		next{"muster down" + flag, "end it all"},
	)
}

// awaitUnits waits until the units of the cluster file run, at most as long as hosts may take to be ready: what they run
// may have to be fetched first.
func (c *cli) awaitUnits(ctx context.Context, work *work, result apply.Result, timeout time.Duration) error {
	names := launched(work.deps.Spec)
	if len(names) == 0 || len(result.Members) == 0 {
		return nil
	}
	f, err := work.fleet(result.Members)
	if err != nil {
		return err
	}
	_, err = waitUnits(ctx, f, work.tellUnits(), names, goalRunning, cmp.Or(timeout, apply.DefaultTimeout))
	var missed *failure
	if errors.As(err, &missed) && missed.status == statusFailed {
		missed.status = statusPartial // the hosts are there
	}
	return err
}

// tellUnits shows how many units run, and what is wrong with the others.
func (w *work) tellUnits() func(change) {
	running := -1
	return func(ch change) {
		message := fmt.Sprintf("%d of %d units run", ch.reached, ch.total)
		switch {
		case ch.verdict != reached:
			message += "; " + ch.line
		case ch.reached == running:
			return
		}
		running = ch.reached
		w.display.Report(apply.Event{Time: w.cli.now(), Phase: apply.PhaseUnits, Message: message})
	}
}

// launched are the units of a cluster file that shall run.
func launched(s spec.Spec) []string {
	var names []string
	for _, u := range s.Units {
		if u.Desired == string(store.DesiredLaunched) {
			names = append(names, u.Name)
		}
	}
	return names
}

// running is how many units shall run, replicas counted.
func running(s spec.Spec) int {
	n := 0
	for _, u := range s.Units {
		if u.Desired == string(store.DesiredLaunched) {
			n += instancesOf(u)
		}
	}
	return n
}

// newDisplay shows progress as the format and the terminal allow.
func (c *cli) newDisplay() (progress.Display, error) {
	switch {
	case c.format == output.YAML:
		return nil, usage("choose -o json, for one event a line, or no -o", "progress is not shown as yaml")
	case c.format == output.JSON:
		return progress.NewJSON(c.out, c.err), nil
	case isTerminal(c.out) && canDraw():
		return progress.NewLive(progress.LiveOptions{Out: c.out, Color: c.color(c.out), Environ: environ(), Now: c.now}), nil
	default:
		return progress.NewPlain(c.out, c.err), nil
	}
}
