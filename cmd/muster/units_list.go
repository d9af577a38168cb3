package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

func (c *cli) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "every unit, where it is and how it does",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			s, err := f.Status(cmd.Context())
			if err != nil {
				return err
			}
			c.warn(s)
			if s.Units == nil {
				s.Units = []api.UnitStatus{}
			}
			return output.Write(c.out, c.format, s.Units, func(w io.Writer) error {
				return unitsGrid(s, c.color(c.out)).Write(w)
			})
		},
	}
}

// unitsGrid is the table of units, with the addresses of their hosts.
func unitsGrid(s api.Status, color bool) *output.Grid {
	address := map[string]string{}
	for _, h := range s.Hosts {
		address[h.Name] = h.Address
	}
	g := &output.Grid{Columns: []string{"UNIT", "HOST", "ADDRESS", "STATE", "DESIRED", "REASON"}, Color: color}
	for _, u := range s.Units {
		g.Add(u.Name, u.Host, address[u.Host], u.State, u.Desired, u.Reason)
	}
	return g
}
