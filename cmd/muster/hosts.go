package main

import (
	"context"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

func (c *cli) hostsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "hosts",
		Aliases: []string{"list-machines"},
		Short:   "the cluster's hosts: list, cordon, console, stop and start",
		Long: `hosts lists the cluster's hosts, as its voters know them. STATE tells how a host is (ready, lost, joining) or, of one
that is ready, what was ordered of it: cordoned (gets no more units), draining (gives them to others), drained (has none
left but global ones). UNITS is how many it has.

  muster hosts                  the list
  muster hosts -o json          the same for programs
  muster hosts cordon HOST...   keep new units away; muster drain gives units to others
  muster hosts uncordon HOST... take units again
  muster hosts console HOST     what a host says on its console
  muster hosts stop HOST...     power hosts off and keep them
  muster hosts start HOST...    power them on again`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return group(cmd, args)
			}
			return c.listHosts(cmd.Context())
		},
	}
	drain := c.drainCommand()
	drain.Hidden = true // for those who look for it beside cordon; it is `muster drain`
	cmd.AddCommand(c.cordonCommand(), c.uncordonCommand(), drain, c.consoleCommand(), c.stopHostsCommand(), c.startHostsCommand())
	return cmd
}

// listHosts prints the table of hosts.
func (c *cli) listHosts(ctx context.Context) error {
	_, s, err := c.overview(ctx)
	if err != nil {
		return err
	}
	c.warn(s)
	hosts := complete(s).Hosts
	return output.Write(c.out, c.format, hosts, func(w io.Writer) error {
		return hostsGrid(hosts, c.color(c.out)).Write(w)
	})
}

// hostsGrid is the table of hosts.
func hostsGrid(hosts []api.HostStatus, color bool) *output.Grid {
	g := &output.Grid{Columns: []string{"HOST", "PROVIDER", "ADDRESS", "STATE", "VOTER", "UNITS", "LABELS"}, Color: color}
	for _, h := range hosts {
		g.Add(h.Name, h.Provider, h.Address, stateWord(h), map[bool]string{true: "yes", false: "no"}[h.Voter],
			strconv.Itoa(h.Units), labels(h.Labels))
	}
	return g
}

// stateWord is how a host is, or what was ordered of one that is ready.
func stateWord(h api.HostStatus) string {
	switch {
	case h.Order == "":
		return h.State
	case h.State == api.HostReady:
		return h.Order
	}
	return h.State + ", " + h.Order
}

// labels renders labels as a=1,b=2.
func labels(l map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(l)) {
		pairs = append(pairs, key+"="+l[key])
	}
	return strings.Join(pairs, ",")
}
