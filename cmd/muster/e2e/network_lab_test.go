//go:build lab

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// spaces give each host of the local provider, and the operator, a network namespace of their own on a bridge that
// stands in another one, where nftables cuts them off from each other. Hosts keep the addresses of 127.64.0.0/10 that
// the provider leases, which namespaces can route like any others (route_localnet, ip-sysctl.rst).
type spaces struct {
	t      testing.TB
	prefix string // of the namespaces' names
	hosts  []string
}

// operatorAddress ends with 0, as no host's does.
const operatorAddress = "127.64.1.0"

func newSpaces(t testing.TB, hosts ...string) *spaces {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces take root: run the lab as root")
	}
	n := &spaces{t: t, prefix: fmt.Sprintf("muster-lab-%d-", os.Getpid()), hosts: hosts}
	t.Cleanup(n.remove)
	n.sh(`ip netns add $hub
	      ip -n $hub link add bridge up type bridge
	      ip netns exec $hub nft add table bridge cut
	      ip netns exec $hub nft 'add chain bridge cut forward { type filter hook forward priority 0; }'`)
	for _, host := range append([]string{"operator"}, hosts...) {
		n.sh(`ip netns add $space
		      ip netns exec $space sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.ip_nonlocal_bind=1
		      ip -n $space link set lo up
		      ip -n $space address add 127.0.0.1/32 dev lo
		      ip -n $space address del 127.0.0.1/8 dev lo
		      ip -n $hub link add $host up master bridge type veth peer name eth0 netns $space
		      ip -n $space link set eth0 up`, "host="+host, "space="+n.space(host))
	}
	n.sh(`ip -n $space address add $address/10 dev eth0`, "space="+n.space("operator"), "address="+operatorAddress)
	return n
}

func (n *spaces) space(host string) string { return n.prefix + host }

// sh runs a script with variables.
func (n *spaces) sh(script string, variables ...string) {
	n.t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Env = append(os.Environ(), append(variables, "hub="+n.space("hub"))...)
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("cannot change the network: %v\n%s\n%s", err, script, out)
	}
}

func (n *spaces) remove() {
	for _, host := range append([]string{"hub", "operator"}, n.hosts...) {
		if err := exec.Command("ip", "netns", "del", n.space(host)).Run(); err != nil {
			n.t.Errorf("cannot remove the network namespace %s: %v", n.space(host), err)
		}
	}
}

// musterd is a musterd for the provider's `musterd:` that goes to its host's namespace, with its address, first.
func (n *spaces) musterd(dir string) string {
	n.t.Helper()
	path := filepath.Join(dir, "musterd")
	script := fmt.Sprintf(`#!/bin/sh -eu
# $1 is --root
of() { sed -n 's/.*"'"$1"'": "\([^"]*\)".*/\1/p' "$2/meta-data.json"; }
space=%s$(of local_hostname "$2")
ip -n "$space" address replace "$(of local_ipv4 "$2")/10" dev eth0
exec nsenter --net="/run/netns/$space" %s "$@"
`, n.prefix, filepath.Join(binDir, "musterd"))
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// enter is what to run a command under so that it is on a host's network.
func (n *spaces) enter(host string) []string {
	return []string{"nsenter", "--net=/run/netns/" + n.space(host)}
}

// A rule has the bridge drop frames. They are Ethernet's: connections that stand are cut off like new ones.
type rule string

// apart leaves some hosts to themselves: nothing passes between them and all others.
func apart(hosts ...string) []rule {
	return []rule{
		rule(fmt.Sprintf("iifname { %[1]s } oifname != { %[1]s } drop", strings.Join(hosts, ", "))),
		rule(fmt.Sprintf("iifname != { %[1]s } oifname { %[1]s } drop", strings.Join(hosts, ", "))),
	}
}

// deaf lets a host speak and hear nothing.
func deaf(host string) []rule { return []rule{rule("oifname " + host + " drop")} }

// mute lets a host hear and say nothing.
func mute(host string) []rule { return []rule{rule("iifname " + host + " drop")} }

// cut replaces all cuts by these, at once; none heals the network.
func (n *spaces) cut(rules ...rule) {
	n.t.Helper()
	script := "flush chain bridge cut forward\n"
	for _, r := range rules {
		script += "add rule bridge cut forward " + string(r) + "\n"
	}
	n.sh(`printf %s "$script" | ip netns exec $hub nft -f -`, "script="+script)
}
