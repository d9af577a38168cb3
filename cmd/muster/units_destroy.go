package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) destroyCommand() *cobra.Command {
	return c.unitVerb(unitVerb{
		use:   "destroy UNIT...",
		short: "stop units and forget them",
		change: func(ctx context.Context, args []string, flags waitFlags) error {
			f, names, err := c.connectNamed(ctx, args)
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
	})
}
