package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

const stopHostsLong = `stop powers hosts off and keeps them: their disks, and their place in the cluster. The provider asks the guest to shut
down first, where it can. Units of a stopped host move to others when its lease ends.

Voters are asked first: what would leave less than a majority of them running is refused, unless --force says that it may
be. Without a majority nothing is placed any more; what runs goes on.

stop asks before anything is stopped; --yes answers for scripts. It does not wait until the hosts are off. A stopped host
stays so until ` + "`muster hosts start` or the next `muster up`" + `, which starts all that are in the cluster file.`

const startHostsLong = `start powers hosts on that were stopped. It does not wait until they work: ` + "`muster status`" + ` tells. ` + "`muster up`" + ` starts all
stopped hosts of the cluster file, and waits for them.`

func (c *cli) stopHostsCommand() *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:               "stop HOST...",
		Short:             "power hosts off and keep them; the next `up` starts them again",
		Long:              stopHostsLong,
		Args:              takes(1, -1, "the name of a host"),
		ValidArgsFunction: c.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.stopHosts(cmd.Context(), args, force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "stop voters too without which no majority of them remains")
	return cmd
}

func (c *cli) startHostsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "start HOST...",
		Short:             "power stopped hosts on again",
		Long:              startHostsLong,
		Args:              takes(1, -1, "the name of a host"),
		ValidArgsFunction: c.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.startHosts(cmd.Context(), args)
		},
	}
}

func (c *cli) stopHosts(ctx context.Context, hosts []string, force bool) error {
	work, hosts, err := beginPower[providers.Stopper](c, hosts, "stop")
	if err != nil {
		return err
	}
	p, err := apply.Stop(ctx, work.deps, hosts, force, apply.Options{Confirm: work.confirmStop, CrashPoint: crashPoint()})
	work.display.Close()
	switch {
	case errors.Is(err, apply.ErrNotConfirmed):
		return failed("nothing was stopped", "not confirmed")
	case errors.Is(err, apply.ErrNoQuorum):
		return failed("`muster status"+c.fileFlag()+"` tells how the voters do; stop fewer of them, or all of it with --force: "+
			"`muster up` starts them again", "cannot stop %s: %w", few(hosts), err)
	case err != nil:
		return work.powerOutcome(err)
	case len(p.Changes()) == 0:
		return c.say("nothing to stop")
	default:
		return c.say("%s powered off; `muster hosts start` or the next `muster up%s` starts what is stopped",
			areHosts(len(p.Changes())), c.fileFlag())
	}
}

func (c *cli) startHosts(ctx context.Context, hosts []string) error {
	work, hosts, err := beginPower[providers.Starter](c, hosts, "start")
	if err != nil {
		return err
	}
	p, err := apply.Start(ctx, work.deps, hosts, apply.Options{CrashPoint: crashPoint()})
	work.display.Close()
	switch {
	case err != nil:
		return work.powerOutcome(err)
	case len(p.Changes()) == 0:
		return c.say("nothing to start")
	default:
		return c.say("%s powered on; `muster status%s` tells when they are ready", areHosts(len(p.Changes())), c.fileFlag())
	}
}

// beginPower begins a run on hosts of the cluster file, each of them once, whose providers have the ability T to do it.
func beginPower[T any](c *cli, named []string, do string) (*work, []string, error) {
	deps, err := c.deps()
	if err != nil {
		return nil, nil, err
	}
	var hosts []string
	for _, host := range named {
		provider, err := c.providerOf(deps.Spec, host)
		if err != nil {
			return nil, nil, err
		}
		if _, ok := providers.As[T](deps.Providers[provider]); !ok {
			return nil, nil, usage(ableHint[T](c, deps.Providers, do+" hosts"), "provider %s (%s) cannot %s host `%s`",
				provider, driverOf(deps.Spec, provider), do, host)
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	work, err := c.begin(deps)
	return work, hosts, err
}

// powerOutcome gives an error of apply.Stop or apply.Start its exit status.
func (w *work) powerOutcome(err error) error {
	if errors.Is(err, state.ErrNoCluster) {
		return w.cli.noCluster(w.deps.Spec.Cluster)
	}
	return w.outcome(err)
}

// confirmStop asks whether hosts may be stopped.
func (w *work) confirmStop(ctx context.Context, p plan.Plan) (bool, error) {
	return w.agree(ctx, p, question{about: p.Changes(), do: "Stop", done: "stopped", hint: "run it again with --yes to agree"})
}
