package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cmd/muster/output"
)

// listFlags are those of fleetctl's lists.
type listFlags struct {
	fields   []string
	noLegend bool
	full     bool
}

func registerList[T any](f *listFlags, cmd *cobra.Command, columns []listColumn[T]) {
	cmd.Flags().StringSliceVar(&f.fields, "fields", namesOf(columns, true),
		"what to show, of "+strings.Join(namesOf(columns, false), ","))
	cmd.Flags().BoolVar(&f.noLegend, "no-legend", false, "no line of column names")
	cmd.Flags().BoolVarP(&f.full, "full", "l", false, "do not shorten IDs and hashes")
}

// listColumn is one field of a list as fleetctl names it.
type listColumn[T any] struct {
	name  string
	usual bool // shown if --fields does not say what is
	text  func(item T, full bool) string
}

func namesOf[T any](columns []listColumn[T], usual bool) []string {
	var names []string
	for _, c := range columns {
		if c.usual || !usual {
			names = append(names, c.name)
		}
	}
	return names
}

// chosen are the columns that the operator asks for, in that order.
func chosen[T any](f listFlags, columns []listColumn[T]) ([]listColumn[T], error) {
	var list []listColumn[T]
	for _, name := range f.fields {
		i := slices.IndexFunc(columns, func(c listColumn[T]) bool { return c.name == name })
		if i < 0 {
			return nil, usage("choose of "+strings.Join(namesOf(columns, false), ","), "there is no field `%s`", name)
		}
		list = append(list, columns[i])
	}
	return list, nil
}

// writeList prints items as fleetctl does: columns one tab or more apart, so that scripts which cut its lists can cut
// these.
func writeList[T any](w io.Writer, f listFlags, columns []listColumn[T], items []T) error {
	out := tabwriter.NewWriter(w, 0, 8, 1, '\t', 0)
	if !f.noLegend {
		fmt.Fprintln(out, strings.ToUpper(strings.Join(f.fields, "\t")))
	}
	for _, item := range items {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = output.OneLine(c.text(item, f.full))
		}
		fmt.Fprintln(out, strings.Join(cells, "\t"))
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("cannot write the list: %w", err)
	}
	return nil
}
