package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestFleetctlFlags: every flag of fleetctl's is taken, or refused with what to do instead.
func TestFleetctlFlags(t *testing.T) {
	wait, list := []string{"no-block", "block-attempts"}, []string{"full", "no-legend", "fields"}
	of := map[string][]string{ // fleetctl 0.11 and 1.0
		"cat": nil, "verify": nil, "status": nil,
		"submit": {"sign", "replace"},
		"load":   append([]string{"sign", "replace"}, wait...), "start": append([]string{"sign", "replace"}, wait...),
		"stop": wait, "unload": wait, "destroy": wait, "restart": wait,
		"journal":    {"lines", "follow", "sudo", "output"},
		"ssh":        {"machine", "unit", "forward-agent", "ssh-port"},
		"list-units": list, "list-unit-files": list, "list-machines": list,
	}
	global := []string{
		"ca-file", "cert-file", "key-file", "debug", "driver", "endpoint", "etcd-key-prefix", "experimental-api",
		"known-hosts-file", "request-timeout", "ssh-port", "ssh-timeout", "ssh-username", "strict-host-key-checking", "tunnel",
	}
	for verb, flags := range of {
		for _, flag := range slices.Concat(flags, global) {
			cmd, _, err := (&cli{}).rootCommand().Find([]string{"units", verb})
			if err != nil {
				t.Fatal(err)
			}
			if taken(cmd, flag) {
				continue
			}
			status, _, stderr := asks(t, newSmallFleet("db.service"), "units", verb, "--"+flag, "db")
			if status != statusUsage || !strings.Contains(stderr, fleetctlFlags[flag]) || fleetctlFlags[flag] == "" {
				t.Errorf("%s --%s: status %d: %s", verb, flag, status, stderr)
			}
		}
	}
	for _, short := range []struct{ verb, flag string }{
		{"list-units", "l"}, {"journal", "f"}, {"ssh", "A"}, {"ssh", "m"}, {"ssh", "u"},
	} {
		cmd, _, _ := (&cli{}).rootCommand().Find([]string{"units", short.verb})
		if cmd.Flags().ShorthandLookup(short.flag) == nil {
			t.Errorf("%s knows no -%s", short.verb, short.flag)
		}
	}
}

func taken(cmd *cobra.Command, flag string) bool {
	return slices.ContainsFunc([]*pflag.FlagSet{cmd.Flags(), cmd.InheritedFlags()}, func(f *pflag.FlagSet) bool { return f.Lookup(flag) != nil })
}
