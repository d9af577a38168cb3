package openstack

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/allocations"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/musterhq/muster/providers"
)

// nodePrefix begins the IDs of instances that are nodes of Ironic: the UUID of their allocation follows.
const nodePrefix = "allocation/"

// machine is a host that is a node of Ironic: its allocation, whose name is unique and follows from the identity, and its
// node once one was chosen. A node that is torn down loses its allocation.
type machine struct {
	allocation allocations.Allocation
	node       nodes.Node
}

// deployed tells whether a deployment was asked for.
func (m machine) deployed() bool {
	return m.node.UUID != "" && m.node.ProvisionState != string(nodes.Available) && m.node.ProvisionState != string(nodes.Manageable)
}

// state is what the node's state means (https://docs.openstack.org/ironic/latest/user/states.html).
func (m machine) state() providers.State {
	switch nodes.ProvisionState(m.node.ProvisionState) {
	case nodes.Active:
		if m.node.PowerState == string(nodes.PowerOff) {
			return providers.StateStopped
		}
		return providers.StateRunning
	case nodes.DeployFail, nodes.Error, nodes.Deleting:
		return providers.StateFailed
	case nodes.Deploying, nodes.DeployWait, nodes.DeployDone, nodes.Available:
		return providers.StatePending
	default: // rescue, service, rebuild
		return providers.StateRunning
	}
}

func (m machine) instance(id providers.Identity, held []ports.Port) providers.Instance {
	made := providers.Instance{Identity: id, ID: nodePrefix + m.allocation.UUID, State: m.state(), Created: m.allocation.CreatedAt}
	for _, port := range held {
		for _, fixed := range port.FixedIPs {
			if addr, err := netip.ParseAddr(fixed.IPAddress); err == nil && port.Name == portName(id) {
				made.Addresses = append(made.Addresses, addr)
			}
		}
	}
	return made
}

// findMachine finds a host's allocation and node.
func (s *session) findMachine(ctx context.Context, o owner, id providers.Identity) (m machine, there bool, err error) {
	found, err := allocations.Get(ctx, s.baremetal, allocationName(id)).Extract()
	if err = classified(ctx, err); hasStatus(err, http.StatusNotFound) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	if actual, ours := o.identity(found.Extra); !ours || actual != id {
		return m, false, fmt.Errorf("allocation %s is not this provider's: %w", found.Name, providers.ErrConflict)
	}
	m.allocation = *found
	if found.NodeUUID == "" {
		return m, true, nil
	}
	node, err := nodes.Get(ctx, s.baremetal, found.NodeUUID).Extract()
	if err != nil {
		return m, true, classified(ctx, err)
	}
	m.node = *node
	return m, true, nil
}

// listNodes lists the hosts that are nodes, with two calls.
func (p *Provider) listNodes(ctx context.Context, s *session, o owner, held []ports.Port) ([]providers.Instance, error) {
	machines, err := s.machines(ctx, o)
	if err != nil {
		return nil, err
	}
	var list []providers.Instance
	for id, m := range machines {
		if m.deployed() {
			list = append(list, m.instance(id, held))
		}
	}
	return list, nil
}

