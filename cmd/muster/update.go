package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

const updateLong = `update tells how hosts take new releases, and commands it. The cluster file says from where:

  update:
    source: [https://releases.example.org/muster] # what ` + "`muster release`" + ` makes, on any server
    root: root.json                               # by which everything from there is verified
    channel: stable                               # or alpha, beta
    max: 2                                        # hosts that may reboot at once
    windows: ["Mon,Thu 23:00 2h Europe/Berlin"]   # when hosts may begin; days and time zone may be left out
    canaries: {ring: canary}                      # hosts with these labels go first,
    soak: 24h                                     # and the others so long after all of them are well with it,
    per_hour: 10                                  # so many percent of them in an hour
    failures: 1                                   # hosts on which a release may fail without the others stopping
    engine: agent                                 # or ab, dir, exec; each host finds its own
    interval: 10m                                 # how often hosts ask for releases
    drain: 5m                                     # how long units may take to move away
    health: {within: 5m, checks: [/opt/check]}    # how soon a host must be well, and commands that tell whether it is
    allow_outage: false                           # true: one or two voters may reboot, which stops the shared state

Only source and root must be there. A host fetches a release, verifies it, writes it beside the one that it runs, waits until it may and for the reboot lock, gives
its units to others, and reboots. When it is a member again, votes if it is a voter, runs its units, and the operator's checks
succeed, the release is good and the lock goes to the next host. Otherwise the host falls back by itself, keeps the lock, and
the rollout is held: nobody goes on until an operator says so with resume. With failures: N so many hosts give the lock back and
the others go on. A host that is lost while it boots a release counts as one on which it failed.`

func (c *cli) updateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "update", Short: "new releases on hosts", Long: updateLong, Args: cobra.ArbitraryArgs, RunE: group,
	}
	cmd.AddCommand(c.updateStatusCommand(), c.updateNowCommand(), c.updatePinCommand(), c.updateHistoryCommand(),
		c.updateVerb(api.UpdatePause, "let no host begin until it is resumed", "no host begins until `muster update resume`"),
		c.updateVerb(api.UpdateResume, "go on after a pause, or after a release failed on a host", "hosts go on"))
	return cmd
}

func (c *cli) updateStatusCommand() *cobra.Command {
	watch := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "what every host runs, and how far it is with the next release",
		Args:  takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			if watch {
				return c.watchUpdate(cmd.Context(), f)
			}
			u, err := f.Update(cmd.Context())
			if err != nil {
				return err
			}
			return c.writeUpdate(u)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with every change")
	return cmd
}

func (c *cli) writeUpdate(u api.Update) error {
	return output.Write(c.out, c.format, u, func(w io.Writer) error { return c.updateTable(w, u) })
}

func (c *cli) updateTable(w io.Writer, u api.Update) error {
	switch {
	case !u.Enabled:
		fmt.Fprintln(w, "hosts do not update: the cluster file has no update.source; see `muster help update`")
	case u.Hold != nil:
		fmt.Fprintf(w, "held since %s: release %s failed on %s: %s\n`muster update resume` goes on; with `muster update now %s` it tries that release again\n",
			u.Hold.At.Format(time.RFC3339), u.Hold.Version, u.Hold.Host, u.Hold.Reason, u.Hold.Host)
	case u.Paused:
		fmt.Fprintln(w, "paused; `muster update resume` goes on")
	}
	if u.Pin != "" {
		fmt.Fprintf(w, "pinned to %s\n", u.Pin)
	}
	if sum := rolloutSum(u); sum != "" {
		fmt.Fprintln(w, sum)
	}
	g := output.Grid{Columns: []string{"HOST", "RUNS", "PHASE", "TARGET", "SINCE", "REASON"}, Color: c.color(w)}
	for _, h := range u.Hosts {
		since := ""
		if h.Busy() {
			since = h.Since.Format(time.RFC3339)
		}
		g.Add(h.Host, cmp.Or(h.Version, "?"), h.Phase, h.Target, since, h.Reason)
	}
	return g.Write(w)
}

// updateEvery is how often the view of a rollout is drawn anew.
const updateEvery = time.Second

