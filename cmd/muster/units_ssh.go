package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
)

// sshFlags are where to log in, if the first argument does not say so, and what ssh is told beside the address.
type sshFlags struct {
	machine string
	unit    string
	user    string
	port    int
	forward bool
}

func (c *cli) sshCommand() *cobra.Command {
	var flags sshFlags
	cmd := &cobra.Command{
		Use:   "ssh UNIT|HOST [COMMAND...]",
		Short: "log in where a unit runs",
		Long: `ssh runs the program of that name with the address of the host that a unit is on, or of a host by its name or the
beginning of its ID. Which key it uses, and which host keys it trusts, is the affair of its own configuration.`,
		Example:           "  muster units ssh web@1\n  muster units ssh --user core web@1 systemctl status web@1.service",
		ValidArgsFunction: c.completeUnits,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case flags.machine != "" && flags.unit != "":
				return usage("leave one of them out", "--machine and --unit both say where to log in")
			case flags.machine != "" || flags.unit != "":
				return nil
			}
			return takes(1, -1, "the name of a unit or host")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			what := cmp.Or(flags.machine, flags.unit)
			if what == "" {
				what, args = args[0], args[1:]
			}
			return c.ssh(cmd.Context(), what, args, flags)
		},
	}
	cmd.Flags().StringVarP(&flags.machine, "machine", "m", "", "log in to this `HOST`; all arguments are the command")
	cmd.Flags().StringVarP(&flags.unit, "unit", "u", "", "log in where this `UNIT` is; all arguments are the command")
	cmd.Flags().StringVar(&flags.user, "user", "", "`USER` to log in as")
	cmd.Flags().IntVar(&flags.port, "ssh-port", 0, "`PORT` of the hosts' SSH servers")
	cmd.Flags().BoolVarP(&flags.forward, "forward-agent", "A", false, "let the host use this machine's SSH agent")
	cmd.Flags().SetInterspersed(false) // what follows the name is the command's
	return cmd
}

func (c *cli) ssh(ctx context.Context, what string, command []string, flags sshFlags) error {
	_, s, err := c.overview(ctx)
	if err != nil {
		return err
	}
	host, err := hostOf(s, what)
	if err != nil {
		return err
	}
	ssh := exec.CommandContext(ctx, "ssh", flags.arguments(host.Address, command)...)
	ssh.Stdin, ssh.Stdout, ssh.Stderr = c.in, c.out, c.err
	err = ssh.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return failed("", "ssh to %s (%s) ended with status %d", host.Name, host.Address, exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("cannot run ssh: %w", err)
	}
	return nil
}

func (f sshFlags) arguments(address string, command []string) []string {
	var args []string
	if f.forward {
		args = append(args, "-A")
	}
	if f.user != "" {
		args = append(args, "-l", f.user)
	}
	if f.port != 0 {
		args = append(args, "-p", strconv.Itoa(f.port))
	}
	return append(append(args, "--", address), command...)
}

// shortestID is how much of a host's ID names it.
const shortestID = 8

// hostOf is the host of that name or ID, else the one that a unit is on; of several, one where it runs.
func hostOf(s api.Status, what string) (api.HostStatus, error) {
	for _, h := range s.Hosts {
		if h.Name == what || len(what) >= shortestID && strings.HasPrefix(h.ID, what) {
			return h, nil
		}
	}
	names, err := matchUnits([]string{what}, nil)
	if err != nil {
		return api.HostStatus{}, err
	}
	known := false
	var on []api.UnitStatus
	for _, u := range s.Units {
		known = known || u.Name == names[0]
		if u.Name == names[0] && u.Host != "" {
			on = append(on, u)
		}
	}
	switch {
	case !known:
		return api.HostStatus{}, failed("`muster units list` and `muster hosts` show them", "there is no unit or host `%s`", what)
	case len(on) == 0:
		return api.HostStatus{}, failed("`muster why "+names[0]+"` tells why", "%s is on no host", names[0])
	}
	best := on[max(0, slices.IndexFunc(on, func(u api.UnitStatus) bool { return u.State == api.UnitRunning }))]
	i := slices.IndexFunc(s.Hosts, func(h api.HostStatus) bool { return h.Name == best.Host })
	if i < 0 {
		return api.HostStatus{}, failed("", "the cluster does not know host %s any more", best.Host)
	}
	return s.Hosts[i], nil
}
