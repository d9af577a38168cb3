package hcloud

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/musterhq/muster/providers"
)

// List makes one call for every fifty hosts.
func (p *Provider) List(ctx context.Context, cluster string) ([]providers.Instance, error) {
	o := p.owner(cluster)
	servers, err := p.servers(ctx, o.selector())
	if err != nil {
		return nil, err
	}
	list := []providers.Instance{}
	for _, each := range servers {
		if id, ours := o.hostOf(each.Labels); ours && each.Status != api.ServerStatusDeleting {
			list = append(list, instance(id, each))
		}
	}
	slices.SortFunc(list, func(a, b providers.Instance) int { return a.Compare(b.Identity) })
	return list, nil
}

func (p *Provider) servers(ctx context.Context, selector string) ([]*api.Server, error) {
	return pages(ctx, func(ctx context.Context, o api.ListOpts) ([]*api.Server, *api.Response, error) {
		return p.api.Server.List(ctx, api.ServerListOpts{ListOpts: o, Sort: byID})
	}, selector)
}

// find finds the server of a host by its name, and completes its labels. It finds nothing when there is none, or when lists
// do not show it.
func (p *Provider) find(ctx context.Context, id providers.Identity) (*api.Server, error) {
	o := p.owner(id.Cluster)
	server, response, err := p.api.Server.GetByName(ctx, o.serverName(id))
	if err := classified(ctx, response, err); err != nil || server == nil {
		return nil, err
	}
	want := o.serverLabels(id)
	switch judge(server.Labels, want) {
	case claimForeign:
		return nil, foreign("server", server.Name)
	case claimHalf:
		p.log.WarnContext(ctx, "giving a server its lost labels back", "provider", p.name, "server", server.Name)
		server, response, err = p.api.Server.Update(ctx, server, api.ServerUpdateOpts{Labels: merged(server.Labels, want)})
		if err := classified(ctx, response, err); err != nil {
			return nil, err
		}
	}
	if server.Status == api.ServerStatusDeleting {
		return nil, fmt.Errorf("server %s is being deleted: %w", server.Name, providers.ErrUnavailable)
	}
	return server, nil
}

// foreign says that something that is not the cluster's has a name of the cluster's.
func foreign(kind, name string) error {
	return fmt.Errorf("%s %s has a name of the cluster's and not its labels: delete or rename it: %w", kind, name, providers.ErrConflict)
}

// instance is a server as providers.Provider shows it.
func instance(id providers.Identity, server *api.Server) providers.Instance {
	return providers.Instance{
		Identity: id, ID: strconv.FormatInt(server.ID, 10), State: stateOf(server), Addresses: addresses(server), Created: server.Created,
	}
}

// stateOf is what a server's status means. A server that is off and locked is being worked on: it is off for a moment before
// it starts for the first time.
func stateOf(server *api.Server) providers.State {
	switch {
	case server.Status == api.ServerStatusInitializing, server.Status == api.ServerStatusOff && server.Locked:
		return providers.StatePending
	case server.Status == api.ServerStatusOff:
		return providers.StateStopped
	default: // it starts, stops, migrates or is rebuilt; and unknown, of which nothing is known
		return providers.StateRunning
	}
}

// addresses are public IPv4, the first of the public IPv6 network, which is the one that images take, and private ones.
func addresses(server *api.Server) []netip.Addr {
	var all []netip.Addr
	add := func(ip net.IP) {
		if addr, ok := netip.AddrFromSlice(ip); ok && !addr.Unmap().IsUnspecified() {
			all = append(all, addr.Unmap())
		}
	}
	add(server.PublicNet.IPv4.IP)
	if ip := server.PublicNet.IPv6; !ip.IsUnspecified() {
		first := slices.Clone(ip.IP.To16())
		first[15] |= 1
		add(first)
	}
	for _, private := range server.PrivateNet {
		add(private.IP)
	}
	return all
}
