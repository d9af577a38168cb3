package openstack

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/allocations"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/musterhq/muster/providers"
)

// errNoMetal says what is needed for a host that is a node.
func errNoMetal() error {
	return fmt.Errorf("`node` and `resource_class` need `baremetal: true` in the provider's configuration: %w",
		providers.ErrInvalid)
}

// createNode makes a host of a node. The claim is the same as for servers; what it is for is the node's deployment.
func (p *Provider) createNode(
	ctx context.Context, s *session, req providers.CreateRequest, settings Settings,
) (providers.Instance, error) {
	if s.baremetal == nil {
		return providers.Instance{}, errNoMetal()
	}
	o := p.owner(req.Cluster)
	image, err := p.nodeImage(ctx, s, settings)
	if err != nil {
		return providers.Instance{}, err
	}
	networks, err := p.findNetworks(ctx, s, settings.Networks)
	if err != nil {
		return providers.Instance{}, err
	}
	claimed, err := p.claimHost(ctx, s, claimant{
		owner: o, id: req.Identity, network: networks[0],
		groups: func(context.Context) ([]string, error) { return nil, nil },
		find:   func(ctx context.Context) (*providers.Instance, error) { return s.findDeployed(ctx, o, req.Identity) },
	})
	if err != nil {
		return providers.Instance{}, err
	}
	if claimed.found != nil {
		return *claimed.found, nil
	}
	held := []ports.Port{claimed.port}
	made, err := p.deploy(ctx, s, req, settings, image, networks, &held)
	if err != nil && refused(err) {
		p.undoNode(ctx, s, o, req.Identity, held)
	}
	return made, err
}

// findDeployed finds a host whose deployment was asked for. One without is half made.
func (s *session) findDeployed(ctx context.Context, o owner, id providers.Identity) (*providers.Instance, error) {
	m, there, err := s.findMachine(ctx, o, id)
	if err != nil || !there || !m.deployed() {
		return nil, err
	}
	held, err := s.portsOf(ctx, o, portName(id))
	made := m.instance(id, held)
	return &made, err
}

// deploy allocates a node, connects it and asks for its deployment.
func (p *Provider) deploy(
	ctx context.Context, s *session, req providers.CreateRequest, settings Settings, image map[string]any, networks []string, held *[]ports.Port,
) (providers.Instance, error) {
	o := p.owner(req.Cluster)
	m, err := p.allocate(ctx, s, o, req.Identity, settings)
	if err != nil {
		return providers.Instance{}, err
	}
	if m.deployed() { // by somebody who held the claim before
		return m.instance(req.Identity, *held), nil
	}
	for _, network := range networks[1:] {
		port, err := p.makePort(ctx, s, o, req.Identity, network, nil)
		if err != nil {
			return providers.Instance{}, err
		}
		*held = append(*held, port)
	}
	if settings.FloatingIP != "" {
		external, err := p.findExternal(ctx, s, settings.FloatingIP)
		if err == nil {
			err = s.makeFloatingIP(ctx, o, external.id, (*held)[0].ID)
		}
		if err != nil {
			return providers.Instance{}, err
		}
	}
	if err := s.prepare(ctx, m.node.UUID, req.Host, image, *held); err != nil {
		return providers.Instance{}, err
	}
	drive, err := s.configDrive(ctx, o, req, settings)
	if err != nil {
		return providers.Instance{}, err
	}
	err = classified(ctx, nodes.ChangeProvisionState(ctx, s.baremetal, m.node.UUID, nodes.ProvisionStateOpts{
		Target: nodes.TargetActive, ConfigDrive: drive,
	}).ExtractErr())
	if err != nil {
		return providers.Instance{}, err
	}
	m.node.ProvisionState = string(nodes.Deploying)
	return m.instance(req.Identity, *held), nil
}

