package openstack

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"

	"github.com/musterhq/muster/providers"
)

// apiPort is the agents' API, by which operators reach hosts.
const apiPort = 7400

// sole finds the one thing that an owner shall have, or makes it. Names are not unique, so who made one looks again and
// gives way when there is another; of two makers at least one does.
func sole[T any](
	ctx context.Context, id func(T) string, find func(context.Context) ([]T, error), make func(context.Context) (T, error),
	remove func(context.Context, T) error,
) (T, error) {
	first := func(list []T) T {
		return slices.MinFunc(list, func(a, b T) int { return strings.Compare(id(a), id(b)) })
	}
	for {
		list, err := find(ctx)
		if err != nil {
			return *new(T), err
		}
		if len(list) > 0 {
			return first(list), nil
		}
		mine, err := make(ctx)
		if err != nil {
			return mine, err
		}
		if list, err = find(ctx); err != nil {
			return mine, err
		}
		if len(list) == 1 && id(list[0]) == id(mine) {
			return mine, nil
		}
		if err := remove(ctx, mine); err != nil {
			return mine, err
		}
		if err := giveWay(ctx); err != nil {
			return mine, err
		}
	}
}

// groupsOf are the IDs of the security groups of a host's ports.
func (p *Provider) groupsOf(ctx context.Context, s *session, o owner, settings Settings) ([]string, error) {
	if settings.metal() {
		return nil, nil
	}
	if len(settings.SecurityGroups) == 0 {
		own, err := p.ownGroup(ctx, s, o)
		return []string{own}, err
	}
	var ids []string
	for _, name := range settings.SecurityGroups {
		group, err := p.findGroup(ctx, s, name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, group.id)
	}
	return ids, nil
}

func (p *Provider) findGroup(ctx context.Context, s *session, name string) (named, error) {
	return p.resolve(ctx, s, "security group", name, func(ctx context.Context, all bool) ([]named, error) {
		options := groups.ListOpts{Limit: pageSize}
		switch {
		case all:
		case uuidForm.MatchString(name):
			options.ID = name
		default:
			options.Name = name
		}
		list, err := s.securityGroups(ctx, options)
		found := make([]named, len(list))
		for i, each := range list {
			found[i] = named{id: each.ID, name: each.Name}
		}
		return found, err
	})
}

func (s *session) securityGroups(ctx context.Context, options groups.ListOpts) ([]groups.SecGroup, error) {
	pages, err := groups.List(s.network, options).AllPages(ctx)
	if err != nil {
		return nil, classified(ctx, err)
	}
	list, err := groups.ExtractGroups(pages)
	return list, classified(ctx, err)
}

// ownGroups are the owner's security groups: one, or while it is being made more.
func (s *session) ownGroups(ctx context.Context, o owner) ([]groups.SecGroup, error) {
	return s.securityGroups(ctx, groups.ListOpts{Name: o.group(), Description: o.description(), ProjectID: s.project, Limit: pageSize})
}

// ownGroup is the security group that muster makes for an owner, with its rules.
func (p *Provider) ownGroup(ctx context.Context, s *session, o owner) (string, error) {
	key := "own security group " + o.group()
	unlock, err := p.shared.Lock(ctx, key)
	if err != nil {
		return "", err
	}
	defer unlock()
	if known, ok := p.found.get(key, p.now()); ok {
		return known.id, nil
	}
	for {
		group, err := s.soleGroup(ctx, o)
		if err == nil {
			err = s.openPorts(ctx, group, p.openings())
		}
		if hasStatus(err, http.StatusNotFound) { // its maker gave way to another
			if err := giveWay(ctx); err != nil {
				return "", err
			}
			continue
		}
		if err != nil {
			return "", err
		}
		p.found.put(key, named{id: group.ID}, p.now().Add(lookupLife))
		return group.ID, nil
	}
}

// soleGroup finds an owner's security group, or makes it.
func (s *session) soleGroup(ctx context.Context, o owner) (groups.SecGroup, error) {
	return sole(ctx, func(g groups.SecGroup) string { return g.ID },
		func(ctx context.Context) ([]groups.SecGroup, error) { return s.ownGroups(ctx, o) },
		func(ctx context.Context) (groups.SecGroup, error) {
			made, err := groups.Create(ctx, s.network, groups.CreateOpts{Name: o.group(), Description: o.description()}).Extract()
			if err != nil {
				return groups.SecGroup{}, classified(ctx, err)
			}
			return *made, nil
		},
		func(ctx context.Context, g groups.SecGroup) error { return s.deleteGroup(ctx, g.ID) },
	)
}

// openings are what the configuration lets in.
func (p *Provider) openings() []opening {
	// The rules were validated.
	api, _ := Rule{Protocol: "tcp", Ports: fmt.Sprint(apiPort), From: p.config.APIFrom}.opening()
	all := []opening{api}
	for _, rule := range p.config.Allow {
		o, _ := rule.opening()
		all = append(all, o)
	}
	return all
}

