package hcloud

import (
	"context"
	"fmt"
	"strconv"
	"time"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/musterhq/muster/providers"
)

// longestPause is the longest time between two looks at a server that is ending.
const longestPause = 5 * time.Second

// Destroy ends a host's server, with whom its addresses go, and waits until it is gone.
func (p *Provider) Destroy(ctx context.Context, instance providers.Instance) error {
	server, err := p.serverOf(ctx, instance)
	if err != nil || server == nil {
		return err
	}
	if err := p.end(ctx, server); err != nil {
		return err
	}
	p.forgetPlacements() // there is a free place
	return nil
}

// serverOf reads a host's server. It finds nothing when that is gone, and a server without the host's labels is not the
// host's any more.
func (p *Provider) serverOf(ctx context.Context, instance providers.Instance) (*api.Server, error) {
	number, err := strconv.ParseInt(instance.ID, 10, 64)
	if err != nil { // a host that was asked for and never seen
		return p.find(ctx, instance.Identity)
	}
	server, response, err := p.api.Server.GetByID(ctx, number)
	if err := classified(ctx, response, err); err != nil || server == nil {
		return nil, err
	}
	if judge(server.Labels, p.owner(instance.Cluster).serverLabels(instance.Identity)) == claimForeign {
		return nil, fmt.Errorf("server %s (%d) lacks the labels of host %s: give them back, or delete it yourself: %w",
			server.Name, server.ID, instance.Host, providers.ErrConflict)
	}
	return server, nil
}

// end deletes a server and looks until it is gone. One that is being worked on is asked again.
func (p *Provider) end(ctx context.Context, server *api.Server) error {
	rest := p.look
	for asked := false; ; {
		if !asked {
			_, response, err := p.api.Server.DeleteWithResult(ctx, server)
			err = ignoreGone(classified(ctx, response, err))
			if err != nil && !hasCode(err, api.ErrorCodeLocked, api.ErrorCodeConflict) {
				return err
			}
			asked = err == nil
		}
		if asked {
			left, response, err := p.api.Server.GetByID(ctx, server.ID)
			if err := classified(ctx, response, err); err != nil || left == nil {
				return err
			}
		}
		if err := providers.Pause(ctx, rest); err != nil {
			return err
		}
		rest = min(rest*3/2, longestPause)
	}
}

// Start powers a host on.
func (p *Provider) Start(ctx context.Context, instance providers.Instance) error {
	server, err := p.serverOf(ctx, instance)
	switch {
	case err != nil:
		return err
	case server == nil:
		return fmt.Errorf("server %s is gone: %w", instance.ID, providers.ErrNotFound)
	case server.Status != api.ServerStatusOff:
		return nil
	}
	_, response, err := p.api.Server.Poweron(ctx, server)
	return classified(ctx, response, err)
}

// Cleanup removes half-made servers, and the cluster's firewall and placement groups. It reads all that the project has of
// these, one call for every fifty, since what has lost a label is found by its name. A whole host is a mistake of the caller.
func (p *Provider) Cleanup(ctx context.Context, cluster string) error {
	o := p.owner(cluster)
	p.known.forget()
	p.forgetPlacements()
	servers, err := p.servers(ctx, "")
	if err != nil {
		return err
	}
	for _, each := range servers {
		if id, whole := o.hostOf(each.Labels); whole && each.Status != api.ServerStatusDeleting {
			return fmt.Errorf("host %s is still there: destroy it first: %w", id.Host, providers.ErrConflict)
		}
	}
	for _, each := range servers {
		id, named := o.hostNamed(each.Name)
		if named && judge(each.Labels, o.serverLabels(id)) != claimForeign {
			if err := p.end(ctx, each); err != nil {
				return err
			}
		}
	}
	return p.cleanGroups(ctx, o)
}

// cleanGroups deletes the cluster's firewall and its placement groups. A firewall is in use for a moment after the end of
// the servers that it was for.
func (p *Provider) cleanGroups(ctx context.Context, o owner) error {
	firewalls, err := p.firewalls(ctx)
	if err != nil {
		return err
	}
	for _, each := range firewalls {
		if o.owns(each.Name, each.Labels) {
			response, err := p.api.Firewall.Delete(ctx, each)
			if err := ignoreGone(classified(ctx, response, err)); err != nil {
				return fmt.Errorf("firewall %s (what it is applied to: `hcloud firewall describe %d`): %w", each.Name, each.ID, err)
			}
		}
	}
	groups, err := p.placements(ctx)
	if err != nil {
		return err
	}
	for _, each := range groups {
		if o.owns(each.Name, each.Labels) {
			response, err := p.api.PlacementGroup.Delete(ctx, each)
			if err := ignoreGone(classified(ctx, response, err)); err != nil {
				return fmt.Errorf("placement group %s: %w", each.Name, err)
			}
		}
	}
	return nil
}
