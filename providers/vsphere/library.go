package vsphere

import (
	"context"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vapi/library"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/vcenter"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// libraryItem finds an item of a content library by LIBRARY/ITEM.
func (c *client) libraryItem(ctx context.Context, name string) (found library.Item, err error) {
	err = c.withREST(ctx, func(rc *rest.Client) error {
		found, err = findItem(ctx, library.NewManager(rc), name)
		return err
	})
	return found, err
}

func findItem(ctx context.Context, m *library.Manager, name string) (library.Item, error) {
	libraryName, itemName, _ := strings.Cut(name, "/")
	ids, err := m.FindLibrary(ctx, library.Find{Name: libraryName})
	if err != nil {
		return library.Item{}, err
	}
	if len(ids) != 1 {
		return library.Item{}, missing(ctx, "content library", libraryName, ids, m.ListLibraries, func(ctx context.Context, id string) (string, error) {
			l, err := m.GetLibraryByID(ctx, id)
			if err != nil {
				return "", err
			}
			return l.Name, nil
		})
	}
	items, err := m.FindLibraryItems(ctx, library.FindItem{LibraryID: ids[0], Name: itemName})
	if err != nil {
		return library.Item{}, err
	}
	list := func(ctx context.Context) ([]string, error) { return m.ListLibraryItems(ctx, ids[0]) }
	if len(items) != 1 {
		return library.Item{}, missing(ctx, "library item", name, items, list, func(ctx context.Context, id string) (string, error) {
			i, err := m.GetLibraryItem(ctx, id)
			if err != nil {
				return "", err
			}
			return libraryName + "/" + i.Name, nil
		})
	}
	item, err := m.GetLibraryItem(ctx, items[0])
	if err != nil {
		return library.Item{}, err
	}
	if item.Type != library.ItemTypeOVF && item.Type != library.ItemTypeVMTX {
		return library.Item{}, fmt.Errorf("library item %s is of type %s, neither ovf nor vm-template: %w", name, item.Type, providers.ErrInvalid)
	}
	return *item, nil
}

// maxNamed is how many libraries or items are asked for their names for a hint: each is a call.
const maxNamed = 50

// missing says that there is not one of a name, and names those that look like it.
func missing(
	ctx context.Context, what, name string, found []string, list func(context.Context) ([]string, error), nameOf func(context.Context, string) (string, error),
) error {
	if len(found) > 1 {
		return fmt.Errorf("%d are named like %s %s, rename the others: %w", len(found), what, name, providers.ErrInvalid)
	}
	ids, err := list(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, id := range ids[:min(len(ids), maxNamed)] {
		each, err := nameOf(ctx, id)
		if err != nil {
			return err
		}
		names = append(names, each)
	}
	return fmt.Errorf("%s %s not found%s: %w", what, name, hint(name, names), providers.ErrNotFound)
}

// deployItem deploys an item as a machine that is powered off.
func (c *client) deployItem(
	ctx context.Context, item library.Item, name string, at place, folder types.ManagedObjectReference, store entry,
) (ref types.ManagedObjectReference, err error) {
	host := ""
	if at.host != nil {
		host = at.host.Value
	}
	err = c.withREST(ctx, func(rc *rest.Client) error {
		m := vcenter.NewManager(rc)
		var made *types.ManagedObjectReference
		if item.Type == library.ItemTypeOVF {
			made, err = m.DeployLibraryItem(ctx, item.ID, vcenter.Deploy{
				DeploymentSpec: vcenter.DeploymentSpec{
					Name: name, DefaultDatastoreID: store.ref.Value, AcceptAllEULA: true, StorageProvisioning: "thin",
				},
				Target: vcenter.Target{ResourcePoolID: at.pool.Value, HostID: host, FolderID: folder.Value},
			})
		} else {
			disks := &vcenter.DiskStorage{Datastore: store.ref.Value}
			made, err = m.DeployTemplateLibraryItem(ctx, item.ID, vcenter.DeployTemplate{
				Name: name, DiskStorage: disks, VMHomeStorage: disks,
				Placement: &vcenter.Placement{ResourcePool: at.pool.Value, Host: host, Folder: folder.Value},
			})
		}
		if err == nil {
			ref = *made
		}
		return err
	})
	return ref, err
}
