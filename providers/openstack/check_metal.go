package openstack

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"

	"github.com/musterhq/muster/providers"
)

// checkNode looks whether what a node needs is there.
func (p *Provider) checkNode(ctx context.Context, s *session, settings Settings) (demand, error) {
	if s.baremetal == nil {
		return demand{}, errNoMetal()
	}
	_, imageErr := p.nodeImage(ctx, s, settings)
	networks, networkErr := p.findNetworks(ctx, s, settings.Networks)
	errs := []error{imageErr, networkErr}
	if settings.FloatingIP != "" {
		_, err := p.findExternal(ctx, s, settings.FloatingIP)
		errs = append(errs, err)
	}
	if settings.Node != "" {
		_, err := s.nodeNamed(ctx, settings.Node)
		errs = append(errs, err)
	}
	return demandOf(settings, named{}, len(networks)), errors.Join(errs...)
}

// checkClass looks whether so many nodes of a resource class are free.
func (s *session) checkClass(ctx context.Context, class string, wanted int) error {
	fields := []string{"uuid", "name", "provision_state", "resource_class", "instance_uuid", "maintenance"}
	pages, err := nodes.List(s.baremetal, nodes.ListOpts{Fields: fields, Limit: pageSize}).AllPages(ctx)
	if err != nil {
		return classified(ctx, err)
	}
	list, err := nodes.ExtractNodes(pages)
	if err != nil {
		return classified(ctx, err)
	}
	var known []named
	free := 0
	for _, node := range list {
		known = append(known, named{id: node.ResourceClass, name: node.ResourceClass})
		usable := !node.Maintenance && node.ProvisionState == string(nodes.Available) && node.InstanceUUID == ""
		if usable && node.ResourceClass == class {
			free++
		}
	}
	if !slices.ContainsFunc(known, func(n named) bool { return n.name == class }) {
		_, err := choose("resource class", class, s.region, known)
		return err
	}
	if free < wanted {
		return fmt.Errorf("%d nodes of resource class %s are needed and %d are available, see `openstack baremetal node list`: %w",
			wanted, class, free, providers.ErrQuota)
	}
	return nil
}
