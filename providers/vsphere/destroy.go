package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// Destroy powers a host off and removes its machine with its disks.
func (p *Provider) Destroy(ctx context.Context, instance providers.Instance) error {
	if err := instance.Identity.Validate(); err != nil {
		return err
	}
	unlock, err := p.hosts.Lock(ctx, instance.Identity.ID())
	if err != nil {
		return err
	}
	defer unlock()
	return p.with(ctx, func(c *client) error {
		m, found, err := c.find(ctx, p, instance.Identity)
		if err != nil || !found {
			return err
		}
		return p.remove(ctx, c, m)
	})
}

// remove powers a machine off and destroys it. One that is gone is removed.
func (p *Provider) remove(ctx context.Context, c *client, m machine) error {
	if m.on() {
		res, err := methods.PowerOffVM_Task(ctx, c, &types.PowerOffVM_Task{This: m.ref})
		if err == nil {
			_, err = p.tasks.wait(ctx, c, res.Returnval)
		}
		if err != nil && !isGone(err) && !isPower(err, types.VirtualMachinePowerStatePoweredOff) {
			return err
		}
	}
	if c.esxi() && !m.made() {
		if err := p.removeLooseDisk(ctx, c, m.ref); err != nil {
			return err
		}
	}
	return p.destroy(ctx, c, m.ref)
}

// destroy destroys an object. One that is gone is destroyed.
func (p *Provider) destroy(ctx context.Context, c *client, ref types.ManagedObjectReference) error {
	res, err := methods.Destroy_Task(ctx, c, &types.Destroy_Task{This: ref})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, res.Returnval)
	}
	if isGone(err) {
		return nil
	}
	return err
}

// Cleanup removes half-made hosts of the cluster, its images, its rules, and its folder when nothing else is in it.
func (p *Provider) Cleanup(ctx context.Context, cluster string) error {
	return p.with(ctx, func(c *client) error {
		o := p.owner(cluster)
		defer p.forget()
		p.forget()
		inv, err := p.inventory(ctx, c)
		if err == nil {
			err = p.removeMachines(ctx, c, o)
		}
		if err == nil {
			err = p.removeRules(ctx, c, inv, o)
		}
		if err == nil && !c.esxi() {
			err = p.removeFolder(ctx, c, inv, o)
		}
		return err
	})
}

// removeMachines removes half-made hosts and images. A host is a mistake of the caller.
func (p *Provider) removeMachines(ctx context.Context, c *client, o owner) error {
	all, err := p.machines(ctx, c)
	if err != nil {
		return err
	}
	for _, m := range all {
		image := strings.HasPrefix(m.name, o.imagePrefix())
		host, isHost := hostNamed(m.name, o.cluster)
		switch {
		case m.ours(o) && m.made():
			id, _ := m.identity()
			return fmt.Errorf("host %s is still there, destroy it first: %w", id.Host, providers.ErrConflict)
		case isHost && m.unfinished(host), m.uuid == "" && strings.HasPrefix(m.name, vmPrefix(o.cluster)):
			return m.errUnfinished()
		case image && m.on():
			return fmt.Errorf("somebody has powered image %s on, power it off: %w", m.name, providers.ErrConflict)
		case m.ours(o):
			err = p.remove(ctx, c, m)
		case image:
			err = p.destroy(ctx, c, m.ref)
		}
		if err != nil {
			return fmt.Errorf("cannot remove %s: %w", m.name, err)
		}
	}
	return nil
}

// removeFolder removes the owner's folder. Destroying a folder destroys what is in it, so one that is not empty stays.
func (p *Provider) removeFolder(ctx context.Context, c *client, inv *inventory, o owner) error {
	res, err := methods.FindChild(ctx, c, &types.FindChild{This: *c.ServiceContent.SearchIndex, Entity: inv.vmFolder, Name: o.folderName()})
	if err != nil || res.Returnval == nil {
		return err
	}
	folder, err := c.lookOne(ctx, *res.Returnval, "childEntity")
	if err != nil {
		return err
	}
	children, _ := folder.props["childEntity"].(types.ArrayOfManagedObjectReference)
	if len(children.ManagedObjectReference) > 0 {
		if err := p.notOurs(ctx, c, o, children.ManagedObjectReference); err != nil {
			return err
		}
		p.log.WarnContext(ctx, "folder stays, others have put something into it", "folder", o.folderName())
		return nil
	}
	return p.destroy(ctx, c, folder.ref)
}

// notOurs looks whether a machine of the owner's is among the objects in its folder, which the list of all did not show yet.
func (p *Provider) notOurs(ctx context.Context, c *client, o owner, children []types.ManagedObjectReference) error {
	objects, err := c.look(ctx, children, machineProperties(), wanted("Folder", "name"))
	if isGone(err) {
		return fmt.Errorf("folder %s is changing: %w: %w", o.folderName(), err, providers.ErrUnavailable)
	}
	for _, each := range objects {
		m := machineOf(each)
		if m.ours(o) || strings.HasPrefix(m.name, o.imagePrefix()) || strings.HasPrefix(m.name, vmPrefix(o.cluster)) && m.uuid == "" {
			return fmt.Errorf("the server does not list virtual machine %s yet: %w", m.name, providers.ErrUnavailable)
		}
	}
	return err
}

// compareRefs orders references.
func compareRefs(a, b types.ManagedObjectReference) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Value, b.Value))
}