// watchUpdate prints how far hosts are whenever that has changed: in place on a terminal, elsewhere a line for each host that has.
func (c *cli) watchUpdate(ctx context.Context, f fleet) error {
	var last api.Update
	tick := time.NewTicker(updateEvery)
	defer tick.Stop()
	for {
		u, err := f.Update(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // ^C is how watching ends
		case err != nil:
			return err
		case !reflect.DeepEqual(u, last):
			if err := c.tellUpdate(last, u); err != nil {
				return err
			}
			last = u
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *cli) tellUpdate(was, is api.Update) error {
	switch {
	case c.format != output.Table:
		return c.writeUpdate(is)
	case isTerminal(c.out):
		fmt.Fprint(c.out, "\x1b[H\x1b[2J") // cursor home, erase in display (ECMA-48 8.3.21, 8.3.39)
		return c.writeUpdate(is)
	}
	before := map[string]api.UpdateHost{}
	for _, h := range was.Hosts {
		before[h.Host] = h
	}
	for _, h := range is.Hosts {
		if before[h.Host] != h {
			line := fmt.Sprintf("%s runs %s: %s %s %s", h.Host, cmp.Or(h.Version, "?"), cmp.Or(h.Phase, "unknown"), h.Target, h.Reason)
			fmt.Fprintln(c.out, strings.TrimRight(line, " "))
		}
	}
	if sum := rolloutSum(is); sum != "" && sum != rolloutSum(was) {
		fmt.Fprintln(c.out, sum)
	}
	if is.Hold != nil && was.Hold == nil {
		fmt.Fprintf(c.out, "held: release %s failed on %s: %s\n", is.Hold.Version, is.Hold.Host, is.Hold.Reason)
	}
	return nil
}

func (c *cli) updateNowCommand() *cobra.Command {
	reason := ""
	cmd := &cobra.Command{
		Use:               "now [HOST...]",
		Short:             "have hosts, or all, look for releases at once, and try again what failed there",
		Args:              takes(0, -1, "the name of a host"),
		ValidArgsFunction: c.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.orderUpdate(cmd.Context(), api.UpdateNow, api.UpdateOrder{Hosts: args, Reason: reason}, "`muster update status --watch` shows how they do")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, for the history")
	return cmd
}

func (c *cli) updatePinCommand() *cobra.Command {
	reason := ""
	cmd := &cobra.Command{
		Use:   "pin VERSION|none",
		Short: "have hosts take one release and no other; none: any again",
		Long: `pin has hosts take one release and no other. Hosts that run a newer one keep it: no host goes back to an older release than was
good on it. ` + "`muster update pin none`" + ` takes the pin away.`,
		Args: takes(1, 1, "a version, or none"),
		RunE: func(cmd *cobra.Command, args []string) error {
			order, done := api.UpdateOrder{Version: args[0], Reason: reason}, "hosts take release "+args[0]+" and no other"
			if args[0] == "none" {
				order.Version, done = "", "hosts take any release of their channel"
			}
			return c.orderUpdate(cmd.Context(), api.UpdatePin, order, done)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, for the history")
	return cmd
}

func (c *cli) updateVerb(verb, short, done string) *cobra.Command {
	reason := ""
	cmd := &cobra.Command{
		Use:   verb,
		Short: short,
		Args:  takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.orderUpdate(cmd.Context(), verb, api.UpdateOrder{Reason: reason}, done)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, for the history")
	return cmd
}

func (c *cli) orderUpdate(ctx context.Context, verb string, order api.UpdateOrder, done string) error {
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	if err := f.OrderUpdate(ctx, verb, order); err != nil {
		return err
	}
	return c.say("%s", done)
}

func (c *cli) updateHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "history [HOST]",
		Short:             "what became of releases, and what operators ordered; the oldest first",
		Args:              takes(0, 1, "the name of a host"),
		ValidArgsFunction: c.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			u, err := f.Update(cmd.Context())
			if err != nil {
				return err
			}
			events := []api.UpdateEvent{}
			for _, e := range u.History {
				if len(args) == 0 || e.Host == args[0] || e.By == args[0] {
					events = append(events, e)
				}
			}
			return output.Write(c.out, c.format, events, func(w io.Writer) error {
				g := output.Grid{Columns: []string{"TIME", "EVENT", "HOST", "FROM", "TO", "BY", "REASON"}}
				for _, e := range events {
					g.Add(e.At.Format(time.RFC3339), e.What, e.Host, e.From, e.To, e.By, e.Reason)
				}
				return g.Write(w)
			})
		},
	}
}
