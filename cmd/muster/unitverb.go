package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// unitVerb is a verb that changes what units do.
type unitVerb struct {
	use, short, long, example string
	files                     bool // it takes files too, and replaces with them what the cluster has
	change                    func(ctx context.Context, args []string, flags waitFlags) error
}

// unitVerb makes the command of a verb.
func (c *cli) unitVerb(v unitVerb) *cobra.Command {
	var flags waitFlags
	what := "the name of a unit"
	if v.files {
		what += " or unit file"
	}
	cmd := &cobra.Command{
		Use: v.use, Short: v.short, Long: v.long, Example: v.example,
		Args:              takes(1, -1, what),
		ValidArgsFunction: c.completeUnits,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			return v.change(cmd.Context(), args, flags)
		},
	}
	flags.register(cmd)
	if v.files {
		registerReplace(cmd)
	}
	return cmd
}

// waitFlags are those of the verbs that change what units do.
type waitFlags struct {
	noBlock  bool
	timeout  time.Duration
	attempts int // fleetctl's way to say how long
}

const (
	defaultWait = time.Minute
	// attemptEvery is how often fleetctl asks, so that a number of its attempts is a time (COMPAT: fleet API).
	attemptEvery = 250 * time.Millisecond
)

func (f *waitFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.noBlock, "no-block", false, "do not wait until it is so")
	cmd.Flags().DurationVar(&f.timeout, "timeout", defaultWait, "how long to wait, 0 for as long as it takes")
	cmd.Flags().IntVar(&f.attempts, "block-attempts", 0, "fleetctl's --timeout: `N` times 250ms, 0 for as long as it takes")
}

// check takes in --block-attempts.
func (f *waitFlags) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("block-attempts") {
		if cmd.Flags().Changed("timeout") {
			return usage("leave one of them out", "--timeout and --block-attempts both say how long to wait")
		}
		f.timeout = time.Duration(f.attempts) * attemptEvery
	}
	if f.timeout < 0 {
		return usage("0 is for as long as it takes", "cannot wait for less than nothing")
	}
	return nil
}

// registerReplace accepts what fleetctl needs to replace units. Here a file always replaces what the cluster has of its
// name.
func registerReplace(cmd *cobra.Command) {
	cmd.Flags().Bool("replace", false, "for fleetctl's sake: files always replace what the cluster has of their names")
}
