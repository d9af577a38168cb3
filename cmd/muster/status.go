package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cmd/muster/output"
)

const statusLong = `status tells how the cluster does: its voters, hosts and units, and what is wrong.

-o json prints one object of a shape that does not change:

  cluster                                the cluster's name
  voters   total, healthy, leader        of etcd
           changes[] (at, host, did, reason), waits   the last changes of who votes, and what the next waits for
  hosts[]  name, provider, address, state (ready, lost, joining), voter, labels, units (how many it has)
           order (cordoned, draining, drained), ordered_at, deadline, remaining (units that have still to leave)
  units[]  name, host, state, desired, reason
           state: running, exited, starting, stopping, stopped, pending, failed, unknown, inactive
           desired: launched, loaded, inactive
  warnings[], stale                      what is wrong; true when the answer is from a host that is cut off`

func (c *cli) statusCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "how the cluster does: voters, hosts, units",
		Long:  statusLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			f, err := c.connect(ctx)
			if err != nil {
				return err
			}
			if watch {
				return c.watchStatus(ctx, f)
			}
			s, err := f.Status(ctx)
			if err != nil {
				return err
			}
			return c.printStatus(s)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with every change")
	return cmd
}

func (c *cli) printStatus(s api.Status) error {
	return output.Write(c.out, c.format, complete(s), func(w io.Writer) error { return writeStatus(w, s, c.color(c.out)) })
}

// watchStatus prints the status again after every change: in place on a terminal, else one after the other.
func (c *cli) watchStatus(ctx context.Context, f fleet) error {
	var printErr error
	err := f.WatchStatus(ctx, func(s api.Status) bool {
		if c.format == output.Table && isTerminal(c.out) {
			fmt.Fprint(c.out, "\x1b[H\x1b[2J") // cursor home, erase in display (ECMA-48 8.3.21, 8.3.39)
		}
		printErr = c.printStatus(s)
		return printErr == nil
	})
	switch {
	case printErr != nil:
		return printErr
	case ctx.Err() != nil:
		return nil // ^C is how watching ends
	default:
		return err
	}
}

// complete has empty lists and labels where s has none, so that programs always find lists and objects.
func complete(s api.Status) api.Status {
	s.Hosts = append([]api.HostStatus{}, s.Hosts...)
	for i := range s.Hosts {
		if s.Hosts[i].Labels == nil {
			s.Hosts[i].Labels = map[string]string{}
		}
	}
	if s.Units == nil {
		s.Units = []api.UnitStatus{}
	}
	return s
}

func writeStatus(w io.Writer, s api.Status, color bool) error {
	fmt.Fprintln(w, headline(s))
	if s.Stale {
		writeWarning(w, "this is from a host that is cut off from the voters and may be old", color)
	}
	for _, warning := range s.Warnings {
		writeWarning(w, warning, color)
	}
	writeVoters(w, s)
	fmt.Fprintln(w)
	if err := hostsGrid(s.Hosts, color).Write(w); err != nil {
		return err
	}
	if len(s.Units) == 0 {
		fmt.Fprintln(w, "\nno units; start one with `muster units start FILE`")
		return nil
	}
	fmt.Fprintln(w)
	return unitsGrid(s, color).Write(w)
}

// recent is how long the last change of who votes is told of.
const recent = time.Hour

// writeVoters tells how the voters change, or have changed of late.
func writeVoters(w io.Writer, s api.Status) {
	for _, h := range s.Hosts {
		if h.Appointed {
			fmt.Fprintf(w, "voters: %s becomes one\n", h.Name)
		}
	}
	if s.Voters.Waits != "" {
		fmt.Fprintf(w, "voters: %s\n", s.Voters.Waits)
	}
	for _, c := range s.Voters.Changes {
		if ago := time.Since(c.At); ago < recent {
			fmt.Fprintf(w, "voters: %s %s, %s ago: %s\n", c.Host, c.Did, ago.Truncate(time.Second), c.Reason)
		}
	}
}

// headline is the whole cluster in a line.
func headline(s api.Status) string {
	ready := 0
	for _, h := range s.Hosts {
		if h.State == api.HostReady {
			ready++
		}
	}
	running, wanted := 0, 0
	for _, u := range s.Units {
		if u.Desired != string(store.DesiredLaunched) {
			continue
		}
		wanted++
		if u.State == api.UnitRunning || u.State == api.UnitExited {
			running++
		}
	}
	line := fmt.Sprintf("cluster %s: %d of %d hosts ready, %d of %d voters healthy",
		s.Cluster, ready, len(s.Hosts), s.Voters.Healthy, s.Voters.Total)
	if s.Voters.Leader != "" {
		line += fmt.Sprintf(" (leader %s)", s.Voters.Leader)
	}
	return line + fmt.Sprintf(", %d of %d units running", running, wanted)
}

// warn prints a status's warnings to standard error, for verbs that show a part of it.
func (c *cli) warn(s api.Status) {
	for _, warning := range s.Warnings {
		writeWarning(c.err, warning, c.color(c.err))
	}
}

func writeWarning(w io.Writer, text string, color bool) {
	word := "warning"
	if color {
		word = output.Paint(word)
	}
	fmt.Fprintf(w, "%s: %s\n", word, text)
}
