package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

const lockLong = `lock is the reboot lock: how many hosts of a group may stand still at once, and which do. Hosts wait for it in line before
they reboot and give it back when they are healthy again. No time ends a hold: a host that does not come back keeps its
place, and others wait, until it has left the cluster or an operator forces the lock.

Voters get it only if a quorum is left without them, never two of different providers at once, and the leader of etcd last.

  muster lock status                who holds it and who waits, and why
  muster lock status --history      who had it, when and why
  muster lock max 2                 let two hosts of the group default reboot at once; 0 lets nobody begin
  muster lock hold node-3           take a place, as for work on that host by hand
  muster lock release node-3        give it back
  muster lock release node-3 --force   take it from a host that does not come back; one that lives and wants it waits again

Hosts of any other system take part by FleetLock, on every voter: at https://VOTER:7400/fleetlock with a certificate of the
cluster, or without any at an address that /etc/muster/fleetlock.json of the voter opens: {"listen": "10.0.0.1:7480"}.
Whoever reaches that address may take places of groups that there are.`

func (c *cli) lockCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "lock", Short: "how many hosts may reboot at once", Long: lockLong, Args: cobra.ArbitraryArgs, RunE: group,
	}
	cmd.AddCommand(c.lockStatusCommand(), c.lockHoldCommand(), c.lockReleaseCommand(), c.lockMaxCommand())
	return cmd
}

func (c *cli) lockStatusCommand() *cobra.Command {
	history := false
	cmd := &cobra.Command{
		Use:               "status [GROUP]",
		Short:             "who holds the lock and who waits, and why",
		Args:              takes(0, 1, "the name of a group"),
		ValidArgsFunction: c.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			locks, err := f.Locks(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) > 0 {
				i := slices.IndexFunc(locks, func(l api.Lock) bool { return l.Group == args[0] })
				if i < 0 {
					return failed("`muster lock status` lists the groups", "nobody has used the lock of group `%s`", args[0])
				}
				locks = locks[i : i+1]
			}
			return output.Write(c.out, c.format, locks, func(w io.Writer) error { return writeLocks(w, locks, history) })
		},
	}
	cmd.Flags().BoolVar(&history, "history", false, "what happened to it instead, the oldest first")
	return cmd
}

func writeLocks(w io.Writer, locks []api.Lock, history bool) error {
	for i, l := range locks {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "group %s: %d of %d held, %d waiting\n", l.Group, len(l.Holders), l.Max, len(l.Waiting))
		g := &output.Grid{Columns: []string{"HOLDER", "STATE", "SINCE", "REASON"}}
		for _, h := range l.Holders {
			g.Add(cmp.Or(h.Host, h.ID), "holds ("+h.Kind+")", h.Since.Format(time.RFC3339), h.Reason)
		}
		for _, h := range l.Waiting {
			g.Add(cmp.Or(h.Host, h.ID), "waits", "", h.Reason)
		}
		if history {
			g = &output.Grid{Columns: []string{"TIME", "EVENT", "HOLDER", "BY", "REASON"}}
			for _, e := range l.History {
				g.Add(e.At.Format(time.RFC3339), e.What, cmp.Or(e.Host, e.ID), e.By, e.Reason)
			}
		}
		if len(g.Rows) == 0 {
			continue
		}
		if err := g.Write(w); err != nil {
			return err
		}
	}
	return nil
}

// lockFlags are those of the verbs that change a lock.
type lockFlags struct{ group, reason string }

func (c *cli) lockFlags(cmd *cobra.Command) *lockFlags {
	f := &lockFlags{}
	cmd.Flags().StringVarP(&f.group, "group", "g", "default", "`GROUP` of hosts")
	cmd.Flags().StringVar(&f.reason, "reason", "", "`WHY`, for the history")
	_ = cmd.RegisterFlagCompletionFunc("group", c.completeGroups)
	return f
}

func (c *cli) lockHoldCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "hold HOST|NAME",
		Short:             "take a place of the lock, until it is released",
		Args:              takes(1, 1, "the name of a host, or a word"),
		ValidArgsFunction: c.completeHosts,
	}
	flags := c.lockFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		order := api.LockOrder{Holder: args[0], Reason: flags.reason}
		return c.orderLock(cmd.Context(), flags.group, api.LockHold, order, args[0]+" holds the lock of group "+flags.group)
	}
	return cmd
}

func (c *cli) lockReleaseCommand() *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:               "release HOST|NAME",
		Short:             "give a place back that was held by hand, or with --force any",
		Args:              takes(1, 1, "the name of a host, or a word"),
		ValidArgsFunction: c.completeHosts,
	}
	flags := c.lockFlags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "take it from whoever holds it; for a host that does not come back")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if force && flags.reason == "" {
			return usage("say why: --reason 'its disk is broken'", "--force goes into the history with a reason")
		}
		order := api.LockOrder{Holder: args[0], Force: force, Reason: flags.reason}
		return c.orderLock(cmd.Context(), flags.group, api.LockRelease, order, args[0]+" holds the lock of group "+flags.group+" no more")
	}
	return cmd
}

func (c *cli) lockMaxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "max N",
		Short: "how many may hold the lock at once; 0 lets nobody begin",
		Args:  takes(1, 1, "a number"),
	}
	flags := c.lockFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		most, err := strconv.Atoi(args[0])
		if err != nil || most < 0 {
			return usage("give 0 or more", "`%s` is no number of hosts", args[0])
		}
		order := api.LockOrder{Max: most, Reason: flags.reason}
		return c.orderLock(cmd.Context(), flags.group, api.LockMax, order, fmt.Sprintf("up to %d may hold the lock of group %s", most, flags.group))
	}
	return cmd
}

func (c *cli) orderLock(ctx context.Context, group, verb string, order api.LockOrder, done string) error {
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	if err := f.OrderLock(ctx, group, verb, order); err != nil {
		return err
	}
	return c.say("%s", done)
}

// completeGroups offers the groups that have a lock.
func (c *cli) completeGroups(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	f, err := c.connect(cmd.Context())
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	locks, err := f.Locks(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var groups []string
	for _, l := range locks {
		groups = append(groups, l.Group)
	}
	return groups, cobra.ShellCompDirectiveNoFileComp
}
