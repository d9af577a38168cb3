package vsphere

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/providertest"
)

func TestConformance(t *testing.T) {
	for name, esxi := range map[string]bool{"VCenter": false, "ESXi": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, fixture(esxi))
		})
	}
}

// TestConformanceOfFaults runs the suite over connections that misbehave. In the short run it takes the worst of them.
func TestConformanceOfFaults(t *testing.T) {
	for name, fault := range map[string]func() *flaky{
		"Unavailable": func() *flaky { return &flaky{status: http.StatusServiceUnavailable, refuses: 10} },
		"Throttled":   func() *flaky { return &flaky{status: http.StatusTooManyRequests, refuses: 20} },
		"LostAnswers": func() *flaky { return &flaky{loses: 50} },
		"ServerError": func() *flaky { return &flaky{status: http.StatusInternalServerError, refuses: 10, loses: 20} },
	} {
		if !long && name != "ServerError" {
			continue
		}
		for where, esxi := range map[string]bool{"AtVCenter": false, "AtESXi": true} {
			t.Run(name+where, func(t *testing.T) {
				t.Parallel()
				providertest.Run(t, flakyFixture(esxi, fault))
			})
		}
	}
}

func flakyFixture(esxi bool, fault func() *flaky) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		sim := newVCSim(t, esxi)
		open := func() providers.Provider { return patient(sim.open(fault().wrap)) }
		return providertest.Fixture{
			Provider: open(), Settings: sim.settings(),
			Reopen:    func(*testing.T) providers.Provider { return open() },
			Plant:     func(_ *testing.T, tags map[string]string) func() bool { return sim.plant(tags) },
			Leftovers: func(_ *testing.T, cluster string) []string { return sim.leftovers(cluster) },
		}
	}
}

func fixture(esxi bool) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		sim := newVCSim(t, esxi)
		p := sim.open(nil)
		return providertest.Fixture{
			Provider:  p,
			Settings:  sim.settings(),
			Reopen:    func(*testing.T) providers.Provider { return sim.open(nil) },
			Stop:      func(ctx context.Context, i providers.Instance) error { return sim.stop(ctx, p, i) },
			Plant:     func(t *testing.T, tags map[string]string) func() bool { return sim.plant(tags) },
			Leftovers: func(t *testing.T, cluster string) []string { return sim.leftovers(cluster) },
		}
	}
}

func (s *vcsim) settings() *Settings {
	settings := NewSettings()
	settings.Template, settings.Disk = s.template(), 20<<30
	return settings
}

func (s *vcsim) stop(ctx context.Context, p *Provider, instance providers.Instance) error {
	return p.with(ctx, func(c *client) error {
		m, _, err := c.find(ctx, p, instance.Identity)
		if err != nil {
			return err
		}
		res, err := methods.PowerOffVM_Task(ctx, c, &types.PowerOffVM_Task{This: m.ref})
		if err == nil {
			_, err = p.tasks.wait(ctx, c, res.Returnval)
		}
		return err
	})
}

// plant makes a machine of somebody else.
func (s *vcsim) plant(tags map[string]string) (untouched func() bool) {
	var ref types.ManagedObjectReference
	s.admin(func(ctx context.Context, c *client) error {
		p := s.own
		inv, err := p.inventory(ctx, c)
		if err != nil {
			return err
		}
		at, _ := placeOf(inv, s.settings(), c.esxi())
		spec := types.VirtualMachineConfigSpec{
			Name: "planted-" + uuid.NewString(), GuestId: "otherGuest",
			ExtraConfig: options(providers.TagProvider, "cloud-a", keyPhase, phaseLaunched),
		}
		for key, value := range tags {
			spec.ExtraConfig = append(spec.ExtraConfig, options(key, value)...)
		}
		spec.Files = &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_0]"}
		res, err := methods.CreateVM_Task(ctx, c, &types.CreateVM_Task{This: inv.vmFolder, Config: spec, Pool: at.pool})
		if err != nil {
			return err
		}
		result, err := p.tasks.wait(ctx, c, res.Returnval)
		ref, _ = result.(types.ManagedObjectReference)
		return err
	})
	before := s.snapshot(ref)
	return func() bool { return reflect.DeepEqual(before, s.snapshot(ref)) }
}

// snapshot is what a machine is.
func (s *vcsim) snapshot(ref types.ManagedObjectReference) (found object) {
	s.admin(func(ctx context.Context, c *client) (err error) {
		found, err = c.lookOne(ctx, ref, "name", "config.extraConfig", "runtime.powerState", "config.instanceUuid", "parent")
		if isGone(err) {
			return nil
		}
		return err
	})
	return found
}

// leftovers are everything of a cluster: machines, images, folders, rules, and directories of datastores.
func (s *vcsim) leftovers(cluster string) (left []string) {
	s.admin(func(ctx context.Context, c *client) error {
		p := s.own
		inv, err := p.inventory(ctx, c)
		if err != nil {
			return err
		}
		for _, e := range inv.entries {
			if strings.HasPrefix(e.name, "muster") {
				left = append(left, fmt.Sprintf("%s %s", e.kind, e.path))
			}
		}
		for _, e := range inv.of(kindCompute) {
			found, err := c.lookOne(ctx, e.ref, "configurationEx")
			if err != nil {
				return err
			}
			if config, is := found.props["configurationEx"].(types.ClusterConfigInfoEx); is {
				for _, rule := range config.Rule {
					left = append(left, "rule "+rule.GetClusterRuleInfo().Name)
				}
			}
		}
		return nil
	})
	return append(left, s.files()...)
}
