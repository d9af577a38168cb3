package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/musterhq/muster/providers"
)

// bridge joins the containers that have addresses of one network, whichever provider or cluster they belong to, with each
// other and this machine. It is there as long as one of the network's addresses is leased.
type bridge struct {
	name    string
	mark    string // the interface's alias: what makes it ours
	network netip.Prefix
	nat     bool
}

const bridgePrefix = "muster-"

// bridgeOf is the bridge of a network whose addresses are leased from l.
func (l leaseDir) bridgeOf(network netip.Prefix, nat bool) bridge {
	mark := l.bridgeMark() + network.String()
	return bridge{name: fmt.Sprintf("%s%08x", bridgePrefix, uint32(hashOf(mark))), mark: mark, network: network, nat: nat}
}

// bridgeMark begins the marks of all bridges whose addresses are leased from l.
func (l leaseDir) bridgeMark() string { return "muster.leases=" + l.dir + " muster.network=" }

// link is an interface of this machine as `ip -json -details address` shows it.
type link struct {
	Name      string   `json:"ifname"`
	Alias     string   `json:"ifalias"`
	Flags     []string `json:"flags"`
	Addresses []struct {
		Local netip.Addr `json:"local"`
		Bits  int        `json:"prefixlen"`
	} `json:"addr_info"`
}

func (l link) has(prefix netip.Prefix) bool {
	for _, a := range l.Addresses {
		if netip.PrefixFrom(a.Local, a.Bits) == prefix {
			return true
		}
	}
	return false
}

// overlaps tells whether the interface leads to addresses of a network.
func (l link) overlaps(network netip.Prefix) bool {
	for _, a := range l.Addresses {
		if netip.PrefixFrom(a.Local, a.Bits).Overlaps(network) {
			return true
		}
	}
	return false
}

func links(ctx context.Context) ([]link, error) {
	out, err := command(ctx, "ip", "-json", "-details", "address", "show")
	if err != nil {
		return nil, err
	}
	var list []link
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("cannot understand what `ip -json -details address show` prints: %w", err)
	}
	return list, nil
}

func findLink(list []link, name string) (link, bool) {
	i := slices.IndexFunc(list, func(l link) bool { return l.Name == name })
	if i < 0 {
		return link{}, false
	}
	return list[i], true
}

// ensureBridge makes what of a network's bridge is missing. Nobody else makes or removes bridges meanwhile.
func (l leaseDir) ensureBridge(ctx context.Context, b bridge) error {
	return l.locked(ctx, func() error {
		list, err := links(ctx)
		if err != nil {
			return err
		}
		have, found := findLink(list, b.name)
		if found && have.Alias != "" && have.Alias != b.mark {
			return fmt.Errorf("the interface %s is not muster's: %w", b.name, providers.ErrConflict)
		}
		for _, other := range list {
			if other.Name != b.name && other.overlaps(b.network) {
				return fmt.Errorf("interface %s has addresses of %s; set `network:` to another: %w", other.Name, b.network, providers.ErrConflict)
			}
		}
		return b.make(ctx, have, found)
	})
}

// make completes a bridge of which have is there.
func (b bridge) make(ctx context.Context, have link, found bool) error {
	own := netip.PrefixFrom(gateway(b.network), b.network.Bits())
	steps := []struct {
		done bool
		args []string
	}{
		{found, []string{"link", "add", b.name, "type", "bridge"}},
		{have.Alias == b.mark, []string{"link", "set", b.name, "alias", b.mark}},
		{have.has(own), []string{"address", "replace", own.String(), "dev", b.name}},
		{slices.Contains(have.Flags, "UP"), []string{"link", "set", b.name, "up"}},
	}
	for _, s := range steps {
		if s.done {
			continue
		}
		if _, err := command(ctx, "ip", s.args...); err != nil {
			return err
		}
	}
	if b.nat {
		return b.masquerade(ctx)
	}
	return nil
}

// dropBridges removes every bridge of which no address is leased any more, and b, even when it was only half made.
func (l leaseDir) dropBridges(ctx context.Context, b *bridge) error {
	if _, err := exec.LookPath("ip"); err != nil {
		return nil // who has none made no bridge
	}
	list, err := links(ctx)
	if err != nil {
		return err
	}
	var ours []bridge
	for _, each := range list {
		text, marked := strings.CutPrefix(each.Alias, l.bridgeMark())
		network, parseErr := netip.ParsePrefix(text)
		switch {
		case marked && parseErr == nil:
			ours = append(ours, l.bridgeOf(network, false))
		case b != nil && each.Name == b.name && each.Alias == "":
			ours = append(ours, *b)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	return l.locked(ctx, func() (err error) {
		for _, each := range ours {
			if !l.anyIn(each.network) {
				err = errors.Join(err, each.remove(ctx))
			}
		}
		return err
	})
}

// remove removes a bridge and its rules. Another may have done so.
func (b bridge) remove(ctx context.Context) error {
	if err := b.endMasquerade(ctx); err != nil {
		return err
	}
	list, err := links(ctx)
	if _, found := findLink(list, b.name); err != nil || !found {
		return err
	}
	_, err = command(ctx, "ip", "link", "delete", b.name)
	return err
}

// masquerade lets the network's hosts reach what this machine reaches, with nftables or else iptables.
func (b bridge) masquerade(ctx context.Context) error {
	if _, err := exec.LookPath("nft"); err == nil {
		// Adding and deleting the table first makes the whole file mean the same however often it is read.
		return nft(ctx, fmt.Sprintf(`table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
	chain postrouting {
		type nat hook postrouting priority srcnat
		ip saddr %[2]s ip daddr != %[2]s masquerade
	}
}
`, b.name, b.network))
	}
	if _, err := command(ctx, "iptables", b.rule("-C")...); err == nil {
		return nil
	}
	_, err := command(ctx, "iptables", b.rule("-A")...)
	return err
}

func (b bridge) rule(operation string) []string {
	network := b.network.String()
	return []string{
		"-w", "-t", "nat", operation, "POSTROUTING", "-s", network, "!", "-d", network,
		"-m", "comment", "--comment", b.name, "-j", "MASQUERADE",
	}
}

// endMasquerade removes the rules, if there are any.
func (b bridge) endMasquerade(ctx context.Context) error {
	if _, err := exec.LookPath("nft"); err == nil {
		if err := nft(ctx, fmt.Sprintf("table ip %[1]s\ndelete table ip %[1]s\n", b.name)); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		return nil
	}
	for {
		if _, err := command(ctx, "iptables", b.rule("-C")...); err != nil {
			return context.Cause(ctx) // there is none
		}
		if _, err := command(ctx, "iptables", b.rule("-D")...); err != nil {
			return err
		}
	}
}

func nft(ctx context.Context, rules string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	return commandError(ctx, cmd)
}

// command runs a program of this machine and returns what it prints.
func command(ctx context.Context, name string, args ...string) ([]byte, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout = &out
	err := commandError(ctx, cmd)
	return out.Bytes(), err
}

// commandError runs a command. Its error has what the command said.
func commandError(ctx context.Context, cmd *exec.Cmd) error {
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if err == nil || context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("`%s`: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(said.Bytes()))
}
