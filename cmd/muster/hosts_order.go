package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cmd/muster/output"
)

const cordonLong = `cordon keeps new units away from hosts. What they have stays there; a host that was being drained stops giving its units
away. ` + "`muster hosts uncordon`" + ` ends it.`

const uncordonLong = `uncordon lets hosts take units again that were cordoned or drained. New units go to them first, since they have the
fewest. What has moved away stays where it is: ` + "`muster rebalance`" + ` moves some of it back.`

func (c *cli) cordonCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "cordon HOST...",
		Short:             "keep new units away from hosts",
		Long:              cordonLong,
		Args:              takes(1, -1, "the name of a host"),
		ValidArgsFunction: c.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.orderAndTell(cmd.Context(), args, api.HostOrder{Order: string(store.OrderCordon)},
				said{"cordoned", "was cordoned already"})
		},
	}
}

func (c *cli) uncordonCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "uncordon HOST...",
		Short:             "let hosts take units again that were cordoned or drained",
		Long:              uncordonLong,
		Args:              takes(1, -1, "the name of a host"),
		ValidArgsFunction: c.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.orderAndTell(cmd.Context(), args, api.HostOrder{}, said{"takes units again", "takes units already"})
		},
	}
}

// said is how to tell what became of a host.
type said struct{ changed, unchanged string }

// order gives hosts an order and tells what became of each. It returns the hosts as they were before.
func (c *cli) order(ctx context.Context, names []string, order api.HostOrder, words said) (fleet, []api.HostStatus, error) {
	f, s, err := c.overview(ctx)
	if err != nil {
		return nil, nil, err
	}
	hosts, err := hostsNamed(s, names)
	if err != nil {
		return nil, nil, err
	}
	told := make([]string, len(hosts))
	done, err := each(ctx, slices.Collect(indexes(hosts)), func(ctx context.Context, i int) error {
		outcome, err := f.OrderHost(ctx, hosts[i].ID, order)
		if told[i] = words.changed; outcome == api.Unchanged {
			told[i] = words.unchanged
		}
		if err != nil {
			told[i] = ""
			return fmt.Errorf("%s: %w", hosts[i].Name, err)
		}
		return nil
	})
	for i, h := range hosts {
		if told[i] != "" {
			err = errors.Join(err, c.say("%s: %s", h.Name, told[i]))
		}
	}
	if err != nil && done > 0 {
		err = partial("run the same command again to go on", "%w", err)
	}
	return f, hosts, err
}

func (c *cli) orderAndTell(ctx context.Context, names []string, order api.HostOrder, words said) error {
	f, hosts, err := c.order(ctx, names, order, words)
	if err != nil {
		return err
	}
	return c.writeHosts(ctx, f, hosts)
}

func indexes[T any](list []T) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range list {
			if !yield(i) {
				return
			}
		}
	}
}

// writeHosts prints some hosts as they are now, for programs.
func (c *cli) writeHosts(ctx context.Context, f fleet, hosts []api.HostStatus) error {
	if c.format == output.Table {
		return nil
	}
	s, err := f.Status(ctx)
	if err != nil {
		return err
	}
	return output.Write(c.out, c.format, hostsIn(complete(s), hosts), nil)
}

// hostsIn is how hosts are by a later status, those that it has.
func hostsIn(s api.Status, hosts []api.HostStatus) []api.HostStatus {
	list := []api.HostStatus{}
	for _, h := range hosts {
		if i := slices.IndexFunc(s.Hosts, func(now api.HostStatus) bool { return now.ID == h.ID }); i >= 0 {
			list = append(list, s.Hosts[i])
		}
	}
	return list
}

// hostsNamed finds hosts by their names, each once, of several generations the last.
func hostsNamed(s api.Status, names []string) ([]api.HostStatus, error) {
	byName := map[string]api.HostStatus{}
	var known []string
	for _, h := range s.Hosts {
		if was, twice := byName[h.Name]; !twice || h.Generation > was.Generation {
			byName[h.Name] = h
		}
		known = append(known, h.Name)
	}
	var hosts []api.HostStatus
	for _, name := range names {
		h, ok := byName[name]
		if !ok {
			hint := finding.DidYouMean(name, known)
			if hint == "" {
				hint = "there are " + few(known)
			}
			return nil, usage(hint, "the cluster has no host `%s`", name)
		}
		if !slices.ContainsFunc(hosts, func(other api.HostStatus) bool { return other.ID == h.ID }) {
			hosts = append(hosts, h)
		}
	}
	return hosts, nil
}
