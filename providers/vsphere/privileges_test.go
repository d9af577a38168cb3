package vsphere

import (
	"context"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/providers"
)

// TestPrivilegesDocument keeps the tables of PRIVILEGES.md those of the code.
func TestPrivilegesDocument(t *testing.T) {
	const file, mark = "PRIVILEGES.md", "<!-- go test ./providers/vsphere -run Document -update -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(text), mark)
	if !found {
		t.Fatalf("%s has no line %q", file, mark)
	}
	want := head + mark + "\n" + PrivilegeTable()
	if golden.Updating() {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != want {
		t.Errorf("%s is not up to date, run the test with -update", file)
	}
}

// TestPrivilegesAreKnown looks every privilege up among those that the server's roles have.
func TestPrivilegesAreKnown(t *testing.T) {
	sim := newVCSim(t, false)
	known := map[string]bool{}
	sim.admin(func(ctx context.Context, c *client) error {
		found, err := c.lookOne(ctx, *c.ServiceContent.AuthorizationManager, "roleList")
		list, _ := found.props["roleList"].(types.ArrayOfAuthorizationRole)
		for _, role := range list.AuthorizationRole {
			for _, privilege := range role.Privilege {
				known[privilege] = true
			}
		}
		return err
	})
	for _, call := range apiCalls {
		for _, g := range call.grants {
			if !known[g.privilege] {
				t.Errorf("%s: vSphere has no privilege %s", call.name, g.privilege)
			}
		}
	}
}

// TestCallsAreDocumented makes, lists, stops, starts, checks and removes hosts of every shape, and compares the calls with
// the table: none is made that is not there, and what is there is needed.
func TestCallsAreDocumented(t *testing.T) {
	calls := &recorder{}
	for name, shape := range shapes(t) {
		sim := newVCSim(t, shape.esxi)
		settings := NewSettings()
		shape.set(sim, settings)
		if shape.esxi {
			settings.Disk = 20 << 30
		}
		sim.tour(name, sim.open(calls.wrap), settings)
	}
	sim := newVCSim(t, false)
	settings := sim.settings()
	settings.DatastoreCluster = sim.pod()
	sim.tour("datastore cluster", sim.open(func(inner http.RoundTripper) http.RoundTripper { return calls.wrap(withPods(inner)) }), settings)
	documented := map[string]bool{}
	for _, call := range apiCalls {
		documented[call.name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(calls.calls)) {
		if !documented[name] {
			t.Errorf("call %q is not in the table", name)
		}
	}
	// What only failures, large answers and other kinds of files and items need.
	rare := []string{
		"ContinueRetrievePropertiesEx", "HttpNfcLeaseAbort", "HttpNfcLeaseProgress", "PUT /nfc", "DeleteVirtualDisk_Task",
		"GET /rest/com/vmware/content/library", "GET /rest/com/vmware/content/library/ID", "GET /rest/com/vmware/content/library/item",
		"POST /rest/vcenter/vm-template/library-items/ID",
	}
	for name := range documented {
		if calls.calls[name] == 0 && !slices.Contains(rare, name) {
			t.Errorf("call %q is in the table and is not made", name)
		}
	}
}

// tour does everything that the driver can do.
func (s *vcsim) tour(name string, p *Provider, settings *Settings) {
	s.t.Helper()
	step := func(what string, err error) {
		if err != nil {
			s.t.Errorf("%s: %s: %v", name, what, err)
		}
	}
	ctx := s.t.Context()
	step("check", p.Check(ctx, []any{settings}))
	for _, host := range []string{"web-1", "web-2"} {
		_, err := p.Create(ctx, request(host, settings))
		step("create", err)
	}
	list, err := p.List(ctx, testCluster)
	step("list", err)
	for _, i := range list {
		step("stop", s.stop(ctx, s.open(nil), i))
		step("start", p.Start(ctx, i))
		step("destroy", p.Destroy(ctx, i))
	}
	step("clean up", p.Cleanup(ctx, testCluster))
}

// pod puts the model's datastore into a datastore cluster and returns that one's name.
func (s *vcsim) pod() string {
	s.admin(func(ctx context.Context, c *client) error {
		inv, err := s.own.inventory(ctx, c)
		if err != nil {
			return err
		}
		store := inv.of(kindDatastore)[0]
		return s.own.makePod(ctx, c, store)
	})
	return "pod"
}

// TestPrivilegesOfSettings says what a user lacks, object by object.
func TestPrivilegesOfSettings(t *testing.T) {
	folder := types.ManagedObjectReference{Type: "Folder", Value: "group-v3"}
	pool := types.ManagedObjectReference{Type: "ResourcePool", Value: "resgroup-1"}
	need := map[types.ManagedObjectReference][]string{
		folder: {"VirtualMachine.Inventory.Delete", "VirtualMachine.Config.Memory"}, pool: {"Resource.AssignVMToPool"},
	}
	entities, privileges := privilegeUnion(need)
	var granted []types.EntityPrivilege
	for _, e := range entities {
		each := types.EntityPrivilege{Entity: e}
		for _, id := range privileges {
			each.PrivAvailability = append(each.PrivAvailability, types.PrivilegeAvailability{PrivId: id, IsGranted: id == "VirtualMachine.Config.Memory"})
		}
		granted = append(granted, each)
	}
	got := lacking(granted, need, func(ref types.ManagedObjectReference) string { return ref.Type })
	want := []string{"Folder lacks VirtualMachine.Inventory.Delete", "ResourcePool lacks Resource.AssignVMToPool"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	plain, kept := needed(featuresOf(NewSettings(), false)), needed(featuresOf(&Settings{AntiAffinity: affinityRequired, Folder: "x"}, false))
	if len(plain[onCluster]) != 0 || len(plain[onDatacenter]) == 0 || len(kept[onCluster]) != 1 || len(kept[onDatacenter]) != 0 {
		t.Errorf("without settings %v, with a rule and a folder %v", plain, kept)
	}
}

var _ providers.Checker = (*Provider)(nil)