// wantedRules are the rules of a group: its members reach each other, and the openings are open. A group lets everything
// out from the beginning.
func wantedRules(group string, openings []opening) []rules.CreateOpts {
	var wanted []rules.CreateOpts
	for _, family := range []rules.RuleEtherType{rules.EtherType4, rules.EtherType6} {
		wanted = append(wanted, rules.CreateOpts{Direction: rules.DirIngress, EtherType: family, SecGroupID: group, RemoteGroupID: group})
	}
	for _, each := range openings {
		for _, subnet := range each.from {
			rule := rules.CreateOpts{
				Direction: rules.DirIngress, EtherType: rules.EtherType4, SecGroupID: group, RemoteIPPrefix: subnet.String(),
				Protocol: rules.RuleProtocol(each.protocol), PortRangeMin: each.min, PortRangeMax: each.max,
			}
			if subnet.Addr().Is6() {
				rule.EtherType = rules.EtherType6
				if each.protocol == "icmp" {
					rule.Protocol = rules.ProtocolIPv6ICMP
				}
			}
			wanted = append(wanted, rule)
		}
	}
	return wanted
}

// openPorts adds the rules that a group lacks. Rules that somebody added stay.
func (s *session) openPorts(ctx context.Context, group groups.SecGroup, openings []opening) error {
	for _, wanted := range wantedRules(group.ID, openings) {
		if slices.ContainsFunc(group.Rules, func(have rules.SecGroupRule) bool { return sameRule(have, wanted) }) {
			continue
		}
		_, err := rules.Create(ctx, s.network, wanted).Extract()
		err = classified(ctx, err)
		if err != nil && !hasStatus(err, http.StatusConflict) { // somebody else was faster
			return err
		}
	}
	return nil
}

// sameRule tells whether a group has a wanted rule. Neutron leaves the subnet out where it is everything.
func sameRule(have rules.SecGroupRule, wanted rules.CreateOpts) bool {
	prefix := have.RemoteIPPrefix
	if prefix == "" && have.RemoteGroupID == "" {
		prefix = everywhere[0]
		if have.EtherType == string(rules.EtherType6) {
			prefix = everywhere[1]
		}
	}
	return have.Direction == string(wanted.Direction) && have.EtherType == string(wanted.EtherType) &&
		have.Protocol == string(wanted.Protocol) && have.PortRangeMin == wanted.PortRangeMin &&
		have.PortRangeMax == wanted.PortRangeMax && have.RemoteGroupID == wanted.RemoteGroupID && prefix == wanted.RemoteIPPrefix
}

func (s *session) deleteGroup(ctx context.Context, id string) error {
	return ignoreGone(classified(ctx, groups.Delete(ctx, s.network, id).ExtractErr()))
}

// serverGroupOf is the ID of the server group of a host, "" for none.
func (p *Provider) serverGroupOf(ctx context.Context, s *session, o owner, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	if !slices.Contains(policies, name) {
		group, err := p.findServerGroup(ctx, s, name)
		return group.id, err
	}
	key := "own server group " + o.serverGroup(name)
	unlock, err := p.shared.Lock(ctx, key)
	if err != nil {
		return "", err
	}
	defer unlock()
	if known, ok := p.found.get(key, p.now()); ok {
		return known.id, nil
	}
	group, err := sole(ctx, func(n named) string { return n.id },
		func(ctx context.Context) ([]named, error) {
			all, err := s.serverGroups(ctx)
			return match(o.serverGroup(name), all), err
		},
		func(ctx context.Context) (named, error) {
			made, err := servergroups.Create(ctx, s.compute, servergroups.CreateOpts{Name: o.serverGroup(name), Policy: name}).Extract()
			if err != nil {
				return named{}, classified(ctx, err)
			}
			return named{id: made.ID, name: made.Name}, nil
		},
		func(ctx context.Context, n named) error { return s.deleteServerGroup(ctx, n.id) },
	)
	if err == nil {
		p.found.put(key, group, p.now().Add(lookupLife))
	}
	return group.id, err
}

func (p *Provider) findServerGroup(ctx context.Context, s *session, name string) (named, error) {
	return p.resolve(ctx, s, "server group", name, func(ctx context.Context, _ bool) ([]named, error) { return s.serverGroups(ctx) })
}

func (s *session) serverGroups(ctx context.Context) ([]named, error) {
	pages, err := servergroups.List(s.compute, servergroups.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, classified(ctx, err)
	}
	list, err := servergroups.ExtractServerGroups(pages)
	found := make([]named, len(list))
	for i, each := range list {
		found[i] = named{id: each.ID, name: each.Name}
	}
	return found, classified(ctx, err)
}

func (s *session) deleteServerGroup(ctx context.Context, id string) error {
	return ignoreGone(classified(ctx, servergroups.Delete(ctx, s.compute, id).ExtractErr()))
}

// ownServerGroups are those that muster made for an owner.
func (s *session) ownServerGroups(ctx context.Context, o owner) ([]named, error) {
	all, err := s.serverGroups(ctx)
	return slices.DeleteFunc(all, func(n named) bool {
		return !slices.ContainsFunc(policies, func(policy string) bool { return n.name == o.serverGroup(policy) })
	}), err
}

// errInUse says what keeps a security group.
func errInUse(id string, err error) error {
	return fmt.Errorf("security group %s is used by a port that muster did not make, see `openstack port list --security-group %s`: %w: %w",
		id, id, err, providers.ErrConflict)
}
