package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

func (c *cli) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "why UNIT",
		Short:             "why a unit is where it is, or why it is nowhere",
		Args:              takes(1, 1, "the name of a unit"),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := matchUnits(args, nil)
			if err != nil {
				return err
			}
			if len(names) != 1 {
				return usage("name one", "`%s` explains one unit at a time", cmd.CommandPath())
			}
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			why, err := f.Why(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return output.Write(c.out, c.format, why, func(w io.Writer) error { return writeWhy(w, why, c.color(c.out)) })
		},
	}
}

func writeWhy(w io.Writer, why api.Why, color bool) error {
	state := why.State
	if color {
		state = output.Paint(state)
	}
	fmt.Fprintf(w, "%s is %s", why.Unit, state)
	if why.Host != "" {
		fmt.Fprintf(w, " on %s", why.Host)
	}
	if why.Reason != "" {
		fmt.Fprintf(w, ": %s", why.Reason)
	}
	fmt.Fprintln(w)
	if why.Rollout != "" {
		fmt.Fprintln(w, why.Rollout)
	}
	if len(why.Hosts) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	g := output.Grid{Columns: []string{"HOST", "FITS", "REASON"}}
	for _, h := range why.Hosts {
		g.Add(h.Host, map[bool]string{true: "yes", false: "no"}[h.Fits], h.Reason)
	}
	return g.Write(w)
}
