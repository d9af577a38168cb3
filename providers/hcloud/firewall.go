package hcloud

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/musterhq/muster/providers"
)

// The ports that the cluster's firewall opens: the agents' API, SSH, and etcd's for clients and peers.
const (
	portAPI  = "7400"
	portSSH  = "22"
	portEtcd = "2379-2380"
)

// firewallsOf are a host's firewalls: those that its settings name, or the cluster's own.
func (p *Provider) firewallsOf(ctx context.Context, o owner, s Settings) ([]*api.ServerCreateFirewall, error) {
	if len(s.Firewalls) == 0 {
		own, err := remember(ctx, &p.known, "own firewall "+o.group(), func(ctx context.Context) (*api.Firewall, error) {
			return p.ownFirewall(ctx, o)
		})
		if err != nil {
			return nil, err
		}
		return []*api.ServerCreateFirewall{{Firewall: *own}}, nil
	}
	var list []*api.ServerCreateFirewall
	for _, name := range s.Firewalls {
		given, err := p.firewall(ctx, name)
		if err != nil {
			return nil, err
		}
		list = append(list, &api.ServerCreateFirewall{Firewall: *given})
	}
	return list, nil
}

func (p *Provider) firewall(ctx context.Context, name string) (*api.Firewall, error) {
	all, err := remember(ctx, &p.known, "firewalls", func(ctx context.Context) ([]named[*api.Firewall], error) {
		list, err := p.firewalls(ctx)
		return naming(list, func(f *api.Firewall) (int64, string) { return f.ID, f.Name }), err
	})
	if err != nil {
		return nil, err
	}
	return choose("firewall", name, all)
}

func (p *Provider) firewalls(ctx context.Context) ([]*api.Firewall, error) {
	return pages(ctx, func(ctx context.Context, o api.ListOpts) ([]*api.Firewall, *api.Response, error) {
		return p.api.Firewall.List(ctx, api.FirewallListOpts{ListOpts: o, Sort: byID})
	}, "")
}

// ownFirewall finds the cluster's firewall, or makes it. Its rules are those of the cluster file, whatever somebody made of
// them.
func (p *Provider) ownFirewall(ctx context.Context, o owner) (*api.Firewall, error) {
	own, err := p.findOwnFirewall(ctx, o)
	if err != nil || own != nil {
		return own, err
	}
	options := api.FirewallCreateOpts{Name: o.group(), Labels: o.labels(), Rules: p.rules()}
	made, response, err := p.api.Firewall.Create(ctx, options)
	err = classified(ctx, response, err)
	if !hasCode(err, api.ErrorCodeUniquenessError) {
		return made.Firewall, err
	}
	own, err = p.findOwnFirewall(ctx, o) // another process was faster
	if err == nil && own == nil {
		err = fmt.Errorf("the cluster's firewall is not shown yet: %w", providers.ErrUnavailable)
	}
	return own, err
}

func (p *Provider) findOwnFirewall(ctx context.Context, o owner) (*api.Firewall, error) {
	own, response, err := p.api.Firewall.GetByName(ctx, o.group())
	if err := classified(ctx, response, err); err != nil || own == nil {
		return nil, err
	}
	if !o.owns(own.Name, own.Labels) {
		return nil, foreign("firewall", own.Name)
	}
	rules := p.rules()
	if slices.EqualFunc(own.Rules, rules, sameRule) {
		return own, nil
	}
	_, response, err = p.api.Firewall.SetRules(ctx, own, api.FirewallSetRulesOpts{Rules: rules})
	return own, classified(ctx, response, err)
}

// rules are what the configuration lets in. A firewall lets everything out that no rule is about.
func (p *Provider) rules() []api.FirewallRule {
	var rules []api.FirewallRule
	open := func(port, what string, from []string) {
		if len(from) == 0 {
			return
		}
		rule := api.FirewallRule{
			Direction: api.FirewallRuleDirectionIn, Protocol: api.FirewallRuleProtocolTCP, Port: &port, Description: &what,
		}
		for _, text := range from {
			_, network, _ := net.ParseCIDR(text) // it was validated
			rule.SourceIPs = append(rule.SourceIPs, *network)
		}
		rules = append(rules, rule)
	}
	open(portAPI, "API for operators", p.config.Allow.API)
	open(portSSH, "SSH", p.config.Allow.SSH)
	open(portAPI, "API for members", p.config.Allow.Members)
	open(portEtcd, "etcd for members", p.config.Allow.Members)
	return rules
}

func sameRule(a, b api.FirewallRule) bool {
	sorted := func(networks []net.IPNet) []string {
		texts := make([]string, len(networks))
		for i, network := range networks {
			texts[i] = network.String()
		}
		slices.Sort(texts)
		return texts
	}
	text := func(p *string) string { return *cmp.Or(p, new(string)) }
	return a.Direction == b.Direction && a.Protocol == b.Protocol && text(a.Port) == text(b.Port) &&
		text(a.Description) == text(b.Description) && slices.Equal(sorted(a.SourceIPs), sorted(b.SourceIPs)) &&
		len(a.DestinationIPs) == len(b.DestinationIPs)
}
