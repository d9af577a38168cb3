package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/journal"
)

const logsLong = `logs shows what a unit printed, from the journal of the host that it is on, or of any host: --host says which.

Times are the host's. Besides cat, the formats also have what systemd said of the unit. On hosts without systemd a line has
the time, to a second, at which musterd saw it.`

func (c *cli) logsCommand() *cobra.Command {
	cmd := c.readLog(api.LogOptions{Lines: 100, Output: string(journal.Cat)})
	cmd.Use, cmd.Short, cmd.Long = "logs UNIT", "what a unit printed, wherever it runs", logsLong
	cmd.Example = "  muster logs web@1 -f\n  muster logs web@1 --since 10m --priority err\n  muster logs web@1 -o json"
	return cmd
}

// journalCommand is logs with the defaults of fleetctl's verb of that name.
func (c *cli) journalCommand() *cobra.Command {
	cmd := c.readLog(api.LogOptions{Lines: 10, Output: string(journal.Short)})
	cmd.Use, cmd.Short = "journal UNIT", "logs as fleetctl shows them: ten lines, with times"
	cmd.Flags().Bool("sudo", false, "for fleetctl's sake: no login is needed to read the journal")
	return cmd
}

// readLog makes a command that shows a unit's log, with these defaults.
func (c *cli) readLog(o api.LogOptions) *cobra.Command {
	var since string
	cmd := &cobra.Command{
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
			if err := checkLogOptions(o); err != nil {
				return err
			}
			if since != "" {
				if o.Since, err = parseSince(since, c.now()); err != nil {
					return err
				}
				if !cmd.Flags().Changed("lines") {
					o.Lines = -1
				}
			}
			return c.showLog(cmd.Context(), names[0], o)
		},
	}
	flags := cmd.Flags()
	flags.IntVarP(&o.Lines, "lines", "n", o.Lines, "how many of the last lines to show, -1 for all; with --since all")
	// Here -f follows, as people expect of logs. A flag of the same name without a letter frees it from the global one.
	flags.StringVar(&c.file, "file", defaultCluster(), "cluster `FILE` (environment: MUSTER_FILE)")
	flags.BoolVarP(&o.Follow, "follow", "f", false, "go on with what is printed later, on whatever host the unit is then")
	flags.StringVar(&since, "since", "", "nothing older than this `TIME`: 10m, 15:04, today, 2006-01-02, '2006-01-02 15:04:05', RFC 3339")
	flags.StringVarP(&o.Priority, "priority", "p", "", "nothing less severe than this `LEVEL`: emerg, alert, crit, err, warning, notice, info, debug")
	flags.StringVarP(&o.Output, "output", "o", o.Output, "`FORMAT` of lines: cat, short, short-iso or json")
	flags.StringVar(&o.Host, "host", "", "the `HOST` of a unit that runs on several")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(journal.Formats, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("priority", cobra.FixedCompletions(journal.Levels(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) showLog(ctx context.Context, name string, o api.LogOptions) error {
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	show := f.Logs
	if o.Follow {
		show = func(ctx context.Context, name string, o api.LogOptions, w io.Writer) error {
			return c.followLog(ctx, f, name, o, w)
		}
	}
	if isTerminal(c.out) { // which units that are somebody else's could command
		text := &plainText{to: c.out}
		err = errors.Join(show(ctx, name, o, text), text.Flush())
	} else {
		err = show(ctx, name, o, c.out)
	}
	if o.Follow && errors.Is(err, context.Canceled) {
		return nil // ^C is how following ends
	}
	return err
}

func checkLogOptions(o api.LogOptions) error {
	if _, err := journal.ParseFormat(o.Output); err != nil {
		return usage("", "%w", err)
	}
	if _, err := journal.ParseLevels(o.Priority); err != nil {
		return usage("", "%w", err)
	}
	return nil
}

// sinceLayouts are times as people write them, without a zone in that of this machine.
var sinceLayouts = []string{time.RFC3339Nano, time.DateTime, "2006-01-02 15:04", time.DateOnly}

// parseSince reads a time, or how long ago it was. A time of day is today's.
func parseSince(text string, now time.Time) (time.Time, error) {
	year, month, day := now.Date()
	today := time.Date(year, month, day, 0, 0, 0, 0, now.Location())
	switch text {
	case "now":
		return now, nil
	case "today":
		return today, nil
	case "yesterday":
		return today.AddDate(0, 0, -1), nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d.Abs()), nil
	}
	for _, layout := range sinceLayouts {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, nil
		}
	}
	for _, layout := range []string{time.TimeOnly, "15:04"} {
		if at, err := time.Parse(layout, text); err == nil {
			return time.Date(year, month, day, at.Hour(), at.Minute(), at.Second(), 0, now.Location()), nil
		}
	}
	return time.Time{}, usage("write 10m, 15:04, today, 2006-01-02 or '2006-01-02 15:04:05'", "--since %s is no time", text)
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
