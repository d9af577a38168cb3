package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/cmd/muster/output"
)

const downLong = `down ends every host of the cluster at every provider of the cluster file, removes what was made for the cluster, and
forgets its keys. It asks first; --yes answers for scripts. Run after a failure or a crash it goes on.`

func (c *cli) downCommand() *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{
		Use:   "down",
		Short: "end the cluster and everything that was made for it",
		Long:  downLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.dryRun {
				return c.previewDown(cmd.Context())
			}
			return c.down(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "print what would be ended, and end nothing")
	return cmd
}

func (c *cli) down(ctx context.Context) error {
	deps, err := c.deps()
	if err != nil {
		return err
	}
	work, err := c.begin(deps)
	if err != nil {
		return err
	}
	_, err = apply.Down(ctx, work.deps, apply.Options{Confirm: work.confirm, CrashPoint: crashPoint()})
	work.display.Close()
	name := work.deps.Spec.Cluster
	switch {
	case errors.Is(err, state.ErrNoCluster):
		return c.say("no cluster `%s` on this machine: nothing to end", name)
	case err != nil:
		return work.outcome(err)
	default:
		return c.say("cluster %s is gone", name)
	}
}

func (c *cli) previewDown(ctx context.Context) error {
	deps, err := c.deps()
	if err != nil {
		return err
	}
	p, err := apply.PreviewDown(ctx, deps)
	if errors.Is(err, state.ErrNoCluster) {
		return c.noCluster(deps.Spec.Cluster)
	}
	if err != nil {
		return err
	}
	return c.printPlan(p, false)
}

// say prints a line for people; programs have the events.
func (c *cli) say(format string, args ...any) error {
	if c.format != output.Table {
		return nil
	}
	_, err := fmt.Fprintf(c.out, format+"\n", args...)
	return err
}