// machines are the allocations of an owner with their nodes.
func (s *session) machines(ctx context.Context, o owner) (map[providers.Identity]machine, error) {
	pages, err := allocations.List(s.baremetal, allocations.ListOpts{Limit: pageSize}).AllPages(ctx)
	if err != nil {
		return nil, classified(ctx, err)
	}
	all, err := allocations.ExtractAllocations(pages)
	if err != nil {
		return nil, classified(ctx, err)
	}
	found := map[providers.Identity]machine{}
	for _, each := range all {
		if id, ours := o.identity(each.Extra); ours && each.Name == allocationName(id) {
			found[id] = machine{allocation: each}
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	fields := []string{"uuid", "provision_state", "power_state", "resource_class", "instance_uuid"}
	nodePages, err := nodes.List(s.baremetal, nodes.ListOpts{Associated: true, Fields: fields, Limit: pageSize}).AllPages(ctx)
	if err != nil {
		return nil, classified(ctx, err)
	}
	list, err := nodes.ExtractNodes(nodePages)
	for id, m := range found {
		if i := slices.IndexFunc(list, func(node nodes.Node) bool { return node.UUID == m.allocation.NodeUUID }); i >= 0 && m.allocation.NodeUUID != "" {
			m.node = list[i]
			found[id] = m
		}
	}
	return found, classified(ctx, err)
}

// destroyNode tears a host down. Its node is cleaned by Ironic and free again some time after.
func (p *Provider) destroyNode(ctx context.Context, s *session, id providers.Identity) error {
	if s.baremetal == nil {
		return errNoMetal()
	}
	o := p.owner(id.Cluster)
	held, err := s.portsOf(ctx, o, portName(id))
	if err != nil {
		return err
	}
	for _, port := range held {
		if err := s.deleteFloatingIPs(ctx, floatingips.ListOpts{PortID: port.ID}); err != nil {
			return err
		}
	}
	if err := p.endMachine(ctx, s, o, id, held); err != nil {
		return err
	}
	return p.removePorts(ctx, s, held)
}

// endMachine tears a node down and waits until it is nobody's, for which Ironic removes the allocation.
func (p *Provider) endMachine(ctx context.Context, s *session, o owner, id providers.Identity, held []ports.Port) error {
	wait := p.pauses()
	refusals := 0
	for asked := false; ; {
		m, there, err := s.findMachine(ctx, o, id)
		if err != nil || !there {
			return err
		}
		switch {
		case m.node.UUID == "" && m.allocation.NodeUUID == "" && m.allocation.State == string(allocations.Allocating):
		case !m.deployed():
			if err := s.disconnect(ctx, m, held); err != nil {
				return err
			}
			if err := s.deleteAllocation(ctx, m.allocation.UUID); err != nil && !hasStatus(err, http.StatusConflict) {
				return err
			}
			continue
		case !asked && m.mayEnd():
			if err := s.disconnect(ctx, m, held); err != nil {
				return err
			}
			err := nodes.ChangeProvisionState(ctx, s.baremetal, m.node.UUID, nodes.ProvisionStateOpts{Target: nodes.TargetDeleted}).ExtractErr()
			err = classified(ctx, err)
			if refusals++; refused(err) && refusals < maxRefusals {
				break // somebody else may have been faster
			}
			if err != nil {
				return err
			}
			asked = true
		}
		if err := wait.wait(ctx); err != nil {
			return err
		}
	}
}

// maxRefusals is how often a node may refuse to be torn down in a state that lets it.
const maxRefusals = 3

// mayEnd tells whether the node's state lets it be torn down. One that is being worked on is waited for.
func (m machine) mayEnd() bool {
	switch nodes.ProvisionState(m.node.ProvisionState) {
	case nodes.Active, nodes.DeployFail, nodes.DeployWait, nodes.Error:
		return true
	}
	return strings.HasPrefix(m.node.ProvisionState, "rescue") || strings.HasPrefix(m.node.ProvisionState, "unrescue")
}

func (s *session) disconnect(ctx context.Context, m machine, held []ports.Port) error {
	if m.node.UUID == "" {
		return nil
	}
	for _, port := range held {
		if err := s.detach(ctx, m.node.UUID, port.ID); err != nil {
			return err
		}
	}
	return nil
}

// cleanNodes removes allocations that never came to a deployment, and those of hosts that are as new.
func (p *Provider) cleanNodes(ctx context.Context, s *session, o owner) error {
	machines, err := s.machines(ctx, o)
	if err != nil {
		return err
	}
	for id, m := range machines {
		if m.deployed() && m.state() != providers.StateFailed && !p.isNew(m.allocation.CreatedAt) {
			return fmt.Errorf("host %s is still there: destroy it first: %w", id.Host, providers.ErrConflict)
		}
		if err := p.destroyNode(ctx, s, id); err != nil {
			return err
		}
	}
	return nil
}

// startNode powers a node on.
func (p *Provider) startNode(ctx context.Context, s *session, instance providers.Instance) error {
	m, err := p.deployedNode(ctx, s, instance)
	if err != nil || m.node.PowerState == string(nodes.PowerOn) {
		return err
	}
	return s.setPower(ctx, m, nodes.PowerOn)
}

// stopNode powers a node off, hard where the hardware cannot ask.
func (p *Provider) stopNode(ctx context.Context, s *session, instance providers.Instance) error {
	m, err := p.deployedNode(ctx, s, instance)
	if err != nil || m.node.PowerState == string(nodes.PowerOff) {
		return err
	}
	err = s.setPower(ctx, m, nodes.SoftPowerOff)
	if hasStatus(err, http.StatusBadRequest) {
		err = s.setPower(ctx, m, nodes.PowerOff)
	}
	return err
}

// deployedNode finds the node of a host.
func (p *Provider) deployedNode(ctx context.Context, s *session, instance providers.Instance) (machine, error) {
	if s.baremetal == nil {
		return machine{}, errNoMetal()
	}
	m, there, err := s.findMachine(ctx, p.owner(instance.Cluster), instance.Identity)
	if err == nil && (!there || !m.deployed() || nodePrefix+m.allocation.UUID != instance.ID) {
		err = fmt.Errorf("host %s has no node: %w", instance.Host, providers.ErrNotFound)
	}
	return m, err
}

func (s *session) setPower(ctx context.Context, m machine, target nodes.TargetPowerState) error {
	return classified(ctx, nodes.ChangePowerState(ctx, s.baremetal, m.node.UUID, nodes.PowerStateOpts{
		Target: target, Timeout: int(powerTimeout.Seconds()),
	}).ExtractErr())
}

// powerTimeout is how long Ironic may take to power a node on or off.
const powerTimeout = 5 * time.Minute
