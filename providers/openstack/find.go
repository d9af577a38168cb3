package openstack

import (
	"context"
	"fmt"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/musterhq/muster/providers"
)

// findServer finds the server of a host. When there are several, those without the host's port cannot live and are
// removed.
func (p *Provider) findServer(
	ctx context.Context, s *session, o owner, id providers.Identity,
) (*providers.Instance, error) {
	list, err := s.serversOf(ctx, o, identityTag(id))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	slices.SortFunc(list, older)
	if len(list) == 1 {
		made := list[0].instance(id)
		return &made, nil
	}
	held, err := s.portsOf(ctx, o, portName(id))
	if err != nil {
		return nil, err
	}
	kept, others := keep(list, held)
	for _, other := range others {
		p.log.WarnContext(ctx, "removing a server that a lost answer left beside the host's",
			"provider", p.name, "host", id.Host, "server", other.ID)
		if err := s.deleteServer(ctx, other.ID); err != nil {
			return nil, err
		}
	}
	made := kept.instance(id)
	return &made, nil
}

// keep chooses the server that a host's port belongs to, or the first.
func keep(list []server, held []ports.Port) (kept server, others []server) {
	index := slices.IndexFunc(list, func(each server) bool {
		return slices.ContainsFunc(held, func(port ports.Port) bool { return port.DeviceID == each.ID })
	})
	index = max(index, 0)
	return list[index], slices.Delete(slices.Clone(list), index, index+1)
}

// boundServer is the server that a host's ports belong to, which lists may not show yet. It finds nothing when that is
// gone and Nova is about to give the port back.
func (s *session) boundServer(ctx context.Context, o owner, id providers.Identity, list []ports.Port) (*server, error) {
	for _, port := range list {
		if port.DeviceID == "" {
			continue
		}
		found, there, err := s.server(ctx, port.DeviceID)
		if err != nil {
			return nil, err
		}
		if !there {
			continue
		}
		if actual, ours := o.identity(found.Metadata); !ours || actual != id {
			return nil, fmt.Errorf("port %s of the host belongs to server %s, which is not the host's: detach it: %w",
				port.ID, found.ID, providers.ErrConflict)
		}
		return &found, nil
	}
	return nil, nil
}

// List asks Nova and Neutron once each for every some hundred hosts.
func (p *Provider) List(ctx context.Context, cluster string) ([]providers.Instance, error) {
	s, err := p.session(ctx)
	if err != nil {
		return nil, err
	}
	o := p.owner(cluster)
	held, err := s.portsOf(ctx, o, "")
	if err != nil {
		return nil, err
	}
	all, err := s.servers(ctx, o, held)
	if err != nil {
		return nil, err
	}
	list := instances(o, all, held)
	if s.baremetal != nil {
		nodes, err := p.listNodes(ctx, s, o, held)
		if err != nil {
			return nil, err
		}
		list = append(list, nodes...)
	}
	slices.SortFunc(list, func(a, b providers.Instance) int { return a.Compare(b.Identity) })
	return list, nil
}

// servers lists the servers of an owner, with those that Nova's list does not show yet and that hold a port.
func (s *session) servers(ctx context.Context, o owner, held []ports.Port) ([]server, error) {
	all, err := s.serversOf(ctx, o, clusterTag(o.cluster))
	if err != nil {
		return nil, err
	}
	for _, port := range held {
		if port.DeviceID == "" || slices.ContainsFunc(all, func(each server) bool { return each.ID == port.DeviceID }) {
			continue
		}
		hidden, there, err := s.server(ctx, port.DeviceID)
		if err != nil {
			return nil, err
		}
		if _, ours := o.identity(hidden.Metadata); there && ours {
			all = append(all, hidden)
		}
	}
	return all, nil
}

// instances are servers as providers.Provider shows them, one for each identity.
func instances(o owner, all []server, held []ports.Port) []providers.Instance {
	byHost := map[providers.Identity][]server{}
	for _, each := range all {
		id, _ := o.identity(each.Metadata)
		byHost[id] = append(byHost[id], each)
	}
	list := make([]providers.Instance, 0, len(byHost))
	for id, candidates := range byHost {
		slices.SortFunc(candidates, older)
		kept, _ := keep(candidates, held)
		list = append(list, kept.instance(id))
	}
	return list
}
