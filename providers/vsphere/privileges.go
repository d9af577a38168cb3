package vsphere

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// target is what a privilege is needed on.
type target string

const (
	onTemplate   target = "template"
	onFolder     target = "folder"     // of the machines; what is granted there holds for them, with propagation
	onDatacenter target = "datacenter" // where muster makes the folder
	onPool       target = "resource pool"
	onDatastore  target = "datastore"
	onNetwork    target = "network"
	onCluster    target = "compute cluster"
)

// feature is what a call is needed for.
type feature string

const (
	always     feature = "always"
	vCenter    feature = "vCenter"
	esxiHost   feature = "ESXi"
	ownFolder  feature = "no `folder`"
	apart      feature = "`anti_affinity`"
	storagePod feature = "`datastore_cluster`"
	ovaImport  feature = "`ova`"
	items      feature = "`library`"
)

// grant is a privilege on an object.
type grant struct {
	on        target
	privilege string
}

// apiCall is a method of the SOAP API, or verb and path of the REST one, with what it takes. What it takes follows the API
// reference ("Required privileges" of each method, https://developer.broadcom.com/xapis/vsphere-web-services-api/latest/).
// A call without grants needs no more than System.View and System.Read, which everybody with a role has.
type apiCall struct {
	name   string
	needed feature
	grants []grant
}

// machineGrants is what giving a machine its hardware, user-data and tags takes.
var machineGrants = []grant{
	{onFolder, "VirtualMachine.Config.AddRemoveDevice"},
	{onFolder, "VirtualMachine.Config.AdvancedConfig"},
	{onFolder, "VirtualMachine.Config.CPUCount"},
	{onFolder, "VirtualMachine.Config.DiskExtend"},
	{onFolder, "VirtualMachine.Config.EditDevice"},
	{onFolder, "VirtualMachine.Config.Memory"},
	{onFolder, "VirtualMachine.Config.Settings"},
	{onPool, "Resource.AssignVMToPool"},
	{onDatastore, "Datastore.AllocateSpace"},
	{onNetwork, "Network.Assign"},
}

// apiCalls are all calls that the driver makes. A test records them.
var apiCalls = []apiCall{
	{"GET /sdk/vimServiceVersions.xml", always, nil},
	{"RetrieveServiceContent", always, nil},
	{"Login", always, nil},
	{"RetrievePropertiesEx", always, nil},
	{"ContinueRetrievePropertiesEx", always, nil},
	{"FindAllByUuid", always, nil},
	{"FindChild", always, nil},
	{"HasPrivilegeOnEntities", always, nil},
	{"PowerOnVM_Task", always, []grant{{onFolder, "VirtualMachine.Interact.PowerOn"}}},
	{"PowerOffVM_Task", always, []grant{{onFolder, "VirtualMachine.Interact.PowerOff"}}},
	{"ReconfigVM_Task", always, []grant{{onFolder, "VirtualMachine.Config.AdvancedConfig"}}},
	{"Destroy_Task", always, []grant{{onFolder, "VirtualMachine.Inventory.Delete"}}},
	{"CloneVM_Task", vCenter, append([]grant{
		{onTemplate, "VirtualMachine.Provisioning.DeployTemplate"},
		{onTemplate, "VirtualMachine.Provisioning.Clone"},
		{onFolder, "VirtualMachine.Inventory.CreateFromExisting"},
	}, machineGrants...)},
	{"CreateVM_Task", esxiHost, append([]grant{{onFolder, "VirtualMachine.Inventory.Create"}}, machineGrants...)},
	{"CopyVirtualDisk_Task", esxiHost, []grant{{onDatastore, "Datastore.FileManagement"}, {onFolder, "VirtualMachine.Config.AddExistingDisk"}}},
	{"ExtendVirtualDisk_Task", esxiHost, []grant{{onDatastore, "Datastore.FileManagement"}}},
	{"DeleteVirtualDisk_Task", esxiHost, []grant{{onDatastore, "Datastore.FileManagement"}}},
	{"CreateFolder", ownFolder, []grant{{onDatacenter, "Folder.Create"}, {onDatacenter, "Folder.Delete"}}},
	{"ReconfigureComputeResource_Task", apart, []grant{{onCluster, "Host.Inventory.EditCluster"}}},
	{"RecommendDatastores", storagePod, nil},
	{"CreateImportSpec", ovaImport, []grant{{onPool, "VApp.Import"}, {onDatastore, "Datastore.AllocateSpace"}}},
	{"ImportVApp", ovaImport, []grant{
		{onFolder, "VApp.Import"},
		{onFolder, "VirtualMachine.Inventory.Create"},
		{onFolder, "VirtualMachine.Config.AddNewDisk"},
		{onFolder, "VirtualMachine.Provisioning.DeployTemplate"}, // of the image
	}},
	{"CreatePropertyCollector", ovaImport, nil},
	{"CreateFilter", ovaImport, nil},
	{"WaitForUpdatesEx", ovaImport, nil},
	{"DestroyPropertyCollector", ovaImport, nil},
	{"HttpNfcLeaseProgress", ovaImport, nil},
	{"HttpNfcLeaseComplete", ovaImport, nil},
	{"HttpNfcLeaseAbort", ovaImport, nil},
	{"POST /nfc", ovaImport, nil},
	{"PUT /nfc", ovaImport, nil},
	{"CreateSnapshot_Task", ovaImport, []grant{{onFolder, "VirtualMachine.State.CreateSnapshot"}}},
	{"MarkAsTemplate", ovaImport, []grant{{onFolder, "VirtualMachine.Provisioning.MarkAsTemplate"}}},
	{"Rename_Task", ovaImport, []grant{{onFolder, "VirtualMachine.Config.Rename"}}},
	{"POST /rest/com/vmware/cis/session", items, nil},
	{"DELETE /rest/com/vmware/cis/session", items, nil},
	{"POST /rest/com/vmware/content/library", items, nil},
	{"GET /rest/com/vmware/content/library", items, nil},
	{"GET /rest/com/vmware/content/library/ID", items, nil},
	{"POST /rest/com/vmware/content/library/item", items, nil},
	{"GET /rest/com/vmware/content/library/item", items, nil},
	{"GET /rest/com/vmware/content/library/item/ID", items, nil},
	{"POST /rest/com/vmware/vcenter/ovf/library-item/ID", items, []grant{
		{onFolder, "VApp.Import"},
		{onFolder, "VirtualMachine.Inventory.Create"},
		{onFolder, "VirtualMachine.Config.AddNewDisk"},
		{onFolder, "VirtualMachine.State.CreateSnapshot"},
		{onFolder, "VirtualMachine.Provisioning.MarkAsTemplate"},
		{onFolder, "VirtualMachine.Config.Rename"},
		{onPool, "VApp.Import"},
		{onDatastore, "Datastore.AllocateSpace"},
		{onFolder, "VirtualMachine.Provisioning.DeployTemplate"},
	}},
	{"POST /rest/vcenter/vm-template/library-items/ID", items, []grant{
		{onFolder, "VirtualMachine.Inventory.CreateFromExisting"}, {onFolder, "VirtualMachine.Provisioning.DeployTemplate"},
	}},
}

