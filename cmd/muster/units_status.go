package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

// unitReport is a unit as `muster units status` shows it.
type unitReport struct {
	api.UnitStatus
	Log []string `json:"log,omitempty"` // the last lines that it printed
}

func (c *cli) unitStatusCommand() *cobra.Command {
	lines := 10
	cmd := &cobra.Command{
		Use:               "status UNIT...",
		Short:             "how units do, with the last that they printed",
		Args:              takes(1, -1, "the name of a unit"),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.unitStatus(cmd, args, lines)
		},
	}
	cmd.Flags().IntVarP(&lines, "lines", "n", lines, "how many of the last lines to show")
	return cmd
}

func (c *cli) unitStatus(cmd *cobra.Command, args []string, lines int) error {
	ctx := cmd.Context()
	f, s, err := c.overview(ctx)
	if err != nil {
		return err
	}
	c.warn(s)
	var known []string
	entries := map[string][]api.UnitStatus{}
	for _, u := range s.Units {
		known = append(known, u.Name)
		entries[u.Name] = append(entries[u.Name], u)
	}
	names, err := matchUnits(args, known)
	if err != nil {
		return err
	}
	reports := []unitReport{}
	for _, name := range names {
		if len(entries[name]) == 0 {
			return failed("`muster units list` shows them", "there is no unit `%s`", name)
		}
		for _, u := range entries[name] {
			reports = append(reports, unitReport{UnitStatus: u, Log: tail(cmd, f, u, lines)})
		}
	}
	return output.Write(c.out, c.format, reports, func(w io.Writer) error {
		for i, r := range reports {
			if i > 0 {
				fmt.Fprintln(w)
			}
			writeUnitReport(w, r, c.color(c.out))
		}
		return nil
	})
}

// tail is the end of a unit's log. A host that does not answer costs the lines, not the status.
func tail(cmd *cobra.Command, f fleet, u api.UnitStatus, lines int) []string {
	if u.Host == "" || lines == 0 {
		return nil
	}
	var b strings.Builder
	if err := f.Logs(cmd.Context(), u.Name, api.LogOptions{Host: u.Host, Lines: lines}, &b); err != nil {
		return nil
	}
	text := strings.TrimRight(b.String(), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func writeUnitReport(w io.Writer, r unitReport, color bool) {
	state := r.State
	if color {
		state = output.Paint(state)
	}
	fmt.Fprintf(w, "%s\n", r.Name)
	fmt.Fprintf(w, "   State: %s", state)
	if r.Active != "" {
		fmt.Fprintf(w, " (%s %s, %s)", r.Load, r.Active, r.Sub)
	}
	fmt.Fprintf(w, "\n Desired: %s\n", r.Desired)
	if r.Host != "" {
		fmt.Fprintf(w, "    Host: %s\n", r.Host)
	}
	switch {
	case r.Health != "" && r.HealthReason != "":
		fmt.Fprintf(w, "  Health: %s: %s\n", r.Health, r.HealthReason)
	case r.Health != "":
		fmt.Fprintf(w, "  Health: %s\n", r.Health)
	}
	if r.Reason != "" {
		fmt.Fprintf(w, "  Reason: %s\n", r.Reason)
	}
	if len(r.Log) > 0 {
		fmt.Fprintln(w)
	}
	for _, line := range r.Log {
		fmt.Fprintf(w, "  %s\n", line)
	}
}
