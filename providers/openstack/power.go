package openstack

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/musterhq/muster/providers"
)

// Start powers a host on, or lets one that is paused, suspended or shelved go on. One that is still being powered off is
// ErrUnavailable until it is.
func (p *Provider) Start(ctx context.Context, instance providers.Instance) error {
	return p.alone(ctx, instance, func(s *session) error {
		if strings.HasPrefix(instance.ID, nodePrefix) {
			return p.startNode(ctx, s, instance)
		}
		return p.powerServer(ctx, s, instance, s.resume, statusActive)
	})
}

// Stop powers a host off, after its guest was asked.
func (p *Provider) Stop(ctx context.Context, instance providers.Instance) error {
	return p.alone(ctx, instance, func(s *session) error {
		if strings.HasPrefix(instance.ID, nodePrefix) {
			return p.stopNode(ctx, s, instance)
		}
		return p.powerServer(ctx, s, instance, s.stop, statusShutoff)
	})
}

// powerServer changes the power of a server. It is a success too when somebody else has brought the server to the wanted
// status meanwhile.
func (p *Provider) powerServer(
	ctx context.Context, s *session, instance providers.Instance, change func(context.Context, server) error, wanted string,
) error {
	found, there, err := s.serverOf(ctx, p.owner(instance.Cluster), instance.Identity, instance.ID)
	if err == nil && !there {
		err = fmt.Errorf("host %s has no server %s: %w", instance.Host, instance.ID, providers.ErrNotFound)
	}
	if err != nil {
		return err
	}
	err = change(ctx, found)
	if !hasStatus(err, http.StatusConflict) {
		return err
	}
	again, there, lookErr := s.serverOf(ctx, p.owner(instance.Cluster), instance.Identity, instance.ID)
	if lookErr == nil && there && (again.Status == wanted || wanted == statusShutoff && again.Task == taskPoweringOff) {
		return nil
	}
	return err
}

// stop asks for a server to be powered off. What does not run stays as it is.
func (s *session) stop(ctx context.Context, found server) error {
	if found.state() == providers.StateStopped || found.Task == taskPoweringOff {
		return nil
	}
	return classified(ctx, servers.Stop(ctx, s.compute, found.ID).ExtractErr())
}

// resume does what a server's state needs for it to run.
func (s *session) resume(ctx context.Context, found server) error {
	if found.Task == taskPoweringOff {
		return fmt.Errorf("server %s is still being powered off: %w", found.ID, providers.ErrUnavailable)
	}
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
