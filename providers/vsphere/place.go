package vsphere

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// place is where a host goes.
type place struct {
	folder    *types.ManagedObjectReference // nil: the folder that muster makes
	pool      types.ManagedObjectReference
	compute   entry
	host      *types.ManagedObjectReference
	datastore *entry // nil: the template's, or what Storage DRS recommends
	pod       *types.ManagedObjectReference
	networks  []network
}

// network is a network that an interface is put on.
type network struct {
	ref     types.ManagedObjectReference
	name    string
	backing types.BaseVirtualDeviceBackingInfo
}

// placeOf finds everything that settings name. It tells everything that is wrong at once.
func placeOf(inv *inventory, s *Settings, esxi bool) (place, []error) {
	var at place
	var errs []error
	note := func(err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		return err == nil
	}
	if esxi {
		errs = append(errs, notOnESXi(s)...)
		at.folder = &inv.vmFolder
	}
	if s.Folder != "" && !esxi {
		if folder, err := inv.vmFolderNamed(s.Folder); note(err) {
			at.folder = &folder
		}
	}
	note(at.placeCompute(inv, s))
	if s.Host != "" {
		if host, err := inv.find(kindHost, s.Host); note(err) {
			at.host = &host.ref
		}
	}
	if s.Datastore != "" {
		if store, err := inv.find(kindDatastore, s.Datastore); note(err) {
			at.datastore = &store
		}
	}
	if s.DatastoreCluster != "" && !esxi {
		if pod, err := inv.find(kindPod, s.DatastoreCluster); note(err) {
			at.pod = &pod.ref
		}
	}
	for _, name := range s.Networks {
		if n, err := inv.network(name); note(err) {
			at.networks = append(at.networks, n)
		}
	}
	if s.AntiAffinity != affinityOff && at.compute.ref.Type == "ComputeResource" && !esxi {
		errs = append(errs, fmt.Errorf("`anti_affinity` needs a cluster with DRS, and %s is a standalone host: %w", at.compute.name, providers.ErrInvalid))
	}
	return at, errs
}

// notOnESXi says which settings need a vCenter.
func notOnESXi(s *Settings) []error {
	var errs []error
	for field, given := range map[string]bool{
		"folder": s.Folder != "", "datastore_cluster": s.DatastoreCluster != "", "library": s.Library != "", "linked": s.Linked,
		"anti_affinity": s.AntiAffinity != affinityOff,
	} {
		if given {
			errs = append(errs, fmt.Errorf("`%s` needs a vCenter, and the server is an ESXi host: %w", field, providers.ErrInvalid))
		}
	}
	return errs
}

// vmFolderNamed finds a folder of virtual machines.
func (inv *inventory) vmFolderNamed(name string) (types.ManagedObjectReference, error) {
	var folders []entry
	for _, e := range inv.of(kindFolder) {
		if e.root == inv.vmFolder && e.ref != inv.vmFolder {
			folders = append(folders, e)
		}
	}
	found, err := pick(kindFolder, name, folders, inv.datacenterName)
	return found.ref, err
}

// placeCompute finds the compute cluster and the resource pool, of which one gives the other.
func (at *place) placeCompute(inv *inventory, s *Settings) error {
	if s.ResourcePool != "" {
		pool, err := inv.poolNamed(s.ResourcePool, s.Cluster)
		if err != nil {
			return err
		}
		at.pool = pool.ref
		at.compute, _ = inv.get(pool.reference("owner"))
		return nil
	}
	computes := inv.of(kindCompute)
	switch {
	case s.Cluster != "":
		found, err := inv.find(kindCompute, s.Cluster)
		if err != nil {
			return err
		}
		at.compute = found
	case s.Host != "":
		host, err := inv.find(kindHost, s.Host)
		if err != nil {
			return nil // said already
		}
		at.compute, _ = inv.get(host.reference("parent"))
	case len(computes) == 1:
		at.compute = computes[0]
	case len(computes) == 0:
		return fmt.Errorf("datacenter %s has no hosts that the user may see: %w", inv.datacenterName, providers.ErrNotFound)
	default:
		return fmt.Errorf("there are several compute clusters, set `cluster` or `resource_pool`: %s: %w",
			strings.Join(pathsOf(computes), ", "), providers.ErrInvalid)
	}
	at.pool = at.compute.reference("resourcePool")
	return nil
}

// poolNamed finds a resource pool, in a compute cluster when one is given.
func (inv *inventory) poolNamed(name, cluster string) (entry, error) {
	candidates := inv.of(kindPool)
	if cluster != "" {
		compute, err := inv.find(kindCompute, cluster)
		if err != nil {
			return entry{}, err
		}
		candidates = slices.DeleteFunc(candidates, func(e entry) bool { return e.reference("owner") != compute.ref })
	}
	return pick(kindPool, name, candidates, inv.datacenterName)
}

// network finds a network and how an interface is put on it.
func (inv *inventory) network(name string) (network, error) {
	found, err := inv.find(kindNetwork, name)
	if err != nil {
		return network{}, err
	}
	n := network{ref: found.ref, name: found.name}
	switch found.ref.Type {
	case "DistributedVirtualPortgroup":
		sw, ok := inv.get(found.reference("config.distributedVirtualSwitch"))
		if !ok {
			return n, fmt.Errorf("the user may not see the switch of port group %s, it needs System.Read there: %w", name, providers.ErrAuth)
		}
		n.backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
			Port: types.DistributedVirtualSwitchPortConnection{SwitchUuid: sw.text("uuid"), PortgroupKey: found.text("key")},
		}
	case "OpaqueNetwork":
		summary, ok := found.props["summary"].(types.OpaqueNetworkSummary)
		if !ok {
			return n, fmt.Errorf("network %s does not say what it is: %w", name, providers.ErrInvalid)
		}
		n.backing = &types.VirtualEthernetCardOpaqueNetworkBackingInfo{
			OpaqueNetworkId: summary.OpaqueNetworkId, OpaqueNetworkType: summary.OpaqueNetworkType,
		}
	default:
		n.backing = &types.VirtualEthernetCardNetworkBackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: found.name}, Network: &found.ref,
		}
	}
	return n, nil
}

// storage is a datastore for something that has no template to take it from: the given one, or the only one that the
// compute cluster has.
func (at place) storage(inv *inventory) (entry, error) {
	if at.datastore != nil {
		return *at.datastore, nil
	}
	within := at.compute.object
	if at.host != nil {
		if host, ok := inv.get(*at.host); ok {
			within = host.object
		}
	}
	refs, _ := within.props["datastore"].(types.ArrayOfManagedObjectReference)
	var usable []entry
	for _, e := range inv.of(kindDatastore) {
		inPod := at.pod == nil || e.reference("parent") == *at.pod
		if slices.Contains(refs.ManagedObjectReference, e.ref) && e.flag("summary.accessible") && inPod {
			usable = append(usable, e)
		}
	}
	switch {
	case len(usable) == 1 || len(usable) > 1 && at.pod != nil:
		return usable[0], nil
	case len(usable) == 0:
		return entry{}, fmt.Errorf("%s has no datastore that is accessible: %w", at.compute.name, providers.ErrNotFound)
	default:
		return entry{}, fmt.Errorf("there are several datastores, set `datastore`: %s: %w", strings.Join(pathsOf(usable), ", "), providers.ErrInvalid)
	}
}
