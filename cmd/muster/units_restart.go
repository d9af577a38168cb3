package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

func (c *cli) restartCommand() *cobra.Command {
	return c.unitVerb(unitVerb{
		use:   "restart UNIT...",
		short: "stop units and start them again, one after the other",
		long: `restart stops units and starts them again where they are. It goes on to the next when one runs again, so that what
runs several times goes on meanwhile; with --no-block, when it was told to start. With a pattern, units that were not
started are left alone.`,
		change: c.restartAll,
	})
}

func (c *cli) restartAll(ctx context.Context, args []string, flags waitFlags) error {
	f, names, err := c.connectNamed(ctx, args)
	if err != nil {
		return err
	}
	for i, name := range names {
		err := c.restart(ctx, f, name, flags)
		if errors.Is(err, errNotLaunched) && hasPattern(args) {
			continue
		}
		if err != nil {
			return some(i, err)
		}
	}
	return nil
}

var errNotLaunched = errors.New("not launched")

// restart stops a unit that was started, waits until it has stopped, and starts it.
func (c *cli) restart(ctx context.Context, f fleet, name string, flags waitFlags) error {
	u, err := f.Unit(ctx, name)
	if err != nil {
		return fmt.Errorf("cannot restart %s: %w", name, err)
	}
	if u.Desired != string(store.DesiredLaunched) {
		return failed("`muster units start "+name+"` starts it", "cannot restart %s: it is %s, %w", name, u.Desired, errNotLaunched)
	}
	for _, step := range []struct {
		desired store.Desired
		goal    goal
		wait    bool
	}{
		{store.DesiredLoaded, goalStopped, true},
		{store.DesiredLaunched, goalRunning, !flags.noBlock},
	} {
		if _, err := f.PutUnit(ctx, api.Unit{Name: name, Desired: string(step.desired)}); err != nil {
			return fmt.Errorf("cannot set %s to %s: %w", name, step.desired, err)
		}
		if !step.wait {
			continue
		}
		if _, err := waitUnits(ctx, f, tellLines(c.lines()), []string{name}, step.goal, flags.timeout); err != nil {
			return fmt.Errorf("cannot restart %s: %w", name, err)
		}
	}
	return nil
}
