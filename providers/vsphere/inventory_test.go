package vsphere

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// tree builds an inventory of "Type:parent/name" lines; the datacenter's own folders are there already.
func tree(lines ...string) *inventory {
	dc := types.ManagedObjectReference{Type: "Datacenter", Value: "dc"}
	refs := map[string]types.ManagedObjectReference{}
	var objects []object
	add := func(kind, parent, name string) types.ManagedObjectReference {
		ref := types.ManagedObjectReference{Type: kind, Value: kind + " " + name + " in " + parent}
		up := dc
		if parent != "" {
			up = refs[parent]
		}
		refs[name] = ref
		objects = append(objects, object{ref, map[string]any{"name": name, "parent": up}})
		return ref
	}
	folder := add("Folder", "", "vm")
	for _, name := range []string{"host", "datastore", "network"} {
		add("Folder", "", name)
	}
	for _, line := range lines {
		kind, path, _ := strings.Cut(line, ":")
		parent, name, _ := strings.Cut(path, "/")
		add(kind, parent, name)
	}
	for _, o := range objects {
		switch o.ref.Type {
		case "ClusterComputeResource":
			o.props["resourcePool"] = refs["Resources"]
			o.props["datastore"] = types.ArrayOfManagedObjectReference{ManagedObjectReference: []types.ManagedObjectReference{refs["fast"], refs["slow"]}}
		case "ResourcePool":
			o.props["owner"] = refs["blue"]
		case "Datastore":
			o.props["summary.accessible"] = true
		}
	}
	return newInventory(object{dc, map[string]any{"name": "Frankfurt", "vmFolder": folder}}, objects)
}

// TestPlaces finds what settings name, and says what there is when it is not there.
func TestPlaces(t *testing.T) {
	small := tree(
		"ClusterComputeResource:host/blue", "ResourcePool:blue/Resources", "ResourcePool:Resources/prod", "HostSystem:blue/esx-1",
		"Datastore:datastore/fast", "Network:network/VM Network", "Folder:vm/templates", "Folder:vm/team", "Folder:team/web",
		"VirtualMachine:templates/debian-12", "VirtualMachine:vm/debian-13", "VirtualMachine:templates/with%2fslash",
	)
	large := tree("ClusterComputeResource:host/blue", "ResourcePool:blue/Resources", "ClusterComputeResource:host/green",
		"Datastore:datastore/fast", "Datastore:datastore/slow", "ComputeResource:host/lonely", "StoragePod:datastore/gold")
	for name, each := range map[string]struct {
		inv    *inventory
		change func(*Settings)
		esxi   bool
		want   string
		class  error
	}{
		"defaults": {small, func(*Settings) {}, false, "", nil},
		"everything": {small, func(s *Settings) {
			s.Folder, s.ResourcePool, s.Host, s.Networks = "team/web", "prod", "esx-1", []string{"VM Network"}
		}, false, "", nil},
		"network":         {small, func(s *Settings) { s.Networks = []string{"VM Netwrk"} }, false, "network VM Netwrk not found in datacenter Frankfurt; nearest names: VM Network", providers.ErrNotFound},
		"no pods":         {small, func(s *Settings) { s.DatastoreCluster = "gold" }, false, "datastore cluster gold not found in datacenter Frankfurt: there is none", providers.ErrNotFound},
		"not a vm folder": {small, func(s *Settings) { s.Folder = "host" }, false, "folder host not found", providers.ErrNotFound},
		"several":         {large, func(*Settings) {}, false, "set `cluster` or `resource_pool`: blue, green, lonely", providers.ErrInvalid},
		"one of them":     {large, func(s *Settings) { s.Cluster, s.DatastoreCluster = "blue", "gold" }, false, "", nil},
		"no DRS":          {large, func(s *Settings) { s.Cluster, s.AntiAffinity = "lonely", affinityRequired }, false, "needs a cluster with DRS", providers.ErrInvalid},
		"at an ESXi":      {small, func(s *Settings) { s.Linked = true }, true, "`linked` needs a vCenter", providers.ErrInvalid},
	} {
		s := NewSettings()
		each.change(s)
		at, errs := placeOf(each.inv, s, each.esxi)
		err := errors.Join(errs...)
		if !errors.Is(err, each.class) || err != nil && !strings.Contains(err.Error(), each.want) || err == nil && at.pool.Value == "" {
			t.Errorf("%s: %v, want %q", name, err, each.want)
		}
	}
	for name, want := range map[string]string{
		"debian-12": "", "templates/debian-12": "", "/templates/debian-12": "", "with/slash": "",
		"debian-11": "template or virtual machine debian-11 not found in datacenter Frankfurt; nearest names: debian-13, templates/debian-12",
	} {
		if _, err := small.find(kindVM, name); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("template %s: %v, want %q", name, err, want)
		}
	}
	twice := tree("Folder:vm/a", "Folder:vm/b", "VirtualMachine:a/x", "VirtualMachine:b/x")
	if _, err := twice.find(kindVM, "x"); !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "a/x, b/x") {
		t.Errorf("one of several: %v", err)
	}
	if _, err := twice.find(kindVM, "b/x"); err != nil {
		t.Error(err)
	}
}

func TestStorage(t *testing.T) {
	inv := tree("ClusterComputeResource:host/blue", "ResourcePool:blue/Resources", "Datastore:datastore/fast", "Datastore:datastore/slow")
	s := NewSettings()
	at, _ := placeOf(inv, s, false)
	if _, err := at.storage(inv); !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "fast, slow") {
		t.Errorf("several datastores: %v", err)
	}
	s.Datastore = "slow"
	at, errs := placeOf(inv, s, false)
	if store, err := at.storage(inv); len(errs) > 0 || err != nil || store.name != "slow" {
		t.Errorf("storage %s, %v, %v", store.name, errs, err)
	}
}

func TestDatacenters(t *testing.T) {
	ref := func(kind, value string) types.ManagedObjectReference {
		return types.ManagedObjectReference{Type: kind, Value: value}
	}
	all := newInventory(object{}, []object{
		{ref("Folder", "eu"), map[string]any{"name": "eu"}},
		{ref("Datacenter", "1"), map[string]any{"name": "north", "parent": ref("Folder", "eu")}},
		{ref("Datacenter", "2"), map[string]any{"name": "south", "parent": ref("Folder", "eu")}},
	})
	for name, want := range map[string]string{
		"north": "", "eu/south": "", "": "set `datacenter` to one of eu/north, eu/south", "nroth": "nearest names: eu/north",
	} {
		found, err := pickDatacenter(name, all)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) || err == nil && found.ref.Value == "" {
			t.Errorf("datacenter %q: %v, want %q", name, err, want)
		}
	}
	if _, err := pickDatacenter("", newInventory(object{}, nil)); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
}
