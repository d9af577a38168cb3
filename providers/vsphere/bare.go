package vsphere

import (
	"context"
	"fmt"
	"path"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// An ESXi host cannot clone. A machine is created bare, with its tags and without a disk; then the source's disk is copied
// into its directory, attached, and the machine is powered on. Before the attachment only the directory tells of the copy.

// bareDisk is the name of the copied disk in the machine's directory.
const bareDisk = "muster-disk.vmdk"

// controllerKey is the key of the disk's controller in the request that creates a machine.
const controllerKey = 1000

// createBare begins to create a machine of the source's kind, without a disk.
func (p *Provider) createBare(
	ctx context.Context, c *client, want order, inv *inventory, at place, from source,
) (types.ManagedObjectReference, error) {
	store, err := at.storage(inv)
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	controller, err := controllerLike(from)
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	spec := p.configOf(want, at, from)
	name := vmName(want.id)
	spec.Name, spec.GuestId, spec.Version, spec.Firmware = name, from.hardware.guestID, from.hardware.version, from.hardware.firmware
	// A path to the file, and not to a directory that the server makes unique: two creates ask for one file.
	spec.Files = &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s] %s/%s.vmx", store.name, name, name)}
	if spec.NumCPUs == 0 {
		spec.NumCPUs = from.hardware.cpus
	}
	if spec.MemoryMB == 0 {
		spec.MemoryMB = from.hardware.memoryMiB
	}
	spec.DeviceChange = nil
	if controller != nil {
		spec.DeviceChange = added(controller)
	}
	for i, n := range bareNetworks(from, at) {
		spec.DeviceChange = append(spec.DeviceChange, added(newInterface(-int32(100+i), n))...)
	}
	res, err := methods.CreateVM_Task(ctx, c, &types.CreateVM_Task{This: *at.folder, Config: *spec, Pool: at.pool, Host: at.host})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return res.Returnval, nil
}

func added(device types.BaseVirtualDevice) []types.BaseVirtualDeviceConfigSpec {
	return []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: device},
	}
}

// bareNetworks are the networks of a bare machine's interfaces: the given ones, or the source's.
func bareNetworks(from source, at place) []network {
	if len(at.networks) > 0 {
		return at.networks
	}
	var list []network
	for _, card := range from.interfaces() {
		list = append(list, network{backing: card.GetVirtualEthernetCard().Backing})
	}
	return list
}

// controllerLike is a controller of the kind that the source's first disk hangs on; nil for IDE, which every machine has.
func controllerLike(from source) (types.BaseVirtualDevice, error) {
	disks := from.disks()
	for _, device := range from.devices {
		if device.GetVirtualDevice().Key != disks[0].ControllerKey {
			continue
		}
		scsi := types.VirtualSCSIController{SharedBus: types.VirtualSCSISharingNoSharing}
		scsi.Key = controllerKey
		plain := types.VirtualController{VirtualDevice: types.VirtualDevice{Key: controllerKey}}
		switch device.(type) {
		case *types.ParaVirtualSCSIController:
			return &types.ParaVirtualSCSIController{VirtualSCSIController: scsi}, nil
		case *types.VirtualLsiLogicController:
			return &types.VirtualLsiLogicController{VirtualSCSIController: scsi}, nil
		case *types.VirtualLsiLogicSASController:
			return &types.VirtualLsiLogicSASController{VirtualSCSIController: scsi}, nil
		case *types.VirtualBusLogicController:
			return &types.VirtualBusLogicController{VirtualSCSIController: scsi}, nil
		case *types.VirtualAHCIController:
			return &types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: plain}}, nil
		case *types.VirtualNVMEController:
			return &types.VirtualNVMEController{VirtualController: plain}, nil
		case *types.VirtualIDEController:
			return nil, nil
		}
	}
	return nil, fmt.Errorf("the first disk of template %s hangs on a controller of an unknown kind: %w", from.name, providers.ErrInvalid)
}

// bare is what a machine that is being made has so far.
type bare struct {
	disk       bool
	controller int32
	path       string // of the disk, attached or to be
}

