package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cluster/spec"
)

func (c *cli) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [NAME]",
		Short: "write a cluster file to start from",
		Long: `init writes a commented cluster file for a cluster called NAME (demo): three hosts on this machine. It never
overwrites a file.`,
		Args: takes(0, 1, "the name of a cluster"),
		RunE: func(_ *cobra.Command, args []string) error {
			name := "demo"
			if len(args) > 0 {
				name = args[0]
			}
			return c.writeStarter(name)
		},
	}
}

func (c *cli) writeStarter(name string) error {
	if err := spec.CheckClusterName(name); err != nil {
		return usage("`muster init demo` is an example", "cannot name the cluster: %w", err)
	}
	f, err := os.OpenFile(c.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return usage("remove it, or name another with -f", "%s is there already", c.file)
	}
	if err != nil {
		return failed("name a file in a directory of yours with -f", "cannot write a cluster file: %w", err)
	}
	_, err = f.Write(spec.Starter(name))
	if err := errors.Join(err, f.Close()); err != nil {
		return failed("", "cannot write %s: %w", c.file, err)
	}
	fmt.Fprintf(c.out, "wrote %s for cluster %s\n\n", c.file, name)
	flag := c.fileFlag()
	return c.printNext(
		next{"muster plan" + flag, "what would be done"},
		next{"muster up" + flag, "do it"},
	)
}
