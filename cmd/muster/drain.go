package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cmd/muster/output"
)

const drainLong = `drain gives the units of hosts to others, before they are stopped, updated or taken away. A drained host gets no more
units until ` + "`muster hosts uncordon`" + `. Global units stay: they run wherever they may.

A unit that fits nowhere else keeps running where it is, and ` + "`muster why UNIT`" + ` tells why; with --deadline only so long, and
then it stops and waits for a host. The deadline is kept by the cluster: nothing has to wait for it here.

Only units move. A voter goes on voting when it is drained, and the majority stays what it was.

--wait returns when nothing is left on the hosts to be moved; without it, drain returns at once.`

// drainFlags are those of drain.
type drainFlags struct {
	deadline time.Duration
	limited  bool // a deadline was given
	wait     bool
	timeout  time.Duration
}

func (c *cli) drainCommand() *cobra.Command {
	var flags drainFlags
	cmd := &cobra.Command{
		Use:               "drain HOST...",
		Short:             "give the units of hosts to others",
		Long:              drainLong,
		Args:              takes(1, -1, "the name of a host"),
		ValidArgsFunction: c.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			flags.limited = cmd.Flags().Changed("deadline")
			return c.drain(cmd.Context(), args, flags)
		},
	}
	cmd.Flags().DurationVar(&flags.deadline, "deadline", 0, "how long units that fit nowhere else may stay; without it, for ever")
	cmd.Flags().BoolVar(&flags.wait, "wait", false, "wait until the hosts are empty")
	cmd.Flags().DurationVar(&flags.timeout, "timeout", 10*time.Minute, "how long to wait, counted from the deadline if there is one")
	return cmd
}

func (c *cli) drain(ctx context.Context, names []string, flags drainFlags) error {
	order := api.HostOrder{Order: string(store.OrderDrain)}
	words := said{"is being drained", "was being drained already"}
	if flags.limited {
		if flags.deadline < 0 {
			return usage("--deadline 10m, or 0s for at once", "a deadline in the past")
		}
		order.Within = &flags.deadline
		words.changed += fmt.Sprintf("; what fits nowhere else stops in %v", flags.deadline)
		flags.timeout += flags.deadline
	}
	f, hosts, err := c.order(ctx, names, order, words)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if h.Voter {
			if err := c.say("%s goes on voting: only its units move", h.Name); err != nil {
				return err
			}
		}
	}
	if flags.wait {
		err = c.awaitEmpty(ctx, f, hosts, flags.timeout)
	} else {
		err = c.say("`muster hosts%s` tells what is left on %s; --wait waits for it", c.fileFlag(), few(hostNamesOf(hosts)))
	}
	return errors.Join(err, c.writeHosts(ctx, f, hosts))
}

func hostNamesOf(hosts []api.HostStatus) []string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name
	}
	return names
}

// awaitEmpty waits until hosts that are being drained are empty.
func (c *cli) awaitEmpty(ctx context.Context, f fleet, hosts []api.HostStatus, timeout time.Duration) error {
	d := &draining{cli: c, hosts: hosts, told: map[string]string{}}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	statuses := make(chan api.Status)
	watch := make(chan error, 1)
	var following sync.WaitGroup
	following.Go(func() { watch <- follow(bounded, f, statuses) })
	err := d.run(statuses, watch)
	cancel()
	following.Wait()
	d.end()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	default:
		return d.result(timeout)
	}
}

// draining follows hosts until they are empty and tells how they come along.
type draining struct {
	cli   *cli
	hosts []api.HostStatus // as last seen
	gone  []string         // that left the cluster meanwhile: they are empty too
	last  api.Status
	told  map[string]string
	drawn bool // a line of a terminal is being drawn anew
}

func (d *draining) run(statuses <-chan api.Status, watch <-chan error) error {
	for {
		select {
		case s := <-statuses:
			if d.look(s) {
				return nil
			}
		case err := <-watch:
			return err
		}
	}
}

// look takes in a status and reports whether there is nothing left to wait for.
func (d *draining) look(s api.Status) (done bool) {
	if s.Stale {
		return false // from before the order, perhaps
	}
	d.last, done = s, true
	now := hostsIn(s, d.hosts)
	if len(now) < len(d.hosts) {
		for _, h := range d.hosts {
			if !slices.ContainsFunc(now, func(n api.HostStatus) bool { return n.ID == h.ID }) {
				d.gone = append(d.gone, h.Name)
			}
		}
	}
	d.hosts = now
	for _, h := range d.hosts {
		done = done && h.Order != api.OrderDraining
	}
	d.show()
	return done
}

// show tells what has changed: on a terminal in one line that is drawn anew, elsewhere in a line for each host.
func (d *draining) show() {
	c := d.cli
	if c.format == output.Table && isTerminal(c.out) {
		var parts []string
		for _, h := range d.hosts {
			parts = append(parts, h.Name+": "+progressOf(h))
		}
		fmt.Fprintf(c.out, "\r\x1b[K%s", strings.Join(parts, ", ")) // ECMA-48 8.3.41, erase in line
		d.drawn = true
		return
	}
	for _, h := range d.hosts {
		if text := progressOf(h); d.told[h.ID] != text {
			d.told[h.ID] = text
			fmt.Fprintf(c.lines(), "%s: %s\n", h.Name, text)
		}
	}
}

func (d *draining) end() {
	if d.drawn {
		fmt.Fprintln(d.cli.out)
	}
}

func progressOf(h api.HostStatus) string {
	switch h.Order {
	case api.OrderDraining:
		return count(h.Remaining, "unit") + " left"
	case api.OrderDrained:
		return "drained"
	}
	return "not being drained any more"
}

// result is nil when every host is empty.
func (d *draining) result(timeout time.Duration) error {
	var late, other, left []string
	for _, h := range d.hosts {
		switch h.Order {
		case api.OrderDrained:
		case api.OrderDraining:
			late = append(late, h.Name)
			left = append(left, d.unitsOn(h.Name)...)
		default:
			other = append(other, h.Name)
		}
	}
	var err error
	switch hint := "it goes on without this command; `muster hosts` tells what is left"; {
	case len(late)+len(other) == 0:
		return nil
	case len(late) == 0:
		err = failed("somebody else changed the order meanwhile; run the same command again", "%s not drained", few(other))
	case len(left) > 0:
		hint = fmt.Sprintf("it goes on without this command; `muster why %s` tells what it waits for", left[0])
		err = failed(hint, "%s not empty after %v: %s left", few(late), timeout, few(left))
	default:
		err = failed(hint, "%s not empty after %v", few(late), timeout)
	}
	if known := (*failure)(nil); len(late)+len(other) < len(d.hosts)+len(d.gone) && errors.As(err, &known) {
		known.status = statusPartial
	}
	return err
}

// unitsOn names the units that a host still has, as far as they are listed.
func (d *draining) unitsOn(host string) []string {
	on := map[string][]string{}
	for _, u := range d.last.Units {
		if u.Host != "" {
			on[u.Name] = append(on[u.Name], u.Host)
		}
	}
	var names []string
	for _, u := range d.last.Units {
		if u.Host == host && len(on[u.Name]) == 1 { // of several hosts it is most likely global
			names = append(names, u.Name)
		}
	}
	return names
}
