package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// Create makes a host's machine and powers it on. What a crash left half-made is completed.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (made providers.Instance, err error) {
	if err := req.Validate(); err != nil {
		return providers.Instance{}, err
	}
	settings, err := settingsOf(req.Settings)
	if err != nil {
		return providers.Instance{}, err
	}
	guest, err := guestinfo(req.Identity, settings, req.UserData)
	if err != nil {
		return providers.Instance{}, err
	}
	unlock, err := p.hosts.Lock(ctx, req.ID())
	if err != nil {
		return providers.Instance{}, err
	}
	defer unlock()
	err = p.with(ctx, func(c *client) error {
		m, err := p.create(ctx, c, order{id: req.Identity, settings: settings, guest: guest})
		made = m.instance()
		return err
	})
	if errors.Is(err, providers.ErrNotFound) || errors.Is(err, providers.ErrInvalid) {
		p.forget() // the next call may find what somebody mends
	}
	if err != nil {
		return providers.Instance{}, err
	}
	return made, nil
}

// order is a host that is to be made.
type order struct {
	id       providers.Identity
	settings *Settings
	guest    []types.BaseOptionValue
}

// powersOn tells whether the clone powers the machine on: where a rule is to keep it apart from others, that comes later.
func (o order) powersOn() bool { return o.settings.AntiAffinity == affinityOff }

// create adopts the machine that there is, or makes it.
func (p *Provider) create(ctx context.Context, c *client, want order) (machine, error) {
	m, found, err := c.find(ctx, p, want.id)
	if err != nil || found && m.launched() {
		return m, err
	}
	inv, err := p.inventory(ctx, c)
	if err != nil {
		return m, err
	}
	at, wrong := placeOf(inv, want.settings, c.esxi())
	if len(wrong) > 0 {
		return m, errors.Join(wrong...)
	}
	from, err := p.source(ctx, c, inv, at, p.owner(want.id.Cluster), want.settings)
	if err == nil {
		err = from.fits(want.settings)
	}
	if err != nil {
		return m, err
	}
	if !found {
		if m, err = p.make(ctx, c, want, inv, at, from); err != nil || m.launched() {
			return m, err
		}
	}
	return p.complete(ctx, c, want, at, from, m)
}

// make makes the machine with its tags, in one call. Of one that it made it knows where it is and whether it is on.
func (p *Provider) make(ctx context.Context, c *client, want order, inv *inventory, at place, from source) (machine, error) {
	if at.folder == nil {
		folder, err := p.ensureFolder(ctx, c, inv, p.owner(want.id.Cluster))
		if err != nil {
			return machine{}, err
		}
		at.folder = &folder
	}
	task, err := types.ManagedObjectReference{}, error(nil)
	if c.esxi() {
		task, err = p.createBare(ctx, c, want, inv, at, from)
	} else {
		task, err = p.clone(ctx, c, want, at, from)
	}
	var result any
	if err == nil {
		result, err = p.tasks.wait(ctx, c, task)
	}
	ref, is := result.(types.ManagedObjectReference)
	switch {
	case isFault[*types.DuplicateName](err), isFault[*types.AlreadyExists](err), isFault[*types.FileAlreadyExists](err):
		return p.adopt(ctx, c, want.id, err)
	case err != nil:
		return machine{}, err
	case !is:
		return machine{}, fmt.Errorf("the server does not say what it made: %w", providers.ErrUnavailable)
	}
	p.made.set(want.id.ID(), ref)
	made := machine{ref: ref}
	if !c.esxi() && want.powersOn() {
		made.power = types.VirtualMachinePowerStatePoweredOn
	}
	return made, nil
}

// adopt looks at the machine that has the host's name already. Somebody may be making it at this moment: then it is not
// to be read yet, and the call is worth another try.
func (p *Provider) adopt(ctx context.Context, c *client, id providers.Identity, taken error) (machine, error) {
	if duplicate, is := faultOf(taken).(*types.DuplicateName); is && duplicate.Object.Type == "VirtualMachine" {
		m, err := c.read(ctx, duplicate.Object)
		switch {
		case isGone(err) || err == nil && m.unfinished(id):
			return machine{}, machine{name: vmName(id)}.errUnfinished()
		case err != nil:
			return m, err
		case m.ours(p.owner(id.Cluster)):
			p.made.set(id.ID(), m.ref)
			return m, nil
		}
		return machine{}, fmt.Errorf("there is a virtual machine %s already that is not this provider's, rename it: %w", vmName(id), providers.ErrConflict)
	}
	m, found, err := c.find(ctx, p, id)
	if err == nil && !found {
		err = fmt.Errorf("the name %s is taken: %w: %w", vmName(id), taken, providers.ErrConflict)
	}
	return m, err
}

// clone begins to clone a machine. Without a rule to keep it apart from others the call powers it on too.
func (p *Provider) clone(ctx context.Context, c *client, want order, at place, from source) (types.ManagedObjectReference, error) {
	spec := types.VirtualMachineCloneSpec{
		Location: types.VirtualMachineRelocateSpec{Pool: &at.pool, Host: at.host},
		PowerOn:  want.powersOn(),
		Config:   p.configOf(want, at, from),
	}
	if at.datastore != nil {
		spec.Location.Datastore = &at.datastore.ref
	}
	if want.settings.Linked {
		spec.Snapshot = from.snapshot
		spec.Location.DiskMoveType = string(types.VirtualMachineRelocateDiskMoveOptionsCreateNewChildDiskBacking)
	}
	if at.pod != nil {
		store, err := c.recommend(ctx, want.id, at, from, spec)
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		spec.Location.Datastore = &store
	}
	res, err := methods.CloneVM_Task(ctx, c, &types.CloneVM_Task{This: from.ref, Folder: *at.folder, Name: vmName(want.id), Spec: spec})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return res.Returnval, nil
}

