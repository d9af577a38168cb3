package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/ignition"
	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/spec"
)

const cloudConfigLong = `A cloud-config says what a host shall have beside muster itself: accounts, files, units, commands. A group of the cluster
file names it as cloud_config. Its keys are cloud-init's, and those of coreos-cloudinit.`

func (c *cli) cloudConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cloudconfig",
		Short: "check what hosts are told at their first boot, and show it",
		Long:  cloudConfigLong,
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(c.validateCommand(), c.templateCommand(), c.renderCommand())
	return cmd
}

func (c *cli) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE",
		Short: "tell every mistake in a cloud-config, with its line",
		Args:  takes(1, 1, "a cloud-config"),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := os.Open(args[0])
			if err != nil {
				return unreadable(args[0], err)
			}
			defer func() { _ = file.Close() }()
			text, err := io.ReadAll(io.LimitReader(file, cloudconfig.MaxUserData+1))
			switch {
			case err != nil:
				return unreadable(args[0], err)
			case len(text) > cloudconfig.MaxUserData:
				return usage("let the host fetch its larger files", "%s has more than %d bytes", args[0], cloudconfig.MaxUserData)
			}
			if _, err := cloudconfig.ParseOperator(args[0], text); err != nil {
				return usage("", "%w", err)
			}
			return c.say("%s is a good cloud-config", args[0])
		},
	}
}

func unreadable(file string, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrNotExist) {
		hint = "`muster cloudconfig template` prints one to start from"
	}
	return usage(hint, "cannot read the cloud-config %s: %w", file, errors.Unwrap(err))
}

func (c *cli) templateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "template",
		Short: "print a cloud-config to start from",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(c.out, cloudconfig.Template)
			return err
		},
	}
}

// The formats of user-data.
const (
	formatCloudConfig = "cloud-config"
	formatIgnition    = "ignition"
)

func (c *cli) renderCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "render HOST",
		Short: "print the user-data that a host of the cluster file would get",
		Long: `render prints the user-data that a host of the cluster file would get, the group's cloud_config merged and its variables
filled in. The join token and secrets are shown as ***, and what only ` + "`up`" + ` makes is named so.`,
		Args:              takes(1, 1, "the name of a host"),
		ValidArgsFunction: c.completeHosts,
		RunE:              func(_ *cobra.Command, args []string) error { return c.render(args[0], format) },
	}
	cmd.Flags().StringVar(&format, "format", formatCloudConfig, "`FORMAT` of the user-data: cloud-config or ignition")
	_ = cmd.RegisterFlagCompletionFunc("format",
		cobra.FixedCompletions([]string{formatCloudConfig, formatIgnition}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) render(host, format string) error {
	if format != formatCloudConfig && format != formatIgnition {
		return usage("choose cloud-config or ignition", "unknown format `%s`", format)
	}
	s, err := c.loadSpec()
	if err != nil {
		return err
	}
	if names := hostNames(s); !slices.Contains(names, host) {
		hint := finding.DidYouMean(host, names)
		if hint == "" {
			hint = "there are " + few(names)
		}
		return usage(hint, "no host of %s is called `%s`", c.file, host)
	}
	deps := apply.Deps{Spec: s}
	if err := c.deliverMusterd(&deps); err != nil {
		return err
	}
	doc, err := apply.PreviewDocument(deps, host)
	if err != nil {
		return usage("", "%w", err)
	}
	text := doc.Render()
	if format == formatIgnition {
		if text, err = ignition.Render(doc); err != nil {
			return usage("", "cannot render the user-data of host %s: %w", host, err)
		}
	}
	_, err = fmt.Fprintln(c.out, strings.TrimRight(string(text), "\n"))
	return err
}

func hostNames(s spec.Spec) []string {
	var names []string
	for _, h := range s.Hosts() {
		names = append(names, h.Name)
	}
	return names
}

// completeHosts offers the hosts of the cluster file to the shell.
func (c *cli) completeHosts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	s, err := spec.Load(c.file, c.drivers)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return hostNames(s), cobra.ShellCompDirectiveNoFileComp
}
