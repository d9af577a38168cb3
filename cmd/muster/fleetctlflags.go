package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	throughFleetctl = "muster finds the cluster by its cluster file and speaks TLS with certificates; " +
		"fleetctl itself works too, see `muster help fleet`"
	throughSSH = "`muster units ssh` runs the program ssh, which reads this from its own configuration"
)

// fleetctlFlags are flags of fleetctl 0.11 and 1.0 that muster does without, with what to do instead.
var fleetctlFlags = map[string]string{
	"sign":   "leave it out: units are not signed; who may submit them is known by certificate",
	"sudo":   "leave it out: logs come from the host's musterd",
	"debug":  "`--log-level debug` tells what is done",
	"driver": throughFleetctl, "endpoint": throughFleetctl, "etcd-key-prefix": throughFleetctl, "experimental-api": throughFleetctl,
	"ca-file": throughFleetctl, "cert-file": throughFleetctl, "key-file": throughFleetctl, "tunnel": throughFleetctl,
	"request-timeout": "`--timeout` says how long to wait for units; requests have limits of their own",
	"ssh-port":        "`muster units ssh --ssh-port PORT` takes it; nothing else here goes through SSH",
	"ssh-username":    "`muster units ssh --user NAME` takes it; nothing else here goes through SSH",
	"ssh-timeout":     throughSSH, "strict-host-key-checking": throughSSH, "known-hosts-file": throughSSH,
}

// flagError is a usage error about a flag. One of fleetctl's gets a word of advice.
func flagError(cmd *cobra.Command, err error) error {
	hint := fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		if advice := fleetctlFlags[unknown.GetSpecifiedName()]; advice != "" {
			hint = advice
		}
	}
	return usage(hint, "%w", err)
}