// configOf is everything that tells a host's machine from its source.
func (p *Provider) configOf(want order, at place, from source) *types.VirtualMachineConfigSpec {
	tags := tagsOf(want.id, p.name, p.now())
	if want.settings.AntiAffinity != affinityOff {
		tags = append(tags, options(keyApart, at.compute.ref.Value)...)
	}
	return &types.VirtualMachineConfigSpec{
		Uuid: uuidOf(want.id), InstanceUuid: uuidOf(want.id),
		NumCPUs: int32(want.settings.CPUs), MemoryMB: int64(want.settings.Memory >> 20),
		DeviceChange: hardwareChanges(from, at, want.settings),
		ExtraConfig:  append(tags, want.guest...),
	}
}

// recommend asks Storage DRS for a datastore of a datastore cluster.
func (c *client) recommend(
	ctx context.Context, id providers.Identity, at place, from source, spec types.VirtualMachineCloneSpec,
) (types.ManagedObjectReference, error) {
	if c.ServiceContent.StorageResourceManager == nil {
		return types.ManagedObjectReference{}, fmt.Errorf("the server has no Storage DRS: %w", providers.ErrInvalid)
	}
	res, err := methods.RecommendDatastores(ctx, c, &types.RecommendDatastores{
		This: *c.ServiceContent.StorageResourceManager,
		StorageSpec: types.StoragePlacementSpec{
			Type: string(types.StoragePlacementSpecPlacementTypeClone), Folder: at.folder, CloneName: vmName(id), CloneSpec: &spec, Vm: &from.ref,
			PodSelectionSpec: types.StorageDrsPodSelectionSpec{StoragePod: at.pod},
		},
	})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	for _, recommendation := range res.Returnval.Recommendations {
		for _, action := range recommendation.Action {
			if placement, is := action.(*types.StoragePlacementAction); is {
				return placement.Destination, nil
			}
		}
	}
	return types.ManagedObjectReference{}, fmt.Errorf("storage DRS recommends no datastore, is it on and is there room?: %w", providers.ErrQuota)
}

// complete does what is missing of a machine that is being made.
func (p *Provider) complete(ctx context.Context, c *client, want order, at place, from source, m machine) (machine, error) {
	var err error
	if c.esxi() {
		err = p.fillBare(ctx, c, want, from, m)
	} else {
		err = p.keepApart(ctx, c, want, at, m.ref)
	}
	if err == nil && !m.on() {
		err = p.powerOn(ctx, c, m.ref)
	}
	if err == nil {
		err = p.reconfigure(ctx, c, m.ref, types.VirtualMachineConfigSpec{ExtraConfig: options(keyPhase, phaseLaunched)})
	}
	if err != nil {
		return m, err
	}
	return c.read(ctx, m.ref)
}

// powerOn powers a machine on, or lets it be when it is.
func (p *Provider) powerOn(ctx context.Context, c *client, ref types.ManagedObjectReference) error {
	res, err := methods.PowerOnVM_Task(ctx, c, &types.PowerOnVM_Task{This: ref})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, res.Returnval)
	}
	if isPower(err, types.VirtualMachinePowerStatePoweredOn) {
		return nil
	}
	return err
}

func (p *Provider) reconfigure(ctx context.Context, c *client, ref types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) error {
	res, err := methods.ReconfigVM_Task(ctx, c, &types.ReconfigVM_Task{This: ref, Spec: spec})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, res.Returnval)
	}
	return err
}

// ensureFolder finds or makes the folder of the owner's machines.
func (p *Provider) ensureFolder(ctx context.Context, c *client, inv *inventory, o owner) (types.ManagedObjectReference, error) {
	unlock, err := p.shared.Lock(ctx, "folder "+o.folderName())
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	defer unlock()
	if ref, known := p.folders.get(o.cluster); known {
		return ref, nil
	}
	res, err := methods.CreateFolder(ctx, c, &types.CreateFolder{This: inv.vmFolder, Name: o.folderName()})
	var ref types.ManagedObjectReference
	switch duplicate, is := faultOf(err).(*types.DuplicateName); {
	case is:
		ref = duplicate.Object
	case err != nil:
		return ref, err
	default:
		ref = res.Returnval
		p.log.InfoContext(ctx, "folder made", "folder", o.folderName())
	}
	p.folders.set(o.cluster, ref)
	return ref, nil
}

// Start powers a host on.
func (p *Provider) Start(ctx context.Context, instance providers.Instance) error {
	unlock, err := p.hosts.Lock(ctx, instance.Identity.ID())
	if err != nil {
		return err
	}
	defer unlock()
	return p.with(ctx, func(c *client) error {
		m, found, err := c.find(ctx, p, instance.Identity)
		if err == nil && (!found || !m.made()) {
			err = fmt.Errorf("there is no virtual machine of host %s: %w", instance.Host, providers.ErrNotFound)
		}
		if err != nil || m.on() {
			return err
		}
		return p.powerOn(ctx, c, m.ref)
	})
}
