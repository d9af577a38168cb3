package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/quadlet"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/finding"
)

func (c *cli) submitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "submit FILE...",
		Short:   "let the cluster know units, without giving them a host",
		Example: "  muster units submit units/web@.service units/db.service",
		Args:    takes(1, -1, "the name of a unit file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			units, files, err := c.unitFiles(args)
			if err != nil {
				return err
			}
			for _, u := range units {
				if u.path == "" {
					return usage("name the file; `muster units start` starts a unit that the cluster has", "no file `%s`", u.name)
				}
			}
			ctx := cmd.Context()
			f, err := c.connect(ctx)
			if err != nil {
				return err
			}
			return c.submit(ctx, f, files)
		},
	}
	registerReplace(cmd)
	return cmd
}

// submit sends unit files and prints what the cluster says to each.
func (c *cli) submit(ctx context.Context, f fleet, files []api.Unit) error {
	outcomes := make([]api.Outcome, len(files))
	index := make([]int, len(files))
	for i := range index {
		index[i] = i
	}
	done, err := each(ctx, index, func(ctx context.Context, i int) error {
		var err error
		outcomes[i], err = f.PutUnit(ctx, files[i])
		if err != nil {
			return fmt.Errorf("cannot submit %s: %w", files[i].Name, err)
		}
		return nil
	})
	if err != nil {
		return some(done, err)
	}
	for i, file := range files {
		word := map[api.Outcome]string{api.Created: "submitted", api.Changed: "replaced", api.Unchanged: "unchanged"}[outcomes[i]]
		fmt.Fprintf(c.out, "%s: %s\n", file.Name, word)
	}
	if slices.Contains(outcomes, api.Changed) {
		return c.tellBegun(ctx, f, files)
	}
	return nil
}

// unitFiles reads the files that arguments name.
func (c *cli) unitFiles(args []string) ([]unitArg, []api.Unit, error) {
	units, err := unitArgs(args)
	if err != nil {
		return nil, nil, err
	}
	files, err := c.readUnits(units)
	return units, files, err
}

// readUnits reads and checks the files of units, templates of instances included, before anything is sent. Warnings go
// to standard error.
func (c *cli) readUnits(units []unitArg) ([]api.Unit, error) {
	var files []api.Unit
	var mistakes finding.Findings
	have := map[string]bool{}
	for _, u := range units {
		name, path := u.name, u.path
		if path == "" {
			if path = u.template; path == "" {
				continue
			}
			name, _ = unitfile.Template(u.name)
		}
		if have[name] {
			continue
		}
		have[name] = true
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, usage("make the file readable", "cannot read a unit: %w", err)
		}
		c.checkUnit(name, path, content, &mistakes)
		files = append(files, api.Unit{Name: name, Content: string(content)})
	}
	mistakes = append(mistakes, circleMistakes(files)...)
	return files, mistakes.Err()
}

// checkUnit collects what is wrong with a unit file, and prints its warnings.
func (c *cli) checkUnit(name, path string, content []byte, mistakes *finding.Findings) {
	warnings, found := readUnit(name, path, content)
	for _, w := range warnings {
		writeWarning(c.err, w.Error(), c.color(c.err))
	}
	*mistakes = append(*mistakes, found...)
}

// readUnit finds what is wrong with a unit file, with its path in place of its name.
func readUnit(name, path string, content []byte) (warnings, found finding.Findings) {
	file, warnings, err := quadlet.Parse(name, content)
	switch {
	case err == nil:
		_, found = file.Requirements(name)
	case !errors.As(err, &found):
		found.Add(finding.Position{}, "", "%v", err)
	}
	for i := range warnings {
		warnings[i].File = path
	}
	for i := range found {
		found[i].File = path
	}
	return warnings, found
}
