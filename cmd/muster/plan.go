package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cmd/muster/output"
)

func (c *cli) planCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "what `up` would do, and why; nothing is changed",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.preview(cmd.Context(), all)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "show the hosts that stay as they are too")
	return cmd
}

// preview prints what `up` would do.
func (c *cli) preview(ctx context.Context, all bool) error {
	deps, err := c.wantedDeps()
	if err != nil {
		return err
	}
	p, err := apply.Preview(ctx, deps)
	if err != nil {
		return err
	}
	if err := c.printPlan(p, all); err != nil || c.format != output.Table {
		return err
	}
	return writeUnitsLine(c.out, deps.Spec.Units)
}

func (c *cli) printPlan(p plan.Plan, all bool) error {
	return output.Write(c.out, c.format, p, func(w io.Writer) error {
		return writePlan(w, p, planView{all: all, color: c.color(c.out)})
	})
}

// wantedDeps are deps for verbs that make what the cluster file says: its units are checked too, and there must be a
// musterd for the hosts.
func (c *cli) wantedDeps() (apply.Deps, error) {
	deps, err := c.deps()
	if err != nil {
		return deps, err
	}
	if err := c.checkUnits(deps.Spec.Units); err != nil {
		return deps, err
	}
	return deps, c.deliverMusterd(&deps)
}

// deps is what cluster/apply works with.
func (c *cli) deps() (apply.Deps, error) {
	s, err := c.loadSpec()
	if err != nil {
		return apply.Deps{}, err
	}
	parent, err := stateParent()
	if err != nil {
		return apply.Deps{}, err
	}
	opened, err := c.openProviders(s)
	if err != nil {
		return apply.Deps{}, err
	}
	return apply.Deps{Spec: s, StateDir: parent, Providers: opened, Connect: connectFleet, Log: c.log(), Now: c.now}, nil
}
