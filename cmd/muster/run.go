package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cmd/muster/output"
	"github.com/musterhq/muster/providers"
)

// cli is what every verb has at hand: where to read and write, the global flags, and the drivers of this binary.
type cli struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	drivers *providers.Registry
	now     func() time.Time
	connect func(context.Context) (fleet, error) // to the running cluster; it makes no call yet

	file     string
	format   output.Format
	yes      bool
	noColor  bool
	logLevel slog.Level
}

// run executes one command line and returns its exit status. Nothing in it outlives the call.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return runWith(ctx, drivers(), args, stdin, stdout, stderr)
}

// runWith is run with another list of drivers, for tests.
func runWith(ctx context.Context, reg *providers.Registry, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{in: stdin, out: stdout, err: stderr, drivers: reg, now: time.Now}
	c.connect = c.connectOperator
	return c.execute(ctx, args)
}

func (c *cli) execute(ctx context.Context, args []string) int {
	root := c.rootCommand()
	root.SetArgs(args)
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	err := root.ExecuteContext(ctx)
	if interrupted(ctx, err) {
		err = failed("what is done is kept: run the same command again to go on", "interrupted")
	}
	return report(c.err, err)
}

const rootLong = `muster makes a fleet of self-updating hosts from one file, on any cloud, a hypervisor, a rack
or this machine, with one shared brain (etcd) and units that move when a host is lost.

  muster init      write a cluster file to start from
  muster up        make the cluster what the file says; again after every change
  muster status    how it does
  muster down      end it and everything that was made for it

Exit status: 0 done, 1 failed, 2 usage (bad flags, bad cluster file), 3 partly done.`

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:               "muster",
		Short:             "one command musters hosts from anywhere into one fleet",
		Long:              rootLong,
		Args:              cobra.ArbitraryArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE:              group,
	}
	root.AddGroup(
		&cobra.Group{ID: groupCluster, Title: "The cluster:"},
		&cobra.Group{ID: groupUnits, Title: "Its units:"},
		&cobra.Group{ID: groupOther, Title: "Else:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.SetFlagErrorFunc(flagError)
	c.globalFlags(root)
	addTo(root, groupCluster, c.initCommand(), c.planCommand(), c.upCommand(), c.statusCommand(), c.hostsCommand(),
		c.drainCommand(), c.rebalanceCommand(), c.lockCommand(), c.updateCommand(), c.backupCommand(), c.restoreCommand(), c.downCommand())
	addTo(root, groupUnits, c.unitsCommand(), c.rolloutCommand())
	addTo(root, groupUnits, c.unitVerbs(true)...)
	addTo(root, groupOther, c.kvCommand(), c.providersCommand(), c.cloudConfigCommand(), c.imageCommand(), c.releaseCommand(),
		c.schemaCommand(), c.completionCommand(), c.versionCommand())
	root.AddCommand(helpTopics()...)
	return root
}

// The headings of `muster --help`.
const (
	groupCluster = "cluster"
	groupUnits   = "units"
	groupOther   = "other"
)

func addTo(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, cmd := range commands {
		cmd.GroupID = group
		root.AddCommand(cmd)
	}
}

// defaultFile is the cluster file when neither -f nor MUSTER_FILE names one.
const defaultFile = "cluster.yaml"

func defaultCluster() string {
	if file := os.Getenv("MUSTER_FILE"); file != "" {
		return file
	}
	return defaultFile
}

func (c *cli) globalFlags(root *cobra.Command) {
	c.format, c.logLevel = output.Table, slog.LevelWarn
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVarP(&c.file, "file", "f", defaultCluster(), "cluster `FILE` (environment: MUSTER_FILE)")
	flags.VarP(&c.format, "output", "o", "`FORMAT` of what is printed: table, json or yaml")
	flags.BoolVar(&c.yes, "yes", false, "do not ask before anything is destroyed or stopped")
	flags.Var((*logLevel)(&c.logLevel), "log-level", "what to log to standard error: debug, info, warn or error")
	flags.BoolVar(&c.noColor, "no-color", false, "no colours (environment: NO_COLOR); there are none off a terminal")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(output.Formats, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions(logLevels, cobra.ShellCompDirectiveNoFileComp))
}

// logLevel is the flag --log-level.
type logLevel slog.Level

var logLevels = []string{"debug", "info", "warn", "error"}

func (l *logLevel) String() string { return strings.ToLower(slog.Level(*l).String()) }
func (l *logLevel) Type() string   { return "LEVEL" }
func (l *logLevel) Set(text string) error {
	if (*slog.Level)(l).UnmarshalText([]byte(text)) != nil {
		return fmt.Errorf("unknown level `%s`, choose debug, info, warn or error", text)
	}
	return nil
}

// log is where the packages below write what they do; people read progress and errors instead.
func (c *cli) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: c.logLevel}))
}

// color tells whether what goes to w may be coloured (https://no-color.org).
func (c *cli) color(w io.Writer) bool {
	return !c.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

// isTerminal tells whether a person sees what is written, or types what is read.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// group is the action of a command that only holds others: help, or what was meant by a word that is none of them.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	names := make([]string, 0, len(cmd.Commands()))
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	hint := fmt.Sprintf("`%s --help` lists the verbs", cmd.CommandPath())
	if guess := finding.DidYouMean(args[0], names); guess != "" {
		hint = guess + " " + hint
	}
	return usage(hint, "unknown verb `%s` of %s", args[0], cmd.CommandPath())
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(fmt.Sprintf("`%s --help` tells what it takes", cmd.CommandPath()), "unexpected argument `%s`", args[0])
	}
	return nil
}

// takes asks for between least and most arguments, most < 0 for any number; what names them.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := fmt.Sprintf("usage: %s", cmd.UseLine())
		if len(args) < least {
			return usage(hint, "`%s` needs %s", cmd.CommandPath(), what)
		}
		if most >= 0 && len(args) > most {
			return usage(hint, "unexpected argument `%s`", args[most])
		}
		return nil
	}
}
