package openstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	storage "github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/limits"
	compute "github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"

	"github.com/musterhq/muster/providers"
)

// demand is what hosts take of what there is a quota of, or so many of.
type demand struct {
	instances, cores, ram int            // of Nova; MiB
	ports, floating       int            // of Neutron
	volumes, gigabytes    int            // of Cinder
	members               map[string]int // hosts by server group
	nodes                 map[string]int // hosts by resource class
}

func (d *demand) add(other demand) {
	d.instances += other.instances
	d.cores += other.cores
	d.ram += other.ram
	d.ports += other.ports
	d.floating += other.floating
	d.volumes += other.volumes
	d.gigabytes += other.gigabytes
	d.members, d.nodes = sum(d.members, other.members), sum(d.nodes, other.nodes)
}

func sum(a, b map[string]int) map[string]int {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]int{}
	}
	for key, n := range b {
		all[key] += n
	}
	return all
}

// demandOf is what a host takes.
func demandOf(settings Settings, flavor named, networks int) demand {
	d := demand{ports: networks}
	if settings.FloatingIP != "" {
		d.floating = 1
	}
	if settings.direct() {
		if settings.Node == "" {
			d.nodes = map[string]int{settings.ResourceClass: 1}
		}
		return d
	}
	d.instances, d.cores, d.ram = 1, flavor.cpus, flavor.ram
	if settings.BootVolume != nil {
		d.volumes, d.gigabytes = 1, settings.BootVolume.Size
	}
	if settings.ServerGroup != "" {
		d.members = map[string]int{settings.ServerGroup: 1}
	}
	return d
}

// checkQuotas looks whether quotas have room, of the services of which the hosts take something.
func (s *session) checkQuotas(ctx context.Context, d demand) error {
	var errs []error
	if d.instances > 0 {
		errs = append(errs, s.checkCompute(ctx, d))
	}
	if d.ports > 0 {
		errs = append(errs, s.checkNetwork(ctx, d))
	}
	if d.volumes > 0 && s.volume != nil {
		errs = append(errs, s.checkStorage(ctx, d))
	}
	for _, class := range slices.Sorted(maps.Keys(d.nodes)) {
		errs = append(errs, s.checkClass(ctx, class, d.nodes[class]))
	}
	return errors.Join(errs...)
}

func (s *session) checkCompute(ctx context.Context, d demand) error {
	result, err := compute.Get(ctx, s.compute, nil).Extract()
	if err != nil {
		return classified(ctx, err)
	}
	nova := result.Absolute
	errs := []error{
		room("instances", d.instances, nova.TotalInstancesUsed, nova.MaxTotalInstances),
		room("cores", d.cores, nova.TotalCoresUsed, nova.MaxTotalCores),
		room("ram", d.ram, nova.TotalRAMUsed, nova.MaxTotalRAMSize),
	}
	for _, group := range slices.Sorted(maps.Keys(d.members)) {
		errs = append(errs, room("server-group-members", d.members[group], 0, nova.MaxServerGroupMembers))
	}
	return errors.Join(errs...)
}

// checkNetwork looks at Neutron's quotas. Some clouds do not let members see them.
func (s *session) checkNetwork(ctx context.Context, d demand) error {
	neutron, err := quotas.GetDetail(ctx, s.network, s.project).Extract()
	err = classified(ctx, err)
	switch {
	case hasStatus(err, http.StatusForbidden), hasStatus(err, http.StatusNotFound):
		return nil
	case err != nil:
		return err
	}
	return errors.Join(
		room("ports", d.ports, neutron.Port.Used+neutron.Port.Reserved, neutron.Port.Limit),
		room("floating-ips", d.floating, neutron.FloatingIP.Used+neutron.FloatingIP.Reserved, neutron.FloatingIP.Limit),
	)
}

func (s *session) checkStorage(ctx context.Context, d demand) error {
	result, err := storage.Get(ctx, s.volume).Extract()
	if err != nil {
		return classified(ctx, err)
	}
	cinder := result.Absolute
	return errors.Join(
		room("volumes", d.volumes, cinder.TotalVolumesUsed, cinder.MaxTotalVolumes),
		room("gigabytes", d.gigabytes, cinder.TotalGigabytesUsed, cinder.MaxTotalVolumeGigabytes),
	)
}

// room tells whether a quota has room for more. It has no limit when that is negative.
func room(name string, wanted, used, limit int) error {
	if limit < 0 || wanted == 0 || used+wanted <= limit {
		return nil
	}
	return fmt.Errorf("%d %s are needed and %d of %d are free; end something or ask for `openstack quota set --%s %d`: %w",
		wanted, name, max(limit-used, 0), limit, name, used+wanted, providers.ErrQuota)
}
