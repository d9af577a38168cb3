package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

func (c *cli) stopCommand() *cobra.Command {
	var flags waitFlags
	cmd := &cobra.Command{
		Use:               "stop UNIT...",
		Short:             "stop units and leave them on their hosts",
		Args:              takes(1, -1, "the name of a unit"),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.desire(cmd.Context(), args, store.DesiredLoaded, goalStopped, flags)
		},
	}
	flags.register(cmd)
	return cmd
}

func (c *cli) unloadCommand() *cobra.Command {
	var flags waitFlags
	cmd := &cobra.Command{
		Use:               "unload UNIT...",
		Short:             "stop units and take them off their hosts",
		Args:              takes(1, -1, "the name of a unit"),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.desire(cmd.Context(), args, store.DesiredInactive, goalIdle, flags)
		},
	}
	flags.register(cmd)
	return cmd
}

// desire asks for a desired state of units that the cluster has.
func (c *cli) desire(ctx context.Context, args []string, desired store.Desired, g goal, flags waitFlags) error {
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	names, err := c.named(ctx, f, args)
	if err != nil {
		return err
	}
	// A name that is not known would come into being from its template; stopping it must not do that.
	done, err := each(ctx, names, func(ctx context.Context, name string) error {
		if _, err := f.Unit(ctx, name); err != nil {
			return fmt.Errorf("cannot set %s to %s: %w", name, desired, err)
		}
		if _, err := f.PutUnit(ctx, api.Unit{Name: name, Desired: string(desired)}); err != nil {
			return fmt.Errorf("cannot set %s to %s: %w", name, desired, err)
		}
		return nil
	})
	if err != nil {
		return some(done, err)
	}
	return c.settle(ctx, f, names, g, flags)
}