// allocate makes the host's allocation, or finds it, and waits for its node. Ironic chooses within moments.
func (p *Provider) allocate(
	ctx context.Context, s *session, o owner, id providers.Identity, settings Settings,
) (machine, error) {
	options := allocations.CreateOpts{Name: allocationName(id), ResourceClass: settings.ResourceClass, Extra: o.metadata(id)}
	if settings.Node != "" {
		node, err := s.nodeNamed(ctx, settings.Node)
		if err != nil {
			return machine{}, err
		}
		options.CandidateNodes = []string{node.UUID}
		if options.ResourceClass == "" {
			options.ResourceClass = node.ResourceClass
		}
	}
	_, err := allocations.Create(ctx, s.baremetal, options).Extract()
	if err = classified(ctx, err); err != nil && !hasStatus(err, http.StatusConflict) {
		return machine{}, err
	}
	wait := p.pauses()
	for {
		m, there, err := s.findMachine(ctx, o, id)
		if err != nil {
			return machine{}, err
		}
		if !there {
			return machine{}, fmt.Errorf("somebody removed the allocation %s: %w", options.Name, providers.ErrConflict)
		}
		if m.allocation.State == allocations.Error {
			return machine{}, s.notAllocated(ctx, m.allocation, settings)
		}
		if m.node.UUID != "" {
			return m, nil
		}
		if err := wait.wait(ctx); err != nil {
			return machine{}, err
		}
	}
}

// notAllocated removes an allocation for which there is no node, so that the next create may find one.
func (s *session) notAllocated(ctx context.Context, failed allocations.Allocation, settings Settings) error {
	if err := s.deleteAllocation(ctx, failed.UUID); err != nil {
		return err
	}
	what := "of resource class " + settings.ResourceClass
	if settings.Node != "" {
		what = "that is node " + settings.Node
	}
	return fmt.Errorf("no node %s is free: %s; see `openstack baremetal node list --provision-state available --unassociated`: %w",
		what, failed.LastError, providers.ErrQuota)
}

func (s *session) nodeNamed(ctx context.Context, name string) (*nodes.Node, error) {
	node, err := nodes.Get(ctx, s.baremetal, name).Extract()
	if err = classified(ctx, err); hasStatus(err, http.StatusNotFound) {
		return nil, fmt.Errorf("node %s not found%s, see `openstack baremetal node list`: %w",
			name, inRegion(s.region), providers.ErrNotFound)
	}
	return node, err
}

// prepare tells a node what it shall boot and connects it to its ports. What an earlier create connected goes.
func (s *session) prepare(ctx context.Context, node, host string, image map[string]any, held []ports.Port) error {
	patch := nodes.UpdateOpts{nodes.UpdateOperation{Op: nodes.AddOp, Path: "/instance_info/display_name", Value: host}}
	for _, key := range sorted(image) {
		patch = append(patch, nodes.UpdateOperation{Op: nodes.AddOp, Path: "/instance_info/" + key, Value: image[key]})
	}
	if _, err := nodes.Update(ctx, s.baremetal, node, patch).Extract(); err != nil {
		return classified(ctx, err)
	}
	have, err := nodes.ListVirtualInterfaces(ctx, s.baremetal, node).Extract()
	if err != nil {
		return classified(ctx, err)
	}
	for _, interfaced := range have {
		if !slices.ContainsFunc(held, func(port ports.Port) bool { return port.ID == interfaced.ID }) {
			if err := s.detach(ctx, node, interfaced.ID); err != nil {
				return err
			}
		}
	}
	for _, port := range held {
		if slices.ContainsFunc(have, func(interfaced nodes.VIF) bool { return interfaced.ID == port.ID }) {
			continue
		}
		err := nodes.AttachVirtualInterface(ctx, s.baremetal, node, nodes.VirtualInterfaceOpts{ID: port.ID}).ExtractErr()
		if err := classified(ctx, err); err != nil {
			return err
		}
	}
	return nil
}

// detach disconnects a node from a port, of which it may know nothing.
func (s *session) detach(ctx context.Context, node, port string) error {
	err := classified(ctx, nodes.DetachVirtualInterface(ctx, s.baremetal, node, port).ExtractErr())
	if hasStatus(err, http.StatusBadRequest) {
		return nil
	}
	return ignoreGone(err)
}

func (s *session) deleteAllocation(ctx context.Context, id string) error {
	return ignoreGone(classified(ctx, allocations.Delete(ctx, s.baremetal, id).ExtractErr()))
}

// undoNode removes what a create that was refused has made.
func (p *Provider) undoNode(ctx context.Context, s *session, o owner, id providers.Identity, held []ports.Port) {
	err := p.endMachine(ctx, s, o, id, held)
	for _, port := range slices.Backward(held) {
		if err == nil {
			err = s.releasePort(ctx, port, 0)
		}
	}
	if err != nil {
		p.log.WarnContext(ctx, "cannot undo a host that was not made", "provider", p.name, "host", id.Host, "error", err)
	}
}
