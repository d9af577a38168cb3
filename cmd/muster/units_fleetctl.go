package main

import (
	"context"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/fleetapi"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cmd/muster/output"
)

// Lists as fleetctl shows them, from fleet's API.

// placed is an item of fleet's API with the machine that it is on, if that lives.
type placed[T any] struct {
	item    T
	machine fleetapi.Machine
}

func (c *cli) listUnitsCommand() *cobra.Command {
	type state = placed[fleetapi.UnitState]
	columns := []listColumn[state]{
		{"unit", true, func(s state, _ bool) string { return s.item.Name }},
		{"machine", true, func(s state, full bool) string { return machineLegend(s.machine, s.item.MachineID, full) }},
		{"active", true, func(s state, _ bool) string { return s.item.Active }},
		{"sub", true, func(s state, _ bool) string { return s.item.Sub }},
		{"load", false, func(s state, _ bool) string { return s.item.Load }},
		{"hash", false, func(s state, full bool) string { return shortHash(s.item.Hash, full) }},
	}
	return listVerb(c, "list-units", "what systemd says of units, as fleetctl lists them", columns,
		func(ctx context.Context, f fleet) (any, []state, error) {
			states, err := fleetapi.AllStates(ctx, f.Fleet)
			if err != nil {
				return nil, nil, err
			}
			rows, err := place(ctx, f, states, func(s fleetapi.UnitState) string { return s.MachineID })
			return states, rows, err
		})
}

func (c *cli) listUnitFilesCommand() *cobra.Command {
	type unit = placed[fleetapi.Unit]
	columns := []listColumn[unit]{
		{"unit", true, func(u unit, _ bool) string { return u.item.Name }},
		{"hash", true, func(u unit, full bool) string { return shortHash(hashOf(u.item), full) }},
		{"dstate", true, func(u unit, _ bool) string { return u.item.DesiredState }},
		{"state", true, func(u unit, _ bool) string { return u.item.CurrentState }},
		{"target", true, func(u unit, full bool) string {
			if isGlobal(u.item) {
				return "global"
			}
			return machineLegend(u.machine, u.item.MachineID, full)
		}},
		{"desc", false, func(u unit, _ bool) string { return description(u.item) }},
		{"global", false, func(u unit, _ bool) string { return strconv.FormatBool(isGlobal(u.item)) }},
	}
	return listVerb(c, "list-unit-files", "the units that the cluster knows, as fleetctl lists them", columns,
		func(ctx context.Context, f fleet) (any, []unit, error) {
			units, err := fleetapi.AllUnits(ctx, f.Fleet)
			if err != nil {
				return nil, nil, err
			}
			rows, err := place(ctx, f, units, func(u fleetapi.Unit) string { return u.MachineID })
			return units, rows, err
		})
}

func (c *cli) listMachinesCommand() *cobra.Command {
	columns := []listColumn[fleetapi.Machine]{
		{"machine", true, func(m fleetapi.Machine, full bool) string { return shortID(m.ID, full) }},
		{"ip", true, func(m fleetapi.Machine, _ bool) string { return m.PrimaryIP }},
		{"metadata", true, func(m fleetapi.Machine, _ bool) string { return pairs(m.Metadata) }},
	}
	return listVerb(c, "list-machines", "the live hosts, as fleetctl lists them", columns,
		func(ctx context.Context, f fleet) (any, []fleetapi.Machine, error) {
			machines, err := fleetapi.AllMachines(ctx, f.Fleet)
			return machines, machines, err
		})
}

// listVerb makes a verb of fleetctl's that lists something. read returns it as JSON shows it, and its rows.
func listVerb[T any](c *cli, name, short string, columns []listColumn[T],
	read func(context.Context, fleet) (any, []T, error),
) *cobra.Command {
	var flags listFlags
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shown, err := chosen(flags, columns)
			if err != nil {
				return err
			}
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			value, rows, err := read(cmd.Context(), f)
			if err != nil {
				return err
			}
			return output.Write(c.out, c.format, value, func(w io.Writer) error { return writeList(w, flags, shown, rows) })
		},
	}
	registerList(&flags, cmd, columns)
	return cmd
}

// place finds the machine of every item.
func place[T any](ctx context.Context, f fleet, items []T, id func(T) string) ([]placed[T], error) {
	machines, err := fleetapi.AllMachines(ctx, f.Fleet)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]fleetapi.Machine, len(machines))
	for _, m := range machines {
		byID[m.ID] = m
	}
	rows := make([]placed[T], len(items))
	for i, item := range items {
		rows[i] = placed[T]{item, byID[id(item)]}
	}
	return rows, nil
}

// machineLegend names a machine as fleetctl does: the beginning of its ID, and its address.
func machineLegend(m fleetapi.Machine, id string, full bool) string {
	if id == "" || m.PrimaryIP == "" {
		return shortID(id, full)
	}
	return shortID(id, full) + "/" + m.PrimaryIP
}

func shortID(id string, full bool) string {
	if full || len(id) <= 8 {
		return id
	}
	return id[:8] + "..."
}

func shortHash(hash string, full bool) string {
	if full || len(hash) <= 7 {
		return hash
	}
	return hash[:7]
}

func pairs(m map[string]string) string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, key+"="+m[key])
	}
	return strings.Join(list, ",")
}

// unitFile is a unit's file as its options have it.
func unitFile(u fleetapi.Unit) unitfile.File {
	var f unitfile.File
	for _, o := range u.Options {
		f.Options = append(f.Options, unitfile.Option{Section: o.Section, Name: o.Name, Value: o.Value})
	}
	return f
}

func hashOf(u fleetapi.Unit) string {
	if len(u.Options) == 0 {
		return "" // the cluster has lost the file
	}
	return unitFile(u).Hash()
}

func isGlobal(u fleetapi.Unit) bool {
	rules, _ := unitFile(u).Requirements(u.Name)
	return rules.Global
}

func description(u fleetapi.Unit) string {
	text, _ := unitFile(u).Value("Unit", "Description")
	return text
}
