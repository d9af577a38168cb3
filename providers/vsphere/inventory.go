package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// kind is a kind of inventory object, as settings name them.
type kind string

const (
	kindVM        kind = "template or virtual machine"
	kindFolder    kind = "folder"
	kindCompute   kind = "compute cluster"
	kindHost      kind = "host"
	kindPool      kind = "resource pool"
	kindDatastore kind = "datastore"
	kindPod       kind = "datastore cluster"
	kindNetwork   kind = "network"
	kindSwitch    kind = "distributed switch"
	kindOther     kind = ""
)

// kinds are the kinds by managed object type.
var kinds = map[string]kind{
	"VirtualMachine": kindVM, "Folder": kindFolder, "ComputeResource": kindCompute, "ClusterComputeResource": kindCompute,
	"HostSystem": kindHost, "ResourcePool": kindPool, "VirtualApp": kindPool, "Datastore": kindDatastore, "StoragePod": kindPod,
	"Network": kindNetwork, "DistributedVirtualPortgroup": kindNetwork, "OpaqueNetwork": kindNetwork,
	"DistributedVirtualSwitch": kindSwitch, "VmwareDistributedVirtualSwitch": kindSwitch,
}

// entry is an object of the inventory.
type entry struct {
	object
	kind kind
	name string
	path string // below the datacenter's folder of its kind
	root types.ManagedObjectReference
}

// inventory is what a datacenter has.
type inventory struct {
	datacenter     types.ManagedObjectReference
	datacenterName string
	vmFolder       types.ManagedObjectReference
	entries        []entry
	byRef          map[types.ManagedObjectReference]int
}

// unescape gives the characters back that vSphere escapes in names.
var unescape = strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%")

// newInventory orders objects that have a name and a parent.
func newInventory(datacenter object, objects []object) *inventory {
	inv := &inventory{
		datacenter: datacenter.ref, datacenterName: datacenter.text("name"), vmFolder: datacenter.reference("vmFolder"),
		byRef: make(map[types.ManagedObjectReference]int, len(objects)),
	}
	for _, o := range objects {
		inv.byRef[o.ref] = len(inv.entries)
		inv.entries = append(inv.entries, entry{object: o, kind: kinds[o.ref.Type], name: unescape.Replace(o.text("name"))})
	}
	for i := range inv.entries {
		inv.entries[i].path, inv.entries[i].root = inv.pathOf(i)
	}
	slices.SortStableFunc(inv.entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	for i, e := range inv.entries {
		inv.byRef[e.ref] = i
	}
	return inv
}

// pathOf is the path of an entry below its topmost folder, and that folder.
func (inv *inventory) pathOf(i int) (string, types.ManagedObjectReference) {
	names := []string{inv.entries[i].name}
	parent := inv.entries[i].reference("parent")
	root := inv.entries[i].ref
	for range len(inv.entries) {
		up, known := inv.byRef[parent]
		if !known {
			break
		}
		root = inv.entries[up].ref
		if parent = inv.entries[up].reference("parent"); parent == inv.datacenter && parent.Value != "" {
			break // the datacenter's own folders have no part in a path
		}
		names = append(names, inv.entries[up].name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/"), root
}

// get is the entry of a reference.
func (inv *inventory) get(ref types.ManagedObjectReference) (entry, bool) {
	i, ok := inv.byRef[ref]
	if !ok {
		return entry{}, false
	}
	return inv.entries[i], true
}

// of lists the entries of a kind, by path.
func (inv *inventory) of(k kind) []entry {
	var list []entry
	for _, e := range inv.entries {
		if e.kind == k {
			list = append(list, e)
		}
	}
	return list
}

// find finds an object of a kind by its name or the end of its path.
func (inv *inventory) find(k kind, name string) (entry, error) {
	return pick(k, name, inv.of(k), inv.datacenterName)
}

// pick finds one of the candidates by name or the end of its path.
func pick(k kind, name string, candidates []entry, datacenter string) (entry, error) {
	var found []entry
	want := strings.Trim(name, "/")
	for _, e := range candidates {
		if e.path == want {
			return e, nil
		}
		if e.name == want || strings.HasSuffix(e.path, "/"+want) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return entry{}, fmt.Errorf("%s %s not found in datacenter %s%s: %w", k, name, datacenter, hint(want, pathsOf(candidates)), providers.ErrNotFound)
	default:
		return entry{}, fmt.Errorf("%s %s is one of several, write one of their paths: %s: %w", k, name,
			strings.Join(pathsOf(found), ", "), providers.ErrInvalid)
	}
}

func pathsOf(list []entry) []string {
	paths := make([]string, len(list))
	for i, e := range list {
		paths[i] = e.path
	}
	return paths
}

// hint names what there is that looks most like what was wanted.
func hint(want string, names []string) string {
	near := nearest(want, names)
	if len(near) == 0 {
		return ": there is none"
	}
	return "; nearest names: " + strings.Join(near, ", ")
}

// maxNearest is how many names a hint has.
const maxNearest = 3

// nearest are the names that have the most pairs of letters in common with one (Dice's coefficient), the best first.
func nearest(want string, names []string) []string {
	type ranked struct {
		name  string
		score float64
	}
	wanted := pairs(want)
	var list []ranked
	for _, name := range names {
		all, common := pairs(name), 0
		for pair, n := range all {
			common += min(n, wanted[pair])
		}
		list = append(list, ranked{name, 2 * float64(common) / float64(len(want)+len(name))})
	}
	slices.SortStableFunc(list, func(a, b ranked) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.name, b.name)) })
	var near []string
	for _, r := range list[:min(len(list), maxNearest)] {
		near = append(near, r.name)
	}
	return near
}

