package vsphere

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// object is a managed object with the properties that were asked for and that it has.
type object struct {
	ref   types.ManagedObjectReference
	props map[string]any
}

// text is a property that is a text, "" when it is not there.
func (o object) text(name string) string {
	s, _ := o.props[name].(string)
	return s
}

// reference is a property that names an object, zero when it is not there.
func (o object) reference(name string) types.ManagedObjectReference {
	ref, _ := o.props[name].(types.ManagedObjectReference)
	return ref
}

// flag is a property that is true.
func (o object) flag(name string) bool {
	b, _ := o.props[name].(bool)
	return b
}

// wanted says which properties of which type to read.
func wanted(kind string, paths ...string) types.PropertySpec {
	return types.PropertySpec{Type: kind, PathSet: paths}
}

// retrieve reads properties, in one call or as many as the answer has pages. A page that fails fails the read, so that
// nobody takes a part for the whole.
func (c *client) retrieve(ctx context.Context, specs ...types.PropertyFilterSpec) ([]object, error) {
	collector := c.ServiceContent.PropertyCollector
	res, err := methods.RetrievePropertiesEx(ctx, c, &types.RetrievePropertiesEx{This: collector, SpecSet: specs})
	if err != nil || res.Returnval == nil {
		return nil, err
	}
	list := objectsOf(res.Returnval.Objects)
	for token := res.Returnval.Token; token != ""; {
		next, err := methods.ContinueRetrievePropertiesEx(ctx, c, &types.ContinueRetrievePropertiesEx{This: collector, Token: token})
		if err != nil {
			return nil, err
		}
		list = append(list, objectsOf(next.Returnval.Objects)...)
		token = next.Returnval.Token
	}
	return list, nil
}

func objectsOf(contents []types.ObjectContent) []object {
	list := make([]object, len(contents))
	for i, content := range contents {
		list[i] = object{content.Obj, make(map[string]any, len(content.PropSet))}
		for _, p := range content.PropSet {
			list[i].props[p.Name] = p.Val
		}
	}
	return list
}

// look reads properties of objects that are there. One that is not is an error of class ErrNotFound.
func (c *client) look(ctx context.Context, refs []types.ManagedObjectReference, specs ...types.PropertySpec) ([]object, error) {
	filter := types.PropertyFilterSpec{PropSet: specs}
	for _, ref := range refs {
		filter.ObjectSet = append(filter.ObjectSet, types.ObjectSpec{Obj: ref})
	}
	return c.retrieve(ctx, filter)
}

// lookOne reads properties of one object.
func (c *client) lookOne(ctx context.Context, ref types.ManagedObjectReference, paths ...string) (object, error) {
	list, err := c.look(ctx, []types.ManagedObjectReference{ref}, wanted(ref.Type, paths...))
	if err != nil {
		return object{}, err
	}
	if len(list) != 1 {
		return object{}, fmt.Errorf("%s %s cannot be read: %w", ref.Type, ref.Value, providers.ErrNotFound)
	}
	return list[0], nil
}

// below reads properties of everything of the wanted types below a datacenter or the root folder. The root itself is read
// too, and an answer without it is refused: it would be that of somebody who may see nothing.
func (c *client) below(
	ctx context.Context, root types.ManagedObjectReference, ways []way, specs ...types.PropertySpec,
) ([]object, error) {
	filter := types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: root, SelectSet: selection(ways)}},
		PropSet:   append([]types.PropertySpec{wanted(root.Type, "name")}, specs...),
	}
	list, err := c.retrieve(ctx, filter)
	if err != nil {
		return nil, err
	}
	for i, each := range list {
		if each.ref == root && each.text("name") != "" {
			return append(list[:i], list[i+1:]...), nil
		}
	}
	return nil, fmt.Errorf("the user may not read %s %s, it needs System.View and System.Read there: %w",
		root.Type, root.Value, providers.ErrAuth)
}

// way is a step down the inventory, and the steps that may follow it.
type way struct {
	name, kind, path string
	then             []string
}

var (
	// toDatacenters leads from the root folder to the datacenters.
	toDatacenters = []way{{"folder", "Folder", "childEntity", []string{"folder"}}}
	// toMachines leads from a datacenter to its virtual machines. Those in a vApp are in no folder.
	toMachines = []way{
		{"machines", "Datacenter", "vmFolder", []string{"folder", "vapp"}},
		{"folder", "Folder", "childEntity", []string{"folder", "vapp"}},
		{"vapp", "VirtualApp", "vm", nil},
	}
	// toEverything leads from a datacenter to whatever settings may name.
	toEverything = append([]way{
		{"hosts", "Datacenter", "hostFolder", []string{"compute", "pool", "host"}},
		{"compute", "Folder", "childEntity", []string{"compute", "pool", "host"}},
		{"pool", "ComputeResource", "resourcePool", []string{"pools"}},
		{"pools", "ResourcePool", "resourcePool", []string{"pools"}},
		{"host", "ComputeResource", "host", nil},
		{"datastores", "Datacenter", "datastoreFolder", []string{"folder"}},
		{"networks", "Datacenter", "networkFolder", []string{"folder"}},
	}, toMachines...)
)

// selection is a set of ways as the API has them. A way whose type does not fit an object is not gone.
func selection(ways []way) []types.BaseSelectionSpec {
	set := make([]types.BaseSelectionSpec, len(ways))
	for i, w := range ways {
		spec := &types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: w.name}, Type: w.kind, Path: w.path}
		for _, next := range w.then {
			spec.SelectSet = append(spec.SelectSet, &types.SelectionSpec{Name: next})
		}
		set[i] = spec
	}
	return set
}
