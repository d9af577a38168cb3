package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/musterhq/muster/providers"
)

// pageSize is how many items a list is asked for at a time.
const pageSize = 500

// portsOf lists the ports of a host, or with an empty name all of the owner.
func (s *session) portsOf(ctx context.Context, o owner, name string) ([]ports.Port, error) {
	options := ports.ListOpts{Name: name, Description: o.description(), ProjectID: s.project, Limit: pageSize}
	pages, err := ports.List(s.network, options).AllPages(ctx)
	if err != nil {
		return nil, classified(ctx, err)
	}
	list, err := ports.ExtractPorts(pages)
	return list, classified(ctx, err)
}

// makePort makes a port of a host. Whole machines have none of the firewalls that security groups are.
func (p *Provider) makePort(
	ctx context.Context, s *session, o owner, id providers.Identity, network string, groups []string,
) (ports.Port, error) {
	if groups == nil {
		groups = []string{}
	}
	port, err := ports.Create(ctx, s.network, ports.CreateOpts{
		NetworkID: network, Name: portName(id), Description: o.description(), SecurityGroups: &groups,
	}).Extract()
	err = classified(ctx, err)
	var refusal *apiError
	if errors.As(err, &refusal) && refusal.kind == "SecurityGroupNotFound" {
		// It was there a moment ago. It is looked up, or made, by the next try.
		p.found.forget()
		refusal.class = providers.ErrUnavailable
	}
	if err != nil {
		return ports.Port{}, err
	}
	return *port, nil
}

// errChanged says that a port is not as it was when it was looked at.
var errChanged = errors.New("the port was changed meanwhile")

// deletePort deletes a port unless it was changed since it was looked at. A revision of 0 deletes it as it is.
func (s *session) deletePort(ctx context.Context, id string, revision int) error {
	options := &gophercloud.RequestOpts{}
	if revision > 0 {
		// https://docs.openstack.org/api-ref/network/v2/#revisions
		options.MoreHeaders = map[string]string{"If-Match": fmt.Sprintf("revision_number=%d", revision)}
	}
	_, err := s.network.Delete(ctx, s.network.ServiceURL("ports", id), options)
	err = classified(ctx, err)
	if hasStatus(err, http.StatusPreconditionFailed) {
		return errChanged
	}
	return ignoreGone(err)
}

// releasePort deletes a port with its floating IPs, unless it was changed since it was looked at.
func (s *session) releasePort(ctx context.Context, port ports.Port, revision int) error {
	if err := s.deleteFloatingIPs(ctx, floatingips.ListOpts{PortID: port.ID}); err != nil {
		return err
	}
	return s.deletePort(ctx, port.ID, revision)
}

// makeFloatingIP gives a port an address of an external network. One that it has already is as good.
func (s *session) makeFloatingIP(ctx context.Context, o owner, network, port string) error {
	_, err := floatingips.Create(ctx, s.network, floatingips.CreateOpts{
		FloatingNetworkID: network, PortID: port, Description: o.description(),
	}).Extract()
	return classified(ctx, err)
}

func (s *session) listFloatingIPs(ctx context.Context, which floatingips.ListOpts) ([]floatingips.FloatingIP, error) {
	which.ProjectID, which.Limit = s.project, pageSize
	pages, err := floatingips.List(s.network, which).AllPages(ctx)
	if err != nil {
		return nil, classified(ctx, err)
	}
	list, err := floatingips.ExtractFloatingIPs(pages)
	return list, classified(ctx, err)
}

// deleteFloatingIPs deletes floating IPs of a port or of an owner. One that is on a port of ours is ours, whoever made it.
func (s *session) deleteFloatingIPs(ctx context.Context, which floatingips.ListOpts) error {
	list, err := s.listFloatingIPs(ctx, which)
	if err != nil {
		return err
	}
	for _, each := range list {
		err := classified(ctx, floatingips.Delete(ctx, s.network, each.ID).ExtractErr())
		if err := ignoreGone(err); err != nil {
			return err
		}
	}
	return nil
}
