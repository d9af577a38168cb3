package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
)

func (c *cli) logsCommand() *cobra.Command {
	o := api.LogOptions{Lines: 100}
	cmd := &cobra.Command{
		Use:               "logs UNIT",
		Aliases:           []string{"journal"},
		Short:             "what a unit printed, wherever it runs",
		Args:              oneUnitToFollow,
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := matchUnits(args, nil)
			if err != nil {
				return err
			}
			if len(names) != 1 {
				return usage("name one", "`%s` shows one unit at a time", cmd.CommandPath())
			}
			f, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			err = f.Logs(cmd.Context(), names[0], o, c.out)
			if o.Follow && errors.Is(err, context.Canceled) {
				return nil // ^C is how following ends
			}
			return err
		},
	}
	cmd.Flags().IntVarP(&o.Lines, "lines", "n", o.Lines, "how many of the last lines to show, -1 for all")
	// Here -f follows, as people expect of logs. A flag of the same name without a letter frees it from the global one.
	cmd.Flags().StringVar(&c.file, "file", defaultCluster(), "cluster `FILE` (environment: MUSTER_FILE)")
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on with what is printed later")
	cmd.Flags().StringVar(&o.Host, "host", "", "the `HOST` of a unit that runs on several")
	return cmd
}

// oneUnitToFollow asks for one argument, and knows what was meant by `-f cluster.yaml` here.
func oneUnitToFollow(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		switch filepath.Ext(args[0]) {
		case ".yaml", ".yml":
			return usage("name the cluster file with --file", "-f of `%s` follows the log and takes no file", cmd.CommandPath())
		}
	}
	return takes(1, 1, "the name of a unit")(cmd, args)
}
