package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/musterhq/muster/providers"
)

// Destroy ends a host: its floating IP, its server with the volumes that were made for it, and its ports at last.
func (p *Provider) Destroy(ctx context.Context, instance providers.Instance) error {
	return p.alone(ctx, instance, func(s *session) error {
		if strings.HasPrefix(instance.ID, nodePrefix) {
			return p.destroyNode(ctx, s, instance.Identity)
		}
		return p.destroyServer(ctx, s, instance)
	})
}

// alone changes a host while nobody else in this process does.
func (p *Provider) alone(ctx context.Context, instance providers.Instance, change func(*session) error) error {
	if err := instance.Identity.Validate(); err != nil {
		return err
	}
	unlock, err := p.hosts.Lock(ctx, instance.Identity.ID())
	if err != nil {
		return err
	}
	defer unlock()
	s, err := p.session(ctx)
	if err != nil {
		return err
	}
	return change(s)
}

func (p *Provider) destroyServer(ctx context.Context, s *session, instance providers.Instance) error {
	o := p.owner(instance.Cluster)
	doomed, err := s.serversOf(ctx, o, identityTag(instance.Identity))
	if err != nil {
		return err
	}
	known := slices.ContainsFunc(doomed, func(each server) bool { return each.ID == instance.ID })
	if !known && instance.ID != "" { // lists may not show it yet
		found, ours, err := s.serverOf(ctx, o, instance.Identity, instance.ID)
		if err != nil {
			return err
		}
		if ours {
			doomed = append(doomed, found)
		}
	}
	held, err := s.portsOf(ctx, o, portName(instance.Identity))
	if err != nil {
		return err
	}
	for _, port := range held {
		if err := s.deleteFloatingIPs(ctx, floatingips.ListOpts{PortID: port.ID}); err != nil {
			return err
		}
	}
	for _, each := range doomed {
		if err := p.endServer(ctx, s, o, instance.Identity, each); err != nil {
			return err
		}
	}
	return p.removePorts(ctx, s, held)
}

// removePorts deletes the ports of a host that has no server any more.
func (p *Provider) removePorts(ctx context.Context, s *session, held []ports.Port) error {
	for _, port := range held {
		if err := s.deletePort(ctx, port.ID, 0); err != nil {
			return err
		}
		p.claims.forget(port.ID)
	}
	return nil
}

// endServer deletes a server and waits until it is gone. Its volumes, which have no name of their own, are given one
// first, so that one that Nova leaves behind is known for what it is.
func (p *Provider) endServer(ctx context.Context, s *session, o owner, id providers.Identity, doomed server) error {
	var mine []string
	for _, volume := range doomed.Volumes {
		if !volume.Deleted || s.volume == nil {
			continue
		}
		if err := s.labelVolume(ctx, volume.ID, o, id); err != nil {
			return err
		}
		mine = append(mine, volume.ID)
	}
	wait := p.pauses()
	for {
		// Asked for again, since a server that was being built may not have heard it.
		if err := s.deleteServer(ctx, doomed.ID); err != nil && !hasStatus(err, http.StatusConflict) {
			return err
		}
		for range 4 {
			_, there, err := s.serverOf(ctx, o, id, doomed.ID)
			if err != nil {
				return err
			}
			if !there {
				return s.deleteVolumes(ctx, mine)
			}
			if err := wait.wait(ctx); err != nil {
				return err
			}
		}
	}
}

func (s *session) labelVolume(ctx context.Context, volume string, o owner, id providers.Identity) error {
	name := portName(id)
	_, err := volumes.Update(ctx, s.volume, volume, volumes.UpdateOpts{Name: &name, Metadata: o.metadata(id)}).Extract()
	return ignoreGone(classified(ctx, err))
}

// deleteVolumes deletes what Nova was to delete with the server and did not.
func (s *session) deleteVolumes(ctx context.Context, ids []string) error {
	for _, id := range ids {
		volume, err := volumes.Get(ctx, s.volume, id).Extract()
		if err = classified(ctx, err); hasStatus(err, http.StatusNotFound) {
			continue
		}
		if err == nil && volume.Status != "deleting" {
			err = classified(ctx, volumes.Delete(ctx, s.volume, id, nil).ExtractErr())
		}
		if err := ignoreGone(err); err != nil {
			return err
		}
	}
	return nil
}