// pairs counts the pairs of neighbouring letters.
func pairs(text string) map[string]int {
	count := map[string]int{}
	text = strings.ToLower(text)
	for i := range len(text) - 1 {
		count[text[i:i+2]]++
	}
	return count
}

// inventories keeps a datacenter's inventory, which all calls of a provider share.
type inventories struct {
	mu    sync.Mutex
	known *inventory
}

func (i *inventories) get() *inventory {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.known
}

func (i *inventories) set(inv *inventory) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.known = inv
}

// inventory reads the datacenter once. A call that learns that something has changed since forgets it.
func (p *Provider) inventory(ctx context.Context, c *client) (*inventory, error) {
	unlock, err := p.shared.Lock(ctx, "inventory")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if inv := p.known.get(); inv != nil {
		return inv, nil
	}
	datacenter, err := p.datacenter(ctx, c)
	if err != nil {
		return nil, err
	}
	var specs []types.PropertySpec
	for _, each := range inventoryProperties {
		specs = append(specs, wanted(each[0], append([]string{"name", "parent"}, each[1:]...)...))
	}
	objects, err := c.below(ctx, datacenter.ref, toEverything, specs...)
	if err != nil {
		return nil, err
	}
	inv := newInventory(datacenter, objects)
	p.known.set(inv)
	return inv, nil
}

// inventoryProperties are the properties by type, beside name and parent.
var inventoryProperties = [][]string{
	{"Folder"},
	{"ComputeResource", "resourcePool", "host", "datastore"},
	{"HostSystem", "datastore"},
	{"ResourcePool", "owner"},
	{"Datastore", "summary.accessible"},
	{"Network"},
	{"DistributedVirtualPortgroup", "config.distributedVirtualSwitch", "key"},
	{"OpaqueNetwork", "summary"},
	{"DistributedVirtualSwitch", "uuid"},
	{"VirtualMachine", "config.template"},
}

// datacenter finds the configured datacenter, or the only one.
func (p *Provider) datacenter(ctx context.Context, c *client) (object, error) {
	p.datacenterMu.Lock()
	known := p.datacenterKnown
	p.datacenterMu.Unlock()
	if known.ref.Value != "" {
		return known, nil
	}
	objects, err := c.below(ctx, c.ServiceContent.RootFolder, toDatacenters, wanted("Folder", "name", "parent"), wanted("Datacenter", "name", "parent", "vmFolder"))
	if err != nil {
		return object{}, err
	}
	found, err := pickDatacenter(p.session.server.Datacenter, newInventory(object{}, objects))
	if err != nil {
		return object{}, err
	}
	p.datacenterMu.Lock()
	p.datacenterKnown = found
	p.datacenterMu.Unlock()
	return found, nil
}

// pickDatacenter chooses a datacenter by name or path.
func pickDatacenter(name string, inv *inventory) (object, error) {
	var all []entry
	for _, e := range inv.entries {
		if e.ref.Type == "Datacenter" {
			all = append(all, e)
		}
	}
	var found []entry
	want := strings.Trim(name, "/")
	for _, e := range all {
		if want == "" || e.name == want || e.path == want {
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 1:
		return found[0].object, nil
	case len(found) > 1:
		return object{}, fmt.Errorf("there are several datacenters, set `datacenter` to one of %s: %w", strings.Join(pathsOf(found), ", "), providers.ErrInvalid)
	case len(all) == 0:
		return object{}, fmt.Errorf("there is no datacenter that the user may see: %w", providers.ErrNotFound)
	default:
		return object{}, fmt.Errorf("datacenter %s not found%s: %w", name, hint(want, pathsOf(all)), providers.ErrNotFound)
	}
}
