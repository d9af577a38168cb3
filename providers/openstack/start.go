package openstack

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/musterhq/muster/providers"
)

// Start powers a host on, or lets one that is paused, suspended or shelved go on.
func (p *Provider) Start(ctx context.Context, instance providers.Instance) error {
	if err := instance.Identity.Validate(); err != nil {
		return err
	}
	unlock, err := p.hosts.lock(ctx, instance.Identity.ID())
	if err != nil {
		return err
	}
	defer unlock()
	s, err := p.session(ctx)
	if err != nil {
		return err
	}
	if strings.HasPrefix(instance.ID, nodePrefix) {
		return p.startNode(ctx, s, instance.Identity)
	}
	found, there, err := s.serverOf(ctx, p.owner(instance.Cluster), instance.Identity, instance.ID)
	if err == nil && !there {
		err = fmt.Errorf("host %s has no server %s: %w", instance.Host, instance.ID, providers.ErrNotFound)
	}
	if err != nil {
		return err
	}
	err = s.resume(ctx, found)
	if !hasStatus(err, http.StatusConflict) {
		return err
	}
	// It may have been started meanwhile.
	again, there, lookErr := s.serverOf(ctx, p.owner(instance.Cluster), instance.Identity, instance.ID)
	if lookErr == nil && there && again.Status == statusActive {
		return nil
	}
	return err
}

// resume does what a server's state needs for it to run.
func (s *session) resume(ctx context.Context, found server) error {
	switch found.Status {
	case statusShutoff:
		return classified(ctx, servers.Start(ctx, s.compute, found.ID).ExtractErr())
	case statusPaused:
		return classified(ctx, servers.Unpause(ctx, s.compute, found.ID).ExtractErr())
	case statusSuspended:
		return classified(ctx, servers.Resume(ctx, s.compute, found.ID).ExtractErr())
	case statusShelved, statusShelvedOffloaded:
		return classified(ctx, servers.Unshelve(ctx, s.compute, found.ID, servers.UnshelveOpts{}).ExtractErr())
	case statusError:
		return fmt.Errorf("server %s failed and cannot be started, see `openstack server show %s`: %w",
			found.ID, found.ID, providers.ErrInvalid)
	}
	return nil
}
