package vsphere

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// TestCheck finds what is wrong with settings before anything is made.
func TestCheck(t *testing.T) {
	sim := newVCSim(t, false)
	sim.library()
	p := sim.open(nil)
	for name, each := range map[string]struct {
		change func(*Settings)
		says   string
		class  error
	}{
		"right": {func(*Settings) {}, "", nil},
		"template": {
			func(s *Settings) { s.Template = "DC0_C0_RP0_VM" },
			"template or virtual machine DC0_C0_RP0_VM not found in datacenter DC0; nearest names: DC0_C0_RP0_VM0", providers.ErrNotFound,
		},
		"disk":   {func(s *Settings) { s.Disk = 1 << 20 }, "is less than the 10GiB of template", providers.ErrInvalid},
		"linked": {func(s *Settings) { s.Linked, s.Disk = true, 0 }, "has no snapshot", providers.ErrInvalid},
		"pool":   {func(s *Settings) { s.ResourcePool = "Resource" }, "nearest names: DC0_C0/Resources", providers.ErrNotFound},
		"library": {
			func(s *Settings) { s.Template, s.Library = "", "image/tiny" },
			"content library image not found; nearest names: images", providers.ErrNotFound,
		},
		"item": {
			func(s *Settings) { s.Template, s.Library = "", "images/tyni" },
			"library item images/tyni not found; nearest names: images/tiny", providers.ErrNotFound,
		},
		"apart":   {func(s *Settings) { s.AntiAffinity = affinityRequired }, "", nil},
		"network": {func(s *Settings) { s.Networks = []string{"VM Network", "DC0_DVPG0"} }, "", nil},
	} {
		s := sim.settings()
		each.change(s)
		err := p.Check(t.Context(), []any{s, s})
		if !errors.Is(err, each.class) || err != nil && !strings.Contains(err.Error(), each.says) {
			t.Errorf("%s: %v, want %q", name, err, each.says)
		}
	}
	if err := p.Check(t.Context(), []any{new(int)}); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("another driver's settings: %v", err)
	}
	if machines := len(sim.registry().All("VirtualMachine")); machines != 1 || len(sim.leftovers(testCluster)) != 0 {
		t.Error("a check has made something")
	}
}

// TestCheckOfPrivileges passes when the user may not even ask.
func TestCheckOfPrivileges(t *testing.T) {
	sim := newVCSim(t, false)
	sim.model.Service.AddFaultRule(&simulator.FaultInjectionRule{
		MethodName: "HasPrivilegeOnEntities", ObjectType: "*", ObjectName: "*", Probability: 1, Enabled: true,
		FaultType: simulator.FaultTypeCustom, Fault: &types.NoPermission{},
	})
	if err := sim.open(nil).Check(t.Context(), []any{sim.settings()}); err != nil {
		t.Error(err)
	}
}

// TestHardwareOfHosts gives hosts two interfaces, CPUs and memory of their own.
func TestHardwareOfHosts(t *testing.T) {
	for name, esxi := range map[string]bool{"vCenter": false, "ESXi": true} {
		t.Run(name, func(t *testing.T) {
			sim := newVCSim(t, esxi)
			p := sim.open(nil)
			s := sim.settings()
			s.CPUs, s.Memory = 2, 512<<20
			s.Networks = []string{"VM Network", "VM Network"}
			if !esxi {
				s.Networks[0] = "DC0_DVPG0"
			}
			made, err := p.Create(t.Context(), request("web-1", s))
			if err != nil {
				t.Fatal(err)
			}
			found := sim.machine(p, made)
			if n := len(found.interfaces()); n != 2 {
				t.Fatalf("%d interfaces, want 2", n)
			}
			if disks := found.disks(); len(disks) != 1 || !esxi && capacity(disks[0]) != s.Disk {
				t.Errorf("disks %v", disks)
			}
			if found.hardware.cpus != 2 || found.hardware.memoryMiB != 512 {
				t.Errorf("hardware %+v", found.hardware)
			}
			backing := found.interfaces()[0].GetVirtualEthernetCard().Backing
			if _, distributed := backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo); distributed == esxi {
				t.Errorf("the first interface is on a distributed port group: %v", distributed)
			}
		})
	}
}
