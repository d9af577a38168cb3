package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cmd/muster/output"
)

const rolloutLong = `rollout tells of new contents on their way to the instances of a template, or the hosts of a global unit.

A file with UpdateParallel= below [X-Muster] is rolled out when it is submitted in place of another one: so many instances
get it at a time, as a number or a percentage, and others follow when these are well and UpdateDelay= has passed. An
instance is well when its HealthCheck= says so, or, without one, when it has run for five seconds. If one fails, or is not
well in time, all get the old contents back and the cluster does not try again until the file is submitted anew.

A health check is http://..., tcp://HOST:PORT or exec:/path/of/command, asked on the host of the instance:

  HealthCheck=http://127.0.0.1:80%i/health   2xx and 3xx are well; %i is the instance
  HealthInterval=10s       between two checks; once a second until the first success
  HealthTimeout=5s         for one check
  HealthRetries=3          failures in a row until it is unhealthy
  HealthStartPeriod=30s    after a start, in which failures do not count
  HealthAction=none        or restart: what is done to an unhealthy unit`

func (c *cli) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rollout", Short: "new contents of units on their way", Long: rolloutLong, Args: cobra.ArbitraryArgs, RunE: group,
	}
	cmd.AddCommand(
		c.rolloutStatusCommand(),
		c.rolloutVerb(api.RolloutPause, "change nothing more until it is resumed"),
		c.rolloutVerb(api.RolloutResume, "go on with a rollout that was paused"),
		c.rolloutVerb(api.RolloutUndo, "give everybody the old contents back, of a rollout that is done too"),
	)
	return cmd
}

func (c *cli) rolloutStatusCommand() *cobra.Command {
	var watch, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "status [UNIT]",
		Short:             "how far rollouts are, and why one was rolled back",
		Args:              takes(0, 1, "the name of a unit"),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			if watch && wait {
				return usage("use one of them", "--watch goes on for ever, --wait ends")
			}
			unit := ""
			if len(args) > 0 {
				names, err := matchUnits(args, nil)
				if err != nil || len(names) != 1 {
					return usage("name one", "`%s` is not the name of a unit", args[0])
				}
				unit = names[0]
			}
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			if watch || wait {
				return c.followRollouts(cmd.Context(), f, unit, wait, timeout)
			}
			s, err := f.Status(cmd.Context())
			if err != nil {
				return err
			}
			list, err := rolloutsOf(s, unit)
			if err != nil {
				return err
			}
			return c.printRollouts(list)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with every change")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is over; status 1 if it was rolled back or is paused")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to wait")
	return cmd
}

func (c *cli) rolloutVerb(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " UNIT",
		Short:             short,
		Args:              takes(1, 1, "the name of a unit"),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := matchUnits(args, nil)
			if err != nil {
				return err
			}
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := f.ChangeRollout(cmd.Context(), name, verb); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// rolloutsOf are those of a status: of one unit, or of the template whose instance it is, or all.
func rolloutsOf(s api.Status, unit string) ([]api.Rollout, error) {
	if unit == "" {
		return append([]api.Rollout{}, s.Rollouts...), nil
	}
	template, _ := unitfile.Template(unit)
	for _, name := range []string{unit, template} {
		i := slices.IndexFunc(s.Rollouts, func(r api.Rollout) bool { return r.Unit == name })
		if i >= 0 {
			return s.Rollouts[i : i+1], nil
		}
	}
	return nil, failed("`muster rollout status` lists what there is; see `muster rollout --help`", "%s has no rollout", unit)
}

func (c *cli) printRollouts(list []api.Rollout) error {
	return output.Write(c.out, c.format, list, func(w io.Writer) error {
		if len(list) == 0 {
			fmt.Fprintln(w, "no rollouts; `muster rollout --help` tells how to have one")
			return nil
		}
		g := output.Grid{Columns: []string{"UNIT", "PHASE", "UPDATED", "WELL", "AT A TIME", "REASON"}, Color: c.color(c.out)}
		for _, r := range list {
			phase := r.Phase
			if r.Paused {
				phase += " (paused)"
			}
			g.Add(r.Unit, phase, fmt.Sprintf("%d of %d", r.Updated, r.Total), fmt.Sprint(r.Ready), atATime(r), r.Reason)
		}
		return g.Write(w)
	})
}

func atATime(r api.Rollout) string {
	if r.Percent > 0 {
		return fmt.Sprintf("%d%%", r.Percent)
	}
	return fmt.Sprint(r.Parallel)
}

// followRollouts prints rollouts after every change; with wait until none goes on.
func (c *cli) followRollouts(parent context.Context, f fleet, unit string, wait bool, timeout time.Duration) error {
	ctx, cancel := parent, context.CancelFunc(func() {})
	if wait {
		ctx, cancel = context.WithTimeout(parent, timeout)
	}
	defer cancel()
	statuses, watch := make(chan api.Status), make(chan error, 1)
	go func() {
		watch <- follow(ctx, f, statuses)
		close(statuses)
	}()
	last := ""
	var result error
	for s := range statuses {
		list, err := rolloutsOf(s, unit)
		if err != nil {
			result = err
			cancel()
			continue
		}
		if text := fmt.Sprint(list); text != last && ctx.Err() == nil {
			last = text
			c.tellRollouts(list, wait)
		}
		if wait && ctx.Err() == nil && !slices.ContainsFunc(list, func(r api.Rollout) bool { return r.Active() && !r.Paused }) {
			result = c.endOf(list)
			cancel()
		}
	}
	err := <-watch
	switch {
	case result != nil:
		return result
	case parent.Err() != nil || ctx.Err() != nil && !wait:
		return nil // ^C is how watching ends
	case wait && context.Cause(ctx) == context.DeadlineExceeded:
		return failed("it goes on without this command; `muster rollout status` tells how far it is", "not over after %v", timeout)
	}
	return err
}

// tellRollouts prints how rollouts come along: in place on a terminal, else a line each.
func (c *cli) tellRollouts(list []api.Rollout, wait bool) {
	if c.format != output.Table {
		if !wait {
			_ = c.printRollouts(list)
		}
		return
	}
	if isTerminal(c.out) {
		fmt.Fprint(c.out, "\x1b[H\x1b[2J") // cursor home, erase in display (ECMA-48 8.3.21, 8.3.39)
		_ = c.printRollouts(list)
		return
	}
	for _, r := range list {
		fmt.Fprintln(c.out, r.Text())
	}
}

// endOf prints rollouts that have ended, and is an error if one did not end well.
func (c *cli) endOf(list []api.Rollout) error {
	if c.format != output.Table {
		if err := c.printRollouts(list); err != nil {
			return err
		}
	}
	var bad []string
	for _, r := range list {
		if r.Paused || r.Phase == "failed" {
			bad = append(bad, r.Text())
		}
	}
	if len(bad) > 0 {
		return failed("", "%s", strings.Join(bad, "\n"))
	}
	return nil
}

// tellBegun says of units that were submitted which of them are rolled out now.
func (c *cli) tellBegun(ctx context.Context, f fleet, units []api.Unit) error {
	s, err := f.Status(ctx)
	if err != nil {
		return err
	}
	for _, r := range s.Rollouts {
		if r.Active() && slices.ContainsFunc(units, func(u api.Unit) bool { return u.Name == r.Unit && u.Content != "" }) {
			fmt.Fprintf(c.lines(), "%s: rolling out, %s of %d %s at a time; `muster rollout status %s --wait` waits for it\n",
				r.Unit, atATime(r), r.Total, r.What, r.Unit)
		}
	}
	return nil
}
