package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/utils"

	"github.com/musterhq/muster/providers"
)

// Check looks whether the account may make hosts, whether what their settings name is there and fits together, and whether
// the project's quotas have room for all of them.
func (p *Provider) Check(ctx context.Context, settings []any) error {
	s, err := p.session(ctx)
	if err != nil {
		return err
	}
	if s.isReader() {
		return fmt.Errorf("the account has the roles %s on the project, and making hosts needs `member`: %w",
			strings.Join(s.roles, ", "), providers.ErrAuth)
	}
	errs := []error{s.checkVersion(ctx)}
	var all demand
	checked := map[string]demand{} // what each kind of host takes
	for _, each := range settings {
		one, err := settingsOf(each)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		kind := one.kind()
		cost, known := checked[kind]
		if !known {
			cost, err = p.checkHost(ctx, s, *one)
			if errors.Is(err, providers.ErrUnavailable) {
				return err
			}
			errs = append(errs, err)
			checked[kind] = cost
		}
		all.add(cost)
	}
	errs = append(errs, s.checkQuotas(ctx, all))
	return errors.Join(errs...)
}

// checkVersion looks whether Nova speaks the version of its API that is spoken here.
func (s *session) checkVersion(ctx context.Context) error {
	versions, err := utils.GetSupportedMicroversions(ctx, s.compute)
	if err != nil {
		return classified(ctx, err)
	}
	supported, err := versions.IsSupported(computeVersion)
	if err == nil && !supported {
		return fmt.Errorf("the compute service must speak version %s of its API, which came with Stein, and speaks up to %d.%d: %w",
			computeVersion, versions.MaxMajor, versions.MaxMinor, providers.ErrInvalid)
	}
	return err
}

// checkHost looks whether what a host's settings name is there and fits together.
func (p *Provider) checkHost(ctx context.Context, s *session, settings Settings) (demand, error) {
	if settings.direct() {
		return p.checkNode(ctx, s, settings)
	}
	image, imageErr := p.findImage(ctx, s, settings.Image)
	flavor, flavorErr := p.findFlavor(ctx, s, settings.Flavor)
	networks, networkErr := p.findNetworks(ctx, s, settings.Networks)
	errs := []error{imageErr, flavorErr, networkErr}
	if imageErr == nil && flavorErr == nil {
		errs = append(errs, fits(settings, image, flavor))
	}
	if settings.FloatingIP != "" {
		_, err := p.findExternal(ctx, s, settings.FloatingIP)
		errs = append(errs, err)
	}
	for _, name := range settings.SecurityGroups {
		_, err := p.findGroup(ctx, s, name)
		errs = append(errs, err)
	}
	if name := settings.ServerGroup; name != "" && !slices.Contains(policies, name) {
		_, err := p.findServerGroup(ctx, s, name)
		errs = append(errs, err)
	}
	errs = append(errs, p.checkKey(ctx, s, settings.KeyPair), p.checkZones(ctx, s, settings.AvailabilityZones),
		p.checkVolume(ctx, s, settings.BootVolume))
	return demandOf(settings, flavor, len(networks)), errors.Join(errs...)
}

// fits looks whether an image fits into a flavor.
func fits(settings Settings, image, flavor named) error {
	disk, of := flavor.disk, "flavor "+settings.Flavor
	if settings.BootVolume != nil {
		disk, of = settings.BootVolume.Size, "`boot_volume`"
	}
	switch {
	case image.inactive:
		return fmt.Errorf("image %s is not active, so nothing can boot from it: %w", settings.Image, providers.ErrInvalid)
	case image.minRAM > flavor.ram:
		return fmt.Errorf("image %s needs %d MiB of memory, flavor %s has %d: %w",
			settings.Image, image.minRAM, settings.Flavor, flavor.ram, providers.ErrInvalid)
	case image.minDisk > disk && (disk > 0 || settings.BootVolume != nil): // a flavor's disk of 0 is as large as the image
		return fmt.Errorf("image %s needs a disk of %d GiB, %s has %d: %w",
			settings.Image, image.minDisk, of, disk, providers.ErrInvalid)
	}
	return nil
}

// checkVolume looks whether there are volumes, and of the type.
func (p *Provider) checkVolume(ctx context.Context, s *session, volume *Volume) error {
	switch {
	case volume == nil:
		return nil
	case s.volume == nil:
		return fmt.Errorf("`boot_volume`: the catalogue has no block storage%s: %w",
			inRegion(s.region), providers.ErrNotFound)
	case volume.Type == "":
		return nil
	}
	_, err := p.resolve(ctx, s, "volume type", volume.Type, func(ctx context.Context, _ bool) ([]named, error) {
		pages, err := volumetypes.List(s.volume, volumetypes.ListOpts{}).AllPages(ctx)
		if err != nil {
			return nil, classified(ctx, err)
		}
		list, err := volumetypes.ExtractVolumeTypes(pages)
		found := make([]named, len(list))
		for i, each := range list {
			found[i] = named{id: each.ID, name: each.Name}
		}
		return found, classified(ctx, err)
	})
	return err
}

// checkKey looks whether the account has a key pair. Key pairs are the user's, not the project's.
func (p *Provider) checkKey(ctx context.Context, s *session, name string) error {
	if name == "" {
		return nil
	}
	_, err := keypairs.Get(ctx, s.compute, name, nil).Extract()
	if err = classified(ctx, err); hasStatus(err, http.StatusNotFound) {
		return fmt.Errorf("the account has no key pair %s, see `openstack keypair list`: %w", name, providers.ErrNotFound)
	}
	return err
}

func (p *Provider) checkZones(ctx context.Context, s *session, zones []string) error {
	if len(zones) == 0 {
		return nil
	}
	pages, err := availabilityzones.List(s.compute).AllPages(ctx)
	if err != nil {
		return classified(ctx, err)
	}
	list, err := availabilityzones.ExtractAvailabilityZones(pages)
	if err != nil {
		return classified(ctx, err)
	}
	var known []named
	for _, each := range list {
		if each.ZoneState.Available {
			known = append(known, named{id: each.ZoneName, name: each.ZoneName})
		}
	}
	var errs []error
	for _, zone := range zones {
		_, err := choose("availability zone", zone, s.region, known)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
