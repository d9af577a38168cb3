package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

func (c *cli) startCommand() *cobra.Command {
	return c.unitVerb(unitVerb{
		use:   "start UNIT|FILE...",
		short: "give units a host and run them there",
		long: `start gives units a host and runs them there, and waits until they run. Files are submitted first; a template among
them that asks for no replicas is only stored, for the instances beside it to be made from. Starting what runs already
changes nothing.`,
		example: "  muster units start units/db.service\n" +
			"  muster units start units/web@{1..6}.service     # from units/web@.service\n" +
			"  muster units start web@7                        # from the template in the cluster",
		files: true,
		change: func(ctx context.Context, args []string, flags waitFlags) error {
			return c.launch(ctx, args, store.DesiredLaunched, goalRunning, flags)
		},
	})
}

func (c *cli) loadCommand() *cobra.Command {
	return c.unitVerb(unitVerb{
		use:   "load UNIT|FILE...",
		short: "give units a host, without running them",
		files: true,
		change: func(ctx context.Context, args []string, flags waitFlags) error {
			return c.launch(ctx, args, store.DesiredLoaded, goalLoaded, flags)
		},
	})
}

// launch submits the files among the arguments and asks for a desired state of every unit that is not a mere template.
func (c *cli) launch(ctx context.Context, args []string, desired store.Desired, g goal, flags waitFlags) error {
	units, err := unitArgs(args)
	if err != nil {
		return err
	}
	templates, wanted, err := c.split(units, desired)
	if err != nil {
		return err
	}
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	var replaced atomic.Bool
	put := func(ctx context.Context, u api.Unit) error {
		outcome, err := f.PutUnit(ctx, u)
		if err != nil {
			return fmt.Errorf("cannot set %s to %s: %w", u.Name, desired, err)
		}
		if outcome == api.Changed && u.Content != "" {
			replaced.Store(true)
		}
		return nil
	}
	if _, err := each(ctx, templates, put); err != nil {
		return err
	}
	done, err := each(ctx, wanted, put)
	if err != nil {
		return some(done, err)
	}
	if replaced.Load() {
		if err := c.tellBegun(ctx, f, slices.Concat(templates, wanted)); err != nil {
			return err
		}
	}
	names := make([]string, len(wanted))
	for i, u := range wanted {
		names[i] = u.Name
	}
	return c.settle(ctx, f, names, g, flags)
}

// split reads the files and tells templates, which are only stored, from units, which get a desired state: templates with
// replicas too, and those that only the cluster has, which knows whether they have any.
func (c *cli) split(units []unitArg, desired store.Desired) (templates, wanted []api.Unit, err error) {
	files, err := c.readUnits(units)
	if err != nil {
		return nil, nil, err
	}
	content := map[string]string{}
	for _, file := range files {
		content[file.Name] = file.Content
		if isMere(file) {
			templates = append(templates, file)
		}
	}
	for _, u := range units {
		unit := api.Unit{Name: u.name, Content: content[u.name], Desired: string(desired)}
		if unit.Content == "" || !isMere(unit) {
			wanted = append(wanted, unit)
		}
	}
	if len(wanted) == 0 {
		return nil, nil, usage("name instances, like web@{1..3}, or write Replicas=3 below [X-Muster] in its file; "+
			"`muster units submit` only stores a template", "a template without replicas cannot be started itself")
	}
	return templates, wanted, nil
}

// isMere says whether a file is of a template that asks for no replicas.
func isMere(u api.Unit) bool {
	if !unitfile.IsTemplate(u.Name) {
		return false
	}
	file, _, err := unitfile.Parse(u.Name, []byte(u.Content))
	return err != nil || !file.Muster(u.Name).Replicated
}
