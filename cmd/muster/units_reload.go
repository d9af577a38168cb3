package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload UNIT...",
		Short: "let units read their configuration again, without restarting them",
		Long: `reload runs the ExecReload= of units on every host that has them, as ` + "`systemctl reload`" + ` does. What they run goes
on. Of a template with replicas all of them are reloaded. Under systemd it waits until the unit was reloaded; without it,
the unit's log tells how it went.

A unit that does not run, or has no ExecReload=, is told of, and the status is 3 if others were reloaded.`,
		Example:           "  muster units reload 'lb@*'",
		Args:              takes(1, -1, "the name of a unit"),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.reload(cmd.Context(), args)
		},
	}
}

// reload tells each unit, in order, and everything that was not reloaded at the end.
func (c *cli) reload(ctx context.Context, args []string) error {
	f, names, err := c.connectNamed(ctx, args)
	if err != nil {
		return err
	}
	done := 0
	var refused []string
	for _, name := range names {
		results, err := f.Reload(ctx, name, "")
		if err != nil {
			return some(done, fmt.Errorf("cannot reload %s: %w", name, err))
		}
		for _, r := range results {
			if r.Error != "" {
				refused = append(refused, fmt.Sprintf("%s on %s: %s", r.Unit, r.Host, r.Error))
				continue
			}
			done++
			if _, err := fmt.Fprintf(c.out, "%s: reloaded on %s\n", r.Unit, r.Host); err != nil {
				return err
			}
		}
	}
	for _, line := range refused {
		writeWarning(c.err, line, c.color(c.err))
	}
	if len(refused) > 0 {
		return some(done, failed("", "%d of %d not reloaded", len(refused), done+len(refused)))
	}
	return nil
}
