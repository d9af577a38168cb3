package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) destroyCommand() *cobra.Command {
	var flags waitFlags
	cmd := &cobra.Command{
		Use:               "destroy UNIT...",
		Short:             "stop units and forget them",
		Args:              takes(1, -1, "the name of a unit"),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			f, err := c.connect(ctx)
			if err != nil {
				return err
			}
			names, err := c.named(ctx, f, args)
			if err != nil {
				return err
			}
			done, err := each(ctx, names, func(ctx context.Context, name string) error {
				if err := f.DeleteUnit(ctx, name); err != nil {
					return fmt.Errorf("cannot destroy %s: %w", name, err)
				}
				return nil
			})
			if err != nil {
				return some(done, err)
			}
			return c.settle(ctx, f, names, goalGone, flags)
		},
	}
	flags.register(cmd)
	return cmd
}
