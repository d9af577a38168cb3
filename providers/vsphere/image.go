package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// importer makes the machine of an image under a name, in a folder.
type importer func(ctx context.Context, name string, folder types.ManagedObjectReference, store entry) (types.ManagedObjectReference, error)

// ensureImage finds the owner's image of an OVA or a library item, and imports it when it is not there. What carries the
// image's name is whole: that name is given last, and by the server to one import alone.
func (p *Provider) ensureImage(ctx context.Context, c *client, inv *inventory, at place, o owner, s *Settings) (types.ManagedObjectReference, error) {
	var none types.ManagedObjectReference
	unlock, err := p.shared.Lock(ctx, "image "+s.OVA+s.SHA256+s.Library)
	if err != nil {
		return none, err
	}
	defer unlock()
	if ref, known := p.images.get(s.OVA + s.SHA256 + s.Library); known {
		return ref, nil
	}
	key, do, err := p.importer(ctx, c, at, o, s)
	if err != nil {
		return none, err
	}
	folder := at.folder
	if folder == nil {
		own, err := p.ensureFolder(ctx, c, inv, o)
		if err != nil {
			return none, err
		}
		folder = &own
	}
	ref, found, err := p.findImage(ctx, c, inv, *folder, o.imageName(key))
	if err == nil && !found {
		ref, err = p.importImage(ctx, c, inv, at, *folder, o.imageName(key), do)
	}
	if err != nil {
		return none, err
	}
	p.images.set(s.OVA+s.SHA256+s.Library, ref)
	return ref, nil
}

// importer is how to import what the settings name, and what tells it from everything else.
func (p *Provider) importer(ctx context.Context, c *client, at place, o owner, s *Settings) (key string, do importer, err error) {
	if s.Library != "" {
		item, err := c.libraryItem(ctx, s.Library)
		if err != nil {
			return "", nil, err
		}
		return "library " + item.ID + " " + item.ContentVersion, func(
			ctx context.Context, name string, folder types.ManagedObjectReference, store entry,
		) (types.ManagedObjectReference, error) {
			return c.deployItem(ctx, item, name, at, folder, store)
		}, nil
	}
	path, sum, err := p.ovaFile(ctx, s)
	if err != nil {
		return "", nil, err
	}
	return "ova " + sum, func(
		ctx context.Context, name string, folder types.ManagedObjectReference, store entry,
	) (types.ManagedObjectReference, error) {
		return p.importOVA(ctx, c, o, path, name, at, folder, store)
	}, nil
}

// findImage finds a whole image by its name: wherever it was when the inventory was read, or in the folder now.
func (p *Provider) findImage(
	ctx context.Context, c *client, inv *inventory, folder types.ManagedObjectReference, name string,
) (types.ManagedObjectReference, bool, error) {
	for _, e := range inv.of(kindVM) {
		if e.name == name {
			return e.ref, true, nil
		}
	}
	res, err := methods.FindChild(ctx, c, &types.FindChild{This: *c.ServiceContent.SearchIndex, Entity: folder, Name: name})
	if err != nil || res.Returnval == nil {
		return types.ManagedObjectReference{}, false, err
	}
	return *res.Returnval, true, nil
}

// importImage imports an image under a name of its own and gives it the image's name when it is whole.
func (p *Provider) importImage(
	ctx context.Context, c *client, inv *inventory, at place, folder types.ManagedObjectReference, name string, do importer,
) (types.ManagedObjectReference, error) {
	store, err := at.storage(inv)
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	working := importName(name)
	p.log.InfoContext(ctx, "image import", "image", name, "datastore", store.name)
	ref, err := do(ctx, working, folder, store)
	if err == nil && !c.esxi() {
		err = p.seal(ctx, c, ref)
	}
	if err == nil {
		err = p.rename(ctx, c, ref, name)
	}
	if err == nil {
		return ref, nil
	}
	if isGone(err) { // what the import waits for ends with the session
		return ref, fmt.Errorf("the import of image %s was cut short: %w: %w", working, err, providers.ErrUnavailable)
	}
	if !isFault[*types.DuplicateName](err) && !isFault[types.BaseInvalidArgument](err) {
		return ref, fmt.Errorf("cannot import image %s: %w", working, err)
	}
	theirs, err := p.fasterImage(ctx, c, inv, folder, name, err)
	return theirs, errors.Join(err, p.destroy(ctx, c, ref))
}

// fasterImage is the image of somebody who was faster to take its name.
func (p *Provider) fasterImage(
	ctx context.Context, c *client, inv *inventory, folder types.ManagedObjectReference, name string, taken error,
) (types.ManagedObjectReference, error) {
	if duplicate, is := faultOf(taken).(*types.DuplicateName); is && duplicate.Object.Type == "VirtualMachine" {
		return duplicate.Object, nil
	}
	theirs, found, err := p.findImage(ctx, c, inv, folder, name)
	if err == nil && !found {
		err = fmt.Errorf("image %s is there and the server does not show it yet: %w: %w", name, taken, providers.ErrUnavailable)
	}
	return theirs, err
}

// seal takes the snapshot that linked clones are made of, and makes a template of an image, which nobody can power on.
func (p *Provider) seal(ctx context.Context, c *client, ref types.ManagedObjectReference) error {
	res, err := methods.CreateSnapshot_Task(ctx, c, &types.CreateSnapshot_Task{This: ref, Name: "muster"})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, res.Returnval)
	}
	if err != nil {
		return err
	}
	_, err = methods.MarkAsTemplate(ctx, c, &types.MarkAsTemplate{This: ref})
	return err
}

func (p *Provider) rename(ctx context.Context, c *client, ref types.ManagedObjectReference, name string) error {
	res, err := methods.Rename_Task(ctx, c, &types.Rename_Task{This: ref, NewName: name})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, res.Returnval)
	}
	return err
}

// imageTags say whose an image is, for people: the driver goes by its name.
func (p *Provider) imageTags(o owner) []types.BaseOptionValue {
	return options(providers.TagCluster, o.cluster, providers.TagProvider, o.provider)
}