func (c *client) readBare(ctx context.Context, ref types.ManagedObjectReference) (bare, error) {
	o, err := c.lookOne(ctx, ref, "config.hardware.device", "config.files.vmPathName")
	if err != nil {
		return bare{}, err
	}
	devices, _ := o.props["config.hardware.device"].(types.ArrayOfVirtualDevice)
	b := bare{path: path.Dir(o.text("config.files.vmPathName")) + "/" + bareDisk}
	for _, device := range devices.VirtualDevice {
		switch d := device.(type) {
		case *types.VirtualDisk:
			b.disk = true
		case types.BaseVirtualSCSIController, types.BaseVirtualSATAController, *types.VirtualNVMEController:
			b.controller = d.GetVirtualDevice().Key
		case *types.VirtualIDEController:
			if b.controller == 0 {
				b.controller = d.Key
			}
		}
	}
	return b, nil
}

// fillBare gives a bare machine its disk. A copy that was cut short is made again.
func (p *Provider) fillBare(ctx context.Context, c *client, want order, from source, m machine) error {
	b, err := c.readBare(ctx, m.ref)
	if err != nil || b.disk {
		return err
	}
	datacenter, err := p.datacenter(ctx, c)
	if err != nil {
		return err
	}
	disk := from.disks()[0]
	backing, is := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo)
	if !is {
		return fmt.Errorf("the first disk of template %s is no file: %w", from.name, providers.ErrInvalid)
	}
	force := true
	res, err := methods.CopyVirtualDisk_Task(ctx, c, &types.CopyVirtualDisk_Task{
		This: *c.ServiceContent.VirtualDiskManager, SourceName: backing.GetVirtualDeviceFileBackingInfo().FileName,
		SourceDatacenter: &datacenter.ref, DestName: b.path, DestDatacenter: &datacenter.ref, Force: &force,
	})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, res.Returnval)
	}
	if err == nil && want.settings.Disk > capacity(disk) {
		err = p.extend(ctx, c, datacenter.ref, b.path, want.settings.Disk)
	}
	if err != nil {
		return fmt.Errorf("cannot copy the disk of %s: %w", from.name, err)
	}
	return p.attach(ctx, c, m.ref, b)
}

// attach attaches the copied disk. Somebody else who completes the machine may be faster.
func (p *Provider) attach(ctx context.Context, c *client, ref types.ManagedObjectReference, b bare) error {
	err := p.reconfigure(ctx, c, ref, types.VirtualMachineConfigSpec{DeviceChange: added(&types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{
			Key: -1, ControllerKey: b.controller, UnitNumber: new(int32),
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: b.path},
				DiskMode:                     string(types.VirtualDiskModePersistent),
			},
		},
	})})
	if isFault[types.BaseInvalidVmConfig](err) {
		if now, readErr := c.readBare(ctx, ref); readErr == nil && now.disk {
			return nil
		}
	}
	return err
}

// extend grows a disk that nobody has attached.
func (p *Provider) extend(ctx context.Context, c *client, datacenter types.ManagedObjectReference, path string, size Size) error {
	res, err := methods.ExtendVirtualDisk_Task(ctx, c, &types.ExtendVirtualDisk_Task{
		This: *c.ServiceContent.VirtualDiskManager, Name: path, Datacenter: &datacenter, NewCapacityKb: int64(size >> 10),
	})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, res.Returnval)
	}
	return err
}

// removeLooseDisk removes a copy that was never attached, which would stay when the machine goes.
func (p *Provider) removeLooseDisk(ctx context.Context, c *client, ref types.ManagedObjectReference) error {
	b, err := c.readBare(ctx, ref)
	if err != nil || b.disk {
		if isGone(err) {
			return nil
		}
		return err
	}
	datacenter, err := p.datacenter(ctx, c)
	if err != nil {
		return err
	}
	res, err := methods.DeleteVirtualDisk_Task(ctx, c, &types.DeleteVirtualDisk_Task{
		This: *c.ServiceContent.VirtualDiskManager, Name: b.path, Datacenter: &datacenter.ref,
	})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, res.Returnval)
	}
	if isFault[*types.FileNotFound](err) {
		return nil
	}
	return err
}