// featuresOf are what settings make use of.
func featuresOf(s *Settings, esxi bool) []feature {
	list := []feature{always}
	for f, used := range map[feature]bool{
		vCenter: !esxi, esxiHost: esxi, ownFolder: !esxi && s.Folder == "", apart: s.AntiAffinity != affinityOff,
		storagePod: s.DatastoreCluster != "", ovaImport: s.OVA != "", items: s.Library != "",
	} {
		if used {
			list = append(list, f)
		}
	}
	return list
}

// needed are the privileges that features take, by target, sorted.
func needed(features []feature) map[target][]string {
	need := map[target][]string{}
	for _, call := range apiCalls {
		if !slices.Contains(features, call.needed) {
			continue
		}
		for _, g := range call.grants {
			need[g.on] = append(need[g.on], g.privilege)
		}
	}
	for on, list := range need {
		slices.Sort(list)
		need[on] = slices.Compact(list)
	}
	return need
}

// lacking says which of the needed privileges the server does not grant, one line for each object.
func lacking(granted []types.EntityPrivilege, need map[types.ManagedObjectReference][]string, nameOf func(types.ManagedObjectReference) string) []string {
	var lines []string
	for _, entity := range granted {
		var missing []string
		for _, p := range entity.PrivAvailability {
			if !p.IsGranted && slices.Contains(need[entity.Entity], p.PrivId) {
				missing = append(missing, p.PrivId)
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			lines = append(lines, fmt.Sprintf("%s lacks %s", nameOf(entity.Entity), strings.Join(missing, ", ")))
		}
	}
	slices.Sort(lines)
	return lines
}

// privilegeUnion is every privilege that any object needs, to be asked for in one call.
func privilegeUnion(need map[types.ManagedObjectReference][]string) (entities []types.ManagedObjectReference, privileges []string) {
	for ref, list := range need {
		entities = append(entities, ref)
		privileges = append(privileges, list...)
	}
	slices.SortFunc(entities, compareRefs)
	slices.Sort(privileges)
	return entities, slices.Compact(privileges)
}

// PrivilegeTable renders which privileges the driver takes on which object, and the calls that take them, as Markdown.
func PrivilegeTable() string {
	var b strings.Builder
	rows := map[grant][]string{}
	for _, call := range apiCalls {
		for _, g := range call.grants {
			if !slices.Contains(rows[g], string(call.needed)) {
				rows[g] = append(rows[g], string(call.needed))
			}
		}
	}
	order := []target{onDatacenter, onFolder, onTemplate, onPool, onCluster, onDatastore, onNetwork}
	list := slices.SortedFunc(maps.Keys(rows), func(a, b grant) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.on), slices.Index(order, b.on)), cmp.Compare(a.privilege, b.privilege))
	})
	b.WriteString("| On | Privilege | Needed for |\n|---|---|---|\n")
	for _, g := range list {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", g.on, g.privilege, strings.Join(rows[g], ", "))
	}
	b.WriteString("\n| Call | Needed for | Privileges beyond System.View and System.Read |\n|---|---|---|\n")
	for _, call := range apiCalls {
		var words []string
		for _, g := range call.grants {
			words = append(words, fmt.Sprintf("%s (%s)", g.privilege, g.on))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", call.name, call.needed, cmp.Or(strings.Join(words, ", "), "none"))
	}
	return b.String()
}
