package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

const rebalanceLong = `rebalance moves units from hosts that have many to hosts that have few, where every rule allows it and each move is a
gain: instances more evenly spread, units more evenly distributed, less reserved of a full host. It prints what moves, and
why.

The cluster makes the moves, some at a time, and goes on when what moved runs again; nothing has to wait for it here. It
stops when something does not. When hosts join it does so by itself, as ` + "`rebalance:`" + ` of the cluster file says.

  muster rebalance --dry-run        what would move
  muster rebalance --max-moves 10   move at most ten`

func (c *cli) rebalanceCommand() *cobra.Command {
	dryRun, maxMoves := false, 0
	cmd := &cobra.Command{
		Use:   "rebalance",
		Short: "move units to hosts that have fewer",
		Long:  rebalanceLong,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if maxMoves < 0 {
				return usage("give a number of moves, or 0 for all that gain something", "--max-moves %d", maxMoves)
			}
			return c.rebalance(cmd.Context(), dryRun, maxMoves)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would move, and move nothing")
	cmd.Flags().IntVar(&maxMoves, "max-moves", 0, "move at most so many `UNITS`, 0 for all that gain something")
	return cmd
}

func (c *cli) rebalance(ctx context.Context, dryRun bool, maxMoves int) error {
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	r, err := f.Rebalance(ctx, maxMoves)
	if err != nil {
		return err
	}
	if r.Moves == nil {
		r.Moves = []api.Move{}
	}
	if !dryRun && len(r.Moves) > 0 {
		if err := f.OrderRebalance(ctx, api.RebalanceOrder{MaxMoves: maxMoves}); err != nil {
			return err
		}
		r.Active = true
	}
	return output.Write(c.out, c.format, r, func(w io.Writer) error { return writeRebalance(w, r, dryRun) })
}

func writeRebalance(w io.Writer, r api.Rebalance, dryRun bool) error {
	if r.Stopped != "" && dryRun {
		fmt.Fprintf(w, "the last rebalancing (%s) stopped: %s\n", r.Cause, r.Stopped)
	}
	if len(r.Moves) == 0 {
		_, err := fmt.Fprintln(w, "nothing to move: no move would be a gain")
		return err
	}
	g := &output.Grid{Columns: []string{"UNIT", "INSTANCES", "FROM", "TO", "REASON"}}
	for _, m := range r.Moves {
		g.Add(m.Unit, m.Instances, m.From, m.To, m.Reason)
	}
	if err := g.Write(w); err != nil {
		return err
	}
	var err error
	if !dryRun {
		_, err = fmt.Fprintln(w, "\nthe cluster moves them, some at a time; `muster rebalance --dry-run` tells what is left")
	}
	return err
}
