package main

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/spec"
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
	return c.printPlan(p, all)
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

// checkUnits tells what is wrong with the unit files of a cluster file, which only the voters would find out else. An
// instance has the same mistakes as its template, and they are told once.
func (c *cli) checkUnits(units []spec.Unit) error {
	var mistakes finding.Findings
	said := make(map[string]bool)
	for _, u := range units {
		warnings, found := readUnit(u.Name, u.File, u.Content)
		for _, w := range fresh(said, warnings) {
			writeWarning(c.err, w.Error(), c.color(c.err))
		}
		mistakes = append(mistakes, fresh(said, found)...)
	}
	return mistakes.Err()
}

// fresh are the findings that were not said before.
func fresh(said map[string]bool, found finding.Findings) finding.Findings {
	return slices.DeleteFunc(found, func(f finding.Finding) bool {
		before := said[f.Error()]
		said[f.Error()] = true
		return before
	})
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
