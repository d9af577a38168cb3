package vsphere

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// Check looks whether the server lets us in, has everything that the settings name, and grants what making hosts takes. It
// tells everything that is wrong at once.
func (p *Provider) Check(ctx context.Context, settings []any) error {
	return p.with(ctx, func(c *client) error {
		p.forget()
		inv, err := p.inventory(ctx, c)
		if err != nil {
			return err
		}
		var errs []error
		seen := map[string]bool{}
		need := map[types.ManagedObjectReference][]string{}
		for _, each := range settings {
			s, err := settingsOf(each)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			// Hosts differ in their addresses at most; each kind is checked once.
			kind := *s
			kind.Address, kind.Gateway, kind.Nameservers = NewSettings().Address, NewSettings().Gateway, nil
			if key := fmt.Sprintf("%+v", kind); !seen[key] {
				seen[key] = true
				errs = append(errs, p.checkSettings(ctx, c, inv, s, need)...)
			}
		}
		return errors.Join(append(errs, p.checkPrivileges(ctx, c, inv, need))...)
	})
}

// checkSettings looks whether everything is there that settings name, and notes which privileges they need on it.
func (p *Provider) checkSettings(
	ctx context.Context, c *client, inv *inventory, s *Settings, need map[types.ManagedObjectReference][]string,
) []error {
	at, errs := placeOf(inv, s, c.esxi())
	var template *types.ManagedObjectReference
	switch {
	case s.Template != "":
		found, err := inv.find(kindVM, s.Template)
		if err == nil {
			template = &found.ref
			var from source
			if from, err = c.readSource(ctx, found.ref); err == nil {
				err = from.fits(s)
			}
		}
		errs = append(errs, err)
	case s.Library != "" && !c.esxi():
		_, err := c.libraryItem(ctx, s.Library)
		errs = append(errs, err)
	case s.OVA != "" && !strings.Contains(s.OVA, "://"):
		errs = append(errs, p.checkOVA(ctx, s))
	}
	if (s.Template == "" || c.esxi()) && at.compute.ref.Value != "" {
		_, err := at.storage(inv)
		errs = append(errs, err)
	}
	if s.AntiAffinity != affinityOff && at.compute.ref.Type == "ClusterComputeResource" {
		errs = append(errs, c.checkDRS(ctx, at.compute))
	}
	at.privileges(inv, needed(featuresOf(s, c.esxi())), template, need)
	return errs
}

// checkOVA looks whether an OVA is there and is one.
func (p *Provider) checkOVA(ctx context.Context, s *Settings) error {
	file, _, err := p.ovaFile(ctx, s)
	if err == nil {
		_, err = openOVA(file)
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no file %s: %w", file, providers.ErrNotFound)
	}
	return err
}

// checkDRS looks whether a rule to keep hosts apart would have any effect.
func (c *client) checkDRS(ctx context.Context, compute entry) error {
	found, err := c.lookOne(ctx, compute.ref, "configurationEx")
	if err != nil {
		return err
	}
	config, is := found.props["configurationEx"].(types.ClusterConfigInfoEx)
	if is && (config.DrsConfig.Enabled == nil || !*config.DrsConfig.Enabled) {
		return fmt.Errorf("`anti_affinity` has no effect: DRS is off in compute cluster %s: %w", compute.name, providers.ErrInvalid)
	}
	return nil
}

// privileges notes which privileges are needed on the objects of a place.
func (at place) privileges(
	inv *inventory, by map[target][]string, template *types.ManagedObjectReference, need map[types.ManagedObjectReference][]string,
) {
	note := func(ref types.ManagedObjectReference, on ...target) {
		for _, each := range on {
			if ref.Value != "" && len(by[each]) > 0 {
				need[ref] = append(need[ref], by[each]...)
			}
		}
	}
	if at.folder != nil {
		note(*at.folder, onFolder)
	} else {
		note(inv.vmFolder, onDatacenter, onFolder) // muster's folder inherits what is granted here
	}
	note(at.pool, onPool)
	if at.compute.ref.Type == "ClusterComputeResource" {
		note(at.compute.ref, onCluster)
	}
	if at.datastore != nil {
		note(at.datastore.ref, onDatastore)
	}
	for _, n := range at.networks {
		note(n.ref, onNetwork)
	}
	if template != nil {
		note(*template, onTemplate)
		unneeded := "VirtualMachine.Provisioning.DeployTemplate"
		if e, _ := inv.get(*template); e.flag("config.template") {
			unneeded = "VirtualMachine.Provisioning.Clone"
		}
		need[*template] = slices.DeleteFunc(need[*template], func(p string) bool { return p == unneeded })
	}
}

// checkPrivileges asks in one call what the session may do.
func (p *Provider) checkPrivileges(ctx context.Context, c *client, inv *inventory, need map[types.ManagedObjectReference][]string) error {
	if len(need) == 0 || c.ServiceContent.AuthorizationManager == nil {
		return nil
	}
	key, err := c.sessionKey(ctx)
	if err != nil {
		return err
	}
	entities, privileges := privilegeUnion(need)
	res, err := methods.HasPrivilegeOnEntities(ctx, c, &types.HasPrivilegeOnEntities{
		This: *c.ServiceContent.AuthorizationManager, Entity: entities, SessionId: key, PrivId: privileges,
	})
	if isFault[types.BaseNoPermission](err) {
		p.log.WarnContext(ctx, "the user may not ask for its own privileges, so nobody knows whether they suffice", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot ask for the user's privileges: %w", err)
	}
	lines := lacking(res.Returnval, need, func(ref types.ManagedObjectReference) string {
		if e, ok := inv.get(ref); ok {
			return fmt.Sprintf("%s %s", e.kind, e.path)
		}
		return ref.Type + " " + ref.Value
	})
	if len(lines) > 0 {
		return fmt.Errorf("the user may not do everything that making hosts takes; grant a role, see providers/vsphere/PRIVILEGES.md: %s: %w",
			strings.Join(lines, "; "), providers.ErrAuth)
	}
	return nil
}