// Cleanup removes what half-made hosts left, and the groups of the cluster. A host that is not new is a mistake of the
// caller.
func (p *Provider) Cleanup(ctx context.Context, cluster string) error {
	s, err := p.session(ctx)
	if err != nil {
		return err
	}
	o := p.owner(cluster)
	held, err := s.portsOf(ctx, o, "")
	if err != nil {
		return err
	}
	live, err := s.servers(ctx, o, held)
	if err != nil {
		return err
	}
	for _, each := range live {
		if id, _ := o.identity(each.Metadata); !p.isNew(each.Created) {
			return fmt.Errorf("host %s is still there: destroy it first: %w", id.Host, providers.ErrConflict)
		}
	}
	if s.baremetal != nil {
		if err := p.cleanNodes(ctx, s, o); err != nil {
			return err
		}
	}
	p.found.forget()
	for _, step := range []func(context.Context, *session, owner) error{p.cleanNetwork, p.cleanVolumes, p.cleanGroups} {
		if err := step(ctx, s, o); err != nil {
			return err
		}
	}
	return nil
}

// isNew tells whether something may have been made by a create that was cut short and whose request was still on its way
// when the hosts were listed. The cloud's times are whole seconds.
func (p *Provider) isNew(created time.Time) bool {
	return p.now().Sub(created) < p.config.Settle+time.Second
}

// cleanNetwork deletes floating IPs and ports. While a port may still be somebody's claim, or has a server that lists did
// not show, it waits and ends the server.
func (p *Provider) cleanNetwork(ctx context.Context, s *session, o owner) error {
	wait := p.pauses()
	for {
		list, err := s.portsOf(ctx, o, "")
		if err != nil {
			return err
		}
		if err := p.endHidden(ctx, s, o, list); err != nil {
			return err
		}
		now := p.now()
		if judge(list, now, p.config.Settle, func(port string) time.Time { return p.claims.since(port, now) }) != verdictWait {
			break
		}
		if err := wait.wait(ctx); err != nil {
			return err
		}
	}
	if err := s.deleteFloatingIPs(ctx, floatingips.ListOpts{Description: o.description()}); err != nil {
		return err
	}
	list, err := s.portsOf(ctx, o, "")
	if err != nil {
		return err
	}
	for _, port := range list {
		if err := s.deletePort(ctx, port.ID, port.RevisionNumber); errors.Is(err, errChanged) {
			return fmt.Errorf("port %s is being used: %w: %w", port.Name, err, providers.ErrUnavailable)
		} else if err != nil {
			return err
		}
		p.claims.forget(port.ID)
	}
	return nil
}

// endHidden ends servers that showed up since the hosts were listed: creates that were cut short made them.
func (p *Provider) endHidden(ctx context.Context, s *session, o owner, held []ports.Port) error {
	hidden, err := s.servers(ctx, o, held)
	if err != nil {
		return err
	}
	for _, each := range hidden {
		id, _ := o.identity(each.Metadata)
		if err := p.destroyServer(ctx, s, each.instance(id)); err != nil {
			return err
		}
	}
	return nil
}

// cleanVolumes deletes volumes of hosts that were destroyed.
func (p *Provider) cleanVolumes(ctx context.Context, s *session, o owner) error {
	if s.volume == nil {
		return nil
	}
	which := map[string]string{providers.TagCluster: o.cluster, providers.TagProvider: o.provider}
	pages, err := volumes.List(s.volume, volumes.ListOpts{Metadata: which, Limit: pageSize}).AllPages(ctx)
	if err != nil {
		return classified(ctx, err)
	}
	list, err := volumes.ExtractVolumes(pages)
	if err != nil {
		return classified(ctx, err)
	}
	var ids []string
	for _, volume := range list {
		if _, ours := o.identity(volume.Metadata); ours {
			ids = append(ids, volume.ID)
		}
	}
	return s.deleteVolumes(ctx, ids)
}

// cleanGroups deletes the owner's security group and its server groups.
func (p *Provider) cleanGroups(ctx context.Context, s *session, o owner) error {
	own, err := s.ownGroups(ctx, o)
	if err != nil {
		return err
	}
	for _, group := range own {
		err := s.deleteGroup(ctx, group.ID)
		if hasStatus(err, http.StatusConflict) {
			return errInUse(group.ID, err)
		}
		if err != nil {
			return err
		}
	}
	sets, err := s.ownServerGroups(ctx, o)
	if err != nil {
		return err
	}
	for _, set := range sets {
		if err := s.deleteServerGroup(ctx, set.id); err != nil {
			return err
		}
	}
	return nil
}
