package main

import (
	"cmp"
	"io"
	"slices"

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

// unitsGrid is the table of units, with the addresses of their hosts, and their health if some have a health check.
func unitsGrid(s api.Status, color bool) *output.Grid {
	address := map[string]string{}
	for _, h := range s.Hosts {
		address[h.Name] = h.Address
	}
	checked := slices.ContainsFunc(s.Units, func(u api.UnitStatus) bool { return u.Health != "" })
	g := &output.Grid{Columns: []string{"UNIT", "HOST", "ADDRESS", "STATE", "DESIRED", "REASON"}, Color: color}
	if checked {
		g.Columns = slices.Insert(g.Columns, 4, "HEALTH")
	}
	for _, u := range s.Units {
		cells := []string{u.Name, u.Host, address[u.Host], u.State, u.Desired, cmp.Or(u.Reason, u.HealthReason)}
		if checked {
			cells = slices.Insert(cells, 4, u.Health)
		}
		g.Add(cells...)
	}
	return g
}
