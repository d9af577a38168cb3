package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// machine is a virtual machine as the driver reads it.
type machine struct {
	ref        types.ManagedObjectReference
	name       string
	uuid       string            // the instance UUID; "" while vSphere is making the machine
	tags       map[string]string // the extraConfig entries of tagKeys
	template   bool
	power      types.VirtualMachinePowerState
	connection types.VirtualMachineConnectionState
	addresses  []netip.Addr
}

// keyed is the path of one extraConfig entry. It spares the server and the line the user-data, which is there too.
func keyed(key string) string { return "config.extraConfig[" + strconv.Quote(key) + "]" }

// machineProperties are what a machine is read from.
func machineProperties() types.PropertySpec {
	paths := []string{
		"name", "config.instanceUuid", "config.template", "runtime.powerState", "runtime.connectionState", "guest.ipAddress", "guest.net",
	}
	for _, key := range tagKeys {
		paths = append(paths, keyed(key))
	}
	return wanted("VirtualMachine", paths...)
}

func machineOf(o object) machine {
	m := machine{
		ref: o.ref, name: o.text("name"), uuid: o.text("config.instanceUuid"), template: o.flag("config.template"),
		tags: map[string]string{},
	}
	m.power, _ = o.props["runtime.powerState"].(types.VirtualMachinePowerState)
	m.connection, _ = o.props["runtime.connectionState"].(types.VirtualMachineConnectionState)
	for _, key := range tagKeys {
		option, _ := o.props[keyed(key)].(types.OptionValue)
		if value, is := option.Value.(string); is {
			m.tags[key] = value
		}
	}
	nics, _ := o.props["guest.net"].(types.ArrayOfGuestNicInfo)
	m.addresses = usable(o.text("guest.ipAddress"), nics.GuestNicInfo)
	return m
}

// identity is whose the machine is, by its tags.
func (m machine) identity() (providers.Identity, bool) { return providers.IdentityFromTags(m.tags) }

// ours tells whether the machine is the owner's: its instance UUID follows from its tags, which a copy of it that somebody
// made has too, under another UUID.
func (m machine) ours(o owner) bool {
	id, whole := m.identity()
	return whole && id.Cluster == o.cluster && m.tags[providers.TagProvider] == o.provider && m.uuid == uuidOf(id) && !m.template
}

// unfinished tells whether the server is making the machine of a host at this moment: it has the host's name, and not yet
// its UUID or all of its tags, which come in any order.
func (m machine) unfinished(id providers.Identity) bool {
	if m.name != vmName(id) || m.uuid != "" && m.uuid != uuidOf(id) {
		return false
	}
	return m.uuid == "" || slices.ContainsFunc(firstTags, func(key string) bool { return m.tags[key] == "" })
}

// errUnfinished says so. It is worth another try.
func (m machine) errUnfinished() error {
	return fmt.Errorf("virtual machine %s is being made by somebody; if nobody does, it has lost its tags, destroy it: %w",
		m.name, providers.ErrUnavailable)
}

// launched tells whether everything of the machine is done.
func (m machine) launched() bool { return m.tags[keyPhase] == phaseLaunched }

// made tells whether the machine is a host, and not on its way to become one: it runs, or once did.
func (m machine) made() bool { return m.launched() || m.on() }

func (m machine) on() bool { return m.power == types.VirtualMachinePowerStatePoweredOn }

// instance is the machine as providers.Provider shows it.
func (m machine) instance() providers.Instance {
	id, _ := m.identity()
	created, _ := time.Parse(time.RFC3339, m.tags[keyCreated]) // a time that cannot be read is unknown
	return providers.Instance{Identity: id, ID: m.uuid, State: m.state(), Addresses: m.addresses, Created: created}
}

// state is what a machine's state means. One whose ESXi host does not answer is what it was when it was last seen:
// vSphere HA may start it elsewhere.
func (m machine) state() providers.State {
	switch m.connection {
	case types.VirtualMachineConnectionStateInvalid, types.VirtualMachineConnectionStateOrphaned, types.VirtualMachineConnectionStateInaccessible:
		return providers.StateFailed
	}
	if m.on() {
		return providers.StateRunning
	}
	return providers.StateStopped
}

