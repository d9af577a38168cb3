package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

func (c *cli) stopCommand() *cobra.Command {
	return c.unitVerb(unitVerb{
		use:   "stop UNIT...",
		short: "stop units and leave them on their hosts",
		long: `stop stops units and leaves them on their hosts. A unit that has none, being inactive, cannot be stopped; those that a
pattern matches are left alone.`,
		change: func(ctx context.Context, args []string, flags waitFlags) error {
			return c.desire(ctx, args, store.DesiredLoaded, goalStopped, flags)
		},
	})
}

func (c *cli) unloadCommand() *cobra.Command {
	return c.unitVerb(unitVerb{
		use:   "unload UNIT...",
		short: "stop units and take them off their hosts",
		change: func(ctx context.Context, args []string, flags waitFlags) error {
			return c.desire(ctx, args, store.DesiredInactive, goalIdle, flags)
		},
	})
}

// desire asks for less of units that the cluster has. What is inactive already stays so.
func (c *cli) desire(ctx context.Context, args []string, desired store.Desired, g goal, flags waitFlags) error {
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	names, err := c.namedActive(ctx, f, args)
	if err != nil {
		return err
	}
	// A name that is not known would come into being from its template; stopping it must not do that.
	done, err := each(ctx, names, func(ctx context.Context, name string) error {
		u, err := f.Unit(ctx, name)
		if err != nil {
			return fmt.Errorf("cannot set %s to %s: %w", name, desired, err)
		}
		if u.Desired == string(store.DesiredInactive) && desired == store.DesiredLoaded {
			return failed("`muster units load "+name+"` gives it a host", "cannot stop %s: it is %s", name, u.Desired)
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

// namedActive is named without those units that only patterns match and that are inactive: nothing is left to be done
// with them, and some are templates.
func (c *cli) namedActive(ctx context.Context, f fleet, args []string) ([]string, error) {
	plain := slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return hasPattern([]string{arg}) })
	if len(plain) == len(args) {
		return matchUnits(args, nil)
	}
	units, err := f.Units(ctx)
	if err != nil {
		return nil, err
	}
	var known []string
	idle := map[string]bool{}
	for _, u := range units {
		known = append(known, u.Name)
		idle[u.Name] = u.Desired == string(store.DesiredInactive)
	}
	named, err := matchUnits(plain, nil)
	if err != nil {
		return nil, err
	}
	all, err := matchUnits(args, known)
	return slices.DeleteFunc(all, func(name string) bool { return idle[name] && !slices.Contains(named, name) }), err
}
