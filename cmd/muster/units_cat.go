package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

func (c *cli) catCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "cat UNIT...",
		Short:             "print the files of units as the cluster has them",
		Args:              takes(1, -1, "the name of a unit"),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			f, names, err := c.connectNamed(ctx, args)
			if err != nil {
				return err
			}
			units := make([]api.Unit, len(names))
			for i, name := range names {
				if units[i], err = f.Unit(ctx, name); err != nil {
					return fmt.Errorf("cannot read %s: %w", name, err)
				}
			}
			return output.Write(c.out, c.format, units, func(w io.Writer) error {
				for i, u := range units {
					if len(units) > 1 {
						fmt.Fprintf(w, "%s# %s\n", map[bool]string{true: "\n"}[i > 0], u.Name)
					}
					fmt.Fprint(w, u.Content)
				}
				return nil
			})
		},
	}
}