// usable are the addresses by which a host may be reached, as its tools tell them: the primary one, then IPv4, then IPv6. Interfaces
// that no virtual device stands behind are those of containers and the like.
func usable(primary string, nics []types.GuestNicInfo) []netip.Addr {
	var found []netip.Addr
	add := func(text string) {
		address, err := netip.ParseAddr(text)
		if err == nil && address.IsGlobalUnicast() && !slices.Contains(found, address) {
			found = append(found, address)
		}
	}
	for _, nic := range nics {
		if nic.DeviceConfigId < 0 {
			continue
		}
		for _, address := range nic.IpAddress {
			add(address)
		}
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	if first, err := netip.ParseAddr(primary); err == nil {
		add(primary) // tools that tell of no interface
		slices.SortStableFunc(found, func(a, b netip.Addr) int {
			return cmp.Compare(btoi(a != first), btoi(b != first))
		})
	}
	return found
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// read reads a machine.
func (c *client) read(ctx context.Context, ref types.ManagedObjectReference) (machine, error) {
	list, err := c.look(ctx, []types.ManagedObjectReference{ref}, machineProperties())
	if err != nil {
		return machine{}, err
	}
	if len(list) != 1 {
		return machine{}, fmt.Errorf("virtual machine %s cannot be read: %w", ref.Value, providers.ErrNotFound)
	}
	return machineOf(list[0]), nil
}

// find finds the machine of a host by its instance UUID. One that this process knows already is found even when the server's
// search is late.
func (c *client) find(ctx context.Context, p *Provider, id providers.Identity) (m machine, found bool, err error) {
	ref, found, err := c.search(ctx, p, id)
	if err != nil || !found {
		return machine{}, false, err
	}
	m, err = c.read(ctx, ref)
	switch {
	case isGone(err):
		p.made.drop(id.ID())
		return machine{}, false, nil
	case err != nil:
		return m, false, err
	case m.unfinished(id):
		return machine{}, false, m.errUnfinished()
	case !m.ours(p.owner(id.Cluster)):
		return m, false, fmt.Errorf("virtual machine %s stands for host %s and is not this provider's: %w",
			m.name, id.Host, providers.ErrConflict)
	}
	p.made.set(id.ID(), ref)
	return m, true, nil
}

// search asks the server for the machine of a host.
func (c *client) search(ctx context.Context, p *Provider, id providers.Identity) (ref types.ManagedObjectReference, found bool, err error) {
	instance := true
	res, err := methods.FindAllByUuid(ctx, c, &types.FindAllByUuid{
		This: *c.ServiceContent.SearchIndex, Uuid: uuidOf(id), VmSearch: true, InstanceUuid: &instance,
	})
	switch {
	case err != nil:
		return ref, false, err
	case len(res.Returnval) > 1:
		return ref, false, fmt.Errorf("%d virtual machines have the instance UUID %s of host %s, remove the copies: %w",
			len(res.Returnval), uuidOf(id), id.Host, providers.ErrConflict)
	case len(res.Returnval) == 1:
		return res.Returnval[0], true, nil
	}
	ref, found = p.made.get(id.ID())
	return ref, found, nil
}

// machines reads all virtual machines of the datacenter.
func (p *Provider) machines(ctx context.Context, c *client) ([]machine, error) {
	datacenter, err := p.datacenter(ctx, c)
	if err != nil {
		return nil, err
	}
	objects, err := c.below(ctx, datacenter.ref, toMachines, machineProperties())
	if err != nil {
		return nil, err
	}
	list := make([]machine, len(objects))
	for i, o := range objects {
		list[i] = machineOf(o)
	}
	return list, nil
}

// List reads the tags of all machines of the datacenter, in one call.
func (p *Provider) List(ctx context.Context, cluster string) (list []providers.Instance, err error) {
	err = p.with(ctx, func(c *client) error {
		all, err := p.machines(ctx, c)
		for _, m := range all {
			if m.ours(p.owner(cluster)) && m.made() {
				list = append(list, m.instance())
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b providers.Instance) int { return a.Compare(b.Identity) })
	return list, nil
}
