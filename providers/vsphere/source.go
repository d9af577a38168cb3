package vsphere

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// source is a machine that hosts are cloned from.
type source struct {
	ref      types.ManagedObjectReference
	name     string
	devices  []types.BaseVirtualDevice
	snapshot *types.ManagedObjectReference // the current one
	hardware hardware
}

// hardware is what an ESXi host, which cannot clone, makes a like machine from.
type hardware struct {
	guestID, version, firmware string
	cpus                       int32
	memoryMiB                  int64
}

// sources keeps what is known of templates, which 200 hosts share.
type sources struct {
	mu    sync.Mutex
	known map[types.ManagedObjectReference]source
}

func (s *sources) get(ref types.ManagedObjectReference) (source, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.known[ref]
	return found, ok
}

func (s *sources) set(found source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[types.ManagedObjectReference]source{}
	}
	s.known[found.ref] = found
}

func (s *sources) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = nil
}

// source finds what a host is cloned from. An image is imported when it is not there yet.
func (p *Provider) source(ctx context.Context, c *client, inv *inventory, at place, o owner, s *Settings) (source, error) {
	var ref types.ManagedObjectReference
	if s.Template != "" {
		found, err := inv.find(kindVM, s.Template)
		if err != nil {
			return source{}, err
		}
		ref = found.ref
	} else {
		image, err := p.ensureImage(ctx, c, inv, at, o, s)
		if err != nil {
			return source{}, err
		}
		ref = image
	}
	unlock, err := p.shared.Lock(ctx, "source "+ref.Value)
	if err != nil {
		return source{}, err
	}
	defer unlock()
	if found, ok := p.sources.get(ref); ok {
		return found, nil
	}
	found, err := c.readSource(ctx, ref)
	if err == nil {
		p.sources.set(found)
	}
	return found, err
}

// readSource reads what a machine is made of.
func (c *client) readSource(ctx context.Context, ref types.ManagedObjectReference) (source, error) {
	o, err := c.lookOne(ctx, ref, "name", "config.hardware.device", "config.hardware.numCPU", "config.hardware.memoryMB",
		"config.guestId", "config.version", "config.firmware", "snapshot")
	if err != nil {
		return source{}, err
	}
	found := source{ref: ref, name: o.text("name"), hardware: hardware{
		guestID: o.text("config.guestId"), version: o.text("config.version"), firmware: o.text("config.firmware"),
	}}
	devices, is := o.props["config.hardware.device"].(types.ArrayOfVirtualDevice)
	if !is {
		return source{}, fmt.Errorf("template %s cannot be read, it is being made or the user needs System.Read there: %w", found.name, providers.ErrAuth)
	}
	found.devices = devices.VirtualDevice
	found.hardware.cpus, _ = o.props["config.hardware.numCPU"].(int32)
	memory, _ := o.props["config.hardware.memoryMB"].(int32)
	found.hardware.memoryMiB = int64(memory)
	if snapshots, is := o.props["snapshot"].(types.VirtualMachineSnapshotInfo); is {
		found.snapshot = snapshots.CurrentSnapshot
	}
	return found, nil
}

// disks are the virtual disks, in the order of the machine.
func (s source) disks() []*types.VirtualDisk {
	var list []*types.VirtualDisk
	for _, device := range s.devices {
		if disk, is := device.(*types.VirtualDisk); is {
			list = append(list, disk)
		}
	}
	return list
}

// interfaces are the network interfaces, in the order of the machine.
func (s source) interfaces() []types.BaseVirtualEthernetCard {
	var list []types.BaseVirtualEthernetCard
	for _, device := range s.devices {
		if card, is := device.(types.BaseVirtualEthernetCard); is {
			list = append(list, card)
		}
	}
	return list
}

// fits tells whether a host of these settings can be made of the source.
func (s source) fits(settings *Settings) error {
	var errs []error
	disks := s.disks()
	switch {
	case len(disks) == 0:
		errs = append(errs, fmt.Errorf("template %s has no disk: %w", s.name, providers.ErrInvalid))
	case settings.Disk > 0 && capacity(disks[0]) > settings.Disk:
		errs = append(errs, fmt.Errorf("`disk`: %s is less than the %s of template %s: %w", settings.Disk, capacity(disks[0]), s.name, providers.ErrInvalid))
	}
	if settings.Linked && s.snapshot == nil {
		errs = append(errs, fmt.Errorf("`linked`: template %s has no snapshot, take one before it becomes a template: %w", s.name, providers.ErrInvalid))
	}
	return errors.Join(errs...)
}

// capacity is the size of a disk. Older servers tell it in KiB alone.
func capacity(disk *types.VirtualDisk) Size {
	return Size(max(disk.CapacityInBytes, disk.CapacityInKB<<10))
}
