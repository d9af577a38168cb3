package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

const consoleLong = `console prints what a host says on its console: the firmware, the kernel, and what starts. It asks the host's provider and
not the host, so it tells why one does not come up.

  muster hosts console web-1              what was said so far
  muster hosts console -f web-1           go on until ^C, or until the host is gone
  muster hosts console web-1 > boot.txt   byte for byte

On a terminal colours are left out, and other escape sequences and control characters are shown instead of obeyed.`

func (c *cli) consoleCommand() *cobra.Command {
	follow := false
	cmd := &cobra.Command{
		Use:               "console HOST",
		Short:             "what a host says on its console",
		Long:              consoleLong,
		Args:              oneHostToFollow,
		ValidArgsFunction: c.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := c.console(cmd.Context(), args[0], follow)
			if follow && errors.Is(err, context.Canceled) {
				return nil // ^C is how following ends
			}
			return err
		},
	}
	// Here -f follows, as it does of `logs`.
	cmd.Flags().StringVar(&c.file, "file", defaultCluster(), "cluster `FILE` (environment: MUSTER_FILE)")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is said later")
	return cmd
}

// oneHostToFollow asks for one argument, and knows what was meant by `-f cluster.yaml` here.
func oneHostToFollow(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return oneUnitToFollow(cmd, args)
	}
	return takes(1, 1, "the name of a host")(cmd, args)
}

// console prints a host's console.
func (c *cli) console(ctx context.Context, host string, follow bool) error {
	s, err := c.loadSpec()
	if err != nil {
		return err
	}
	provider, err := c.providerOf(s, host)
	if err != nil {
		return err
	}
	opened, err := c.openProviders(s)
	if err != nil {
		return err
	}
	consoler, ok := providers.As[providers.Consoler](opened[provider])
	if !ok {
		return usage(ableHint[providers.Consoler](c, opened, "keep consoles"),
			"provider %s (%s) keeps no console of host `%s`", provider, driverOf(s, provider), host)
	}
	instance, err := c.newest(ctx, s, host, opened[provider])
	if err != nil {
		return err
	}
	if err := c.copyConsole(ctx, consoler, instance, follow); err != nil {
		return failed(advice(err), "cannot show the console of host %s at %s: %w", host, provider, err)
	}
	return nil
}

// copyConsole writes a console to standard output: as it is, unless a person sees it.
func (c *cli) copyConsole(ctx context.Context, from providers.Consoler, instance providers.Instance, follow bool) error {
	if !isTerminal(c.out) {
		return from.Console(ctx, instance, follow, c.out)
	}
	plain := &plainText{to: c.out}
	err := from.Console(ctx, instance, follow, plain)
	return errors.Join(err, plain.Flush())
}

// providerOf is the name of the provider that the cluster file gives a host.
func (c *cli) providerOf(s spec.Spec, host string) (string, error) {
	hosts := s.Hosts()
	i := slices.IndexFunc(hosts, func(h spec.Host) bool { return h.Name == host })
	if i >= 0 {
		return hosts[i].Provider, nil
	}
	hint := finding.DidYouMean(host, hostNames(s))
	if hint == "" {
		hint = "there are " + few(hostNames(s))
	}
	return "", usage(hint, "no host of %s is called `%s`", c.file, host)
}

// newest is the latest generation of a host that its provider knows.
func (c *cli) newest(ctx context.Context, s spec.Spec, host string, at providers.Provider) (providers.Instance, error) {
	parent, err := stateParent()
	if err != nil {
		return providers.Instance{}, err
	}
	dir, err := state.OpenReader(parent, s.Cluster)
	if errors.Is(err, state.ErrNoCluster) {
		return providers.Instance{}, c.noCluster(s.Cluster)
	}
	if err != nil {
		return providers.Instance{}, failed("", "cannot open the cluster's state: %w", err)
	}
	instances, err := at.List(ctx, dir.Cluster().ID)
	if err != nil {
		return providers.Instance{}, failed(advice(err), "cannot find host %s: %w", host, err)
	}
	for _, i := range slices.Backward(instances) { // sorted by host and generation
		if i.Host == host {
			return i, nil
		}
	}
	return providers.Instance{}, failed("run `muster up"+c.fileFlag()+"`", "host `%s` has not been made yet", host)
}

// driverOf is the driver of a provider of the cluster file.
func driverOf(s spec.Spec, provider string) string {
	for _, p := range s.Providers {
		if p.Name == provider {
			return p.Driver
		}
	}
	return ""
}

// ableHint tells which providers of the cluster file have the ability T, which "that ..." describes.
func ableHint[T any](c *cli, opened map[string]providers.Provider, that string) string {
	var able []string
	for name, p := range opened {
		if _, ok := providers.As[T](p); ok {
			able = append(able, name)
		}
	}
	if len(able) == 0 {
		return "there are no providers in " + c.file + " that " + that
	}
	slices.Sort(able)
	return "the providers in " + c.file + " that " + that + ": " + strings.Join(able, ", ")
}
