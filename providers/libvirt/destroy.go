package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/musterhq/muster/providers"
)

// Destroy ends a host and removes its volumes, its reservation and, at last, its domain.
func (p *Provider) Destroy(ctx context.Context, instance providers.Instance) error {
	if err := instance.Identity.Validate(); err != nil {
		return err
	}
	unlock, err := p.hosts.Lock(ctx, instance.Identity.ID())
	if err != nil {
		return err
	}
	defer unlock()
	return p.change(ctx, func(ctx context.Context, c *client) error { return c.remove(ctx, p, instance.Identity) })
}

// remove removes everything of a host, of which some may be gone.
func (c *client) remove(ctx context.Context, p *Provider, id providers.Identity) error {
	d, found, err := c.find(p, id)
	if err != nil {
		return err
	}
	if found {
		if err := c.powerOff(ctx, p, &d); err != nil {
			return err
		}
	}
	pool, poolFound, err := c.findPool(p.config)
	if err != nil {
		return err
	}
	o := p.owner(id.Cluster)
	if poolFound {
		if err := c.removeVolumes(ctx, pool, o.volumes(id)); err != nil {
			return err
		}
	}
	if err := p.step("emptied"); err != nil {
		return err
	}
	if p.makesNetwork() {
		if err := c.release(ctx, p, o, macOf(id)); err != nil {
			return err
		}
	}
	if found {
		return c.undefine(d)
	}
	return nil
}

// removeForgotten removes what is left of a host's earlier generations whose domains somebody else removed: their room and
// their addresses are free again.
func (c *client) removeForgotten(ctx context.Context, p *Provider, pool golibvirt.StoragePool, id providers.Identity) error {
	if id.Generation == 1 {
		return nil
	}
	list, _, err := c.StoragePoolListAllVolumes(pool, 1, 0)
	if err != nil {
		return err
	}
	looked := map[int]bool{}
	for _, volume := range list {
		earlier, ok := p.owner(id.Cluster).earlier(volume.Name, id)
		if !ok || looked[earlier.Generation] {
			continue
		}
		looked[earlier.Generation] = true
		_, found, err := c.find(p, earlier)
		if err == nil && !found {
			p.log.InfoContext(ctx, "remove what is left of a host whose domain is gone", "host", id.Host, "generation", earlier.Generation)
			err = c.remove(ctx, p, earlier)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// powerOff says in the domain's metadata that it ends and ends it: politely, and after the grace time by force.
func (c *client) powerOff(ctx context.Context, p *Provider, d *domain) error {
	if d.record.phase != phaseEnding {
		if err := c.setPhase(d, phaseEnding); err != nil {
			return ignoreGone(err)
		}
		if err := p.step("ending"); err != nil {
			return err
		}
	}
	// It may have been started by the daemon since; a domain that ends stays off.
	if err := c.DomainSetAutostart(d.handle, 0); err != nil {
		return ignoreGone(err)
	}
	if p.config.Grace > 0 && (d.state == golibvirt.DomainRunning || d.state == golibvirt.DomainBlocked) {
		if err := c.shutDown(ctx, d.handle, p.config.Grace); err != nil {
			return err
		}
	}
	err := c.DomainDestroyFlags(d.handle, golibvirt.DomainDestroyDefault)
	if says(err, "domain is not running") {
		return nil
	}
	return ignoreGone(err)
}

// shutdownPause is the time between two looks at a domain that is to shut down.
const shutdownPause = 100 * time.Millisecond

// shutDown presses the power button and waits.
func (c *client) shutDown(ctx context.Context, handle golibvirt.Domain, grace time.Duration) error {
	if err := c.DomainShutdownFlags(handle, golibvirt.DomainShutdownAcpiPowerBtn); err != nil {
		return nil // it is not running, or cannot be asked
	}
	for began := time.Now(); time.Since(began) < grace; {
		state, _, err := c.DomainGetState(handle, 0)
		if err != nil || golibvirt.DomainState(state) == golibvirt.DomainShutoff {
			return ignoreGone(err)
		}
		if err := providers.Pause(ctx, shutdownPause); err != nil {
			return err
		}
	}
	return nil
}

// undefine removes a domain with everything that the daemon keeps for it.
func (c *client) undefine(d domain) error {
	return ignoreGone(c.DomainUndefineFlags(d.handle, golibvirt.DomainUndefineManagedSave|golibvirt.DomainUndefineSnapshotsMetadata|
		golibvirt.DomainUndefineCheckpointsMetadata|golibvirt.DomainUndefineNvram))
}

// removeVolumes removes a host's volumes. The pool may not know yet of old console logs, which the daemon does not make
// itself; what an upload under way keeps from being seen is left to Cleanup.
func (c *client) removeVolumes(ctx context.Context, pool golibvirt.StoragePool, names volumes) error {
	active, err := c.StoragePoolIsActive(pool)
	if err != nil || active == 0 {
		return err
	}
	if err := c.StoragePoolRefresh(pool, 0); err != nil && !says(err, "has asynchronous jobs running") {
		return err
	}
	for _, name := range names.all() {
		if err := c.deleteVolume(ctx, pool, name); err != nil {
			return err
		}
	}
	return nil
}

// Cleanup removes half-made hosts of the cluster, its network, and the images that the operator did not upload and nothing
// in the pool uses.
func (p *Provider) Cleanup(ctx context.Context, cluster string) error {
	return p.change(ctx, func(ctx context.Context, c *client) error {
		o := p.owner(cluster)
		if err := c.removeHalfMade(ctx, p, o); err != nil {
			return err
		}
		if err := c.removeNetwork(o); err != nil {
			return err
		}
		pool, found, err := c.findPool(p.config)
		if err != nil || !found {
			return err
		}
		return c.cleanPool(ctx, p, pool, o)
	})
}

// removeHalfMade removes domains that never became hosts or that were being destroyed. A host is a mistake of the caller.
func (c *client) removeHalfMade(ctx context.Context, p *Provider, o owner) error {
	all, err := c.domains()
	if err != nil {
		return err
	}
	for _, d := range all {
		if !d.ours(o) {
			continue
		}
		if d.record.phase == phaseLaunched {
			return fmt.Errorf("host %s is still there: destroy it first: %w", d.id.Host, providers.ErrConflict)
		}
		if err := c.remove(ctx, p, d.id); err != nil {
			return err
		}
	}
	return nil
}

// cleanPool removes the owner's volumes and images without users, and the pool when it is ours and empty.
func (c *client) cleanPool(ctx context.Context, p *Provider, pool golibvirt.StoragePool, o owner) error {
	active, err := c.StoragePoolIsActive(pool)
	if err == nil && active == 1 {
		err = c.refreshPool(ctx, pool)
	}
	var list []golibvirt.StorageVol
	if err == nil && active == 1 {
		list, _, err = c.StoragePoolListAllVolumes(pool, 1, 0)
	}
	if err != nil {
		return ignoreGone(err)
	}
	for _, volume := range list {
		if strings.HasPrefix(volume.Name, o.volumePrefix()) {
			err = errors.Join(err, c.deleteVolume(ctx, pool, volume.Name))
		}
	}
	if err == nil {
		err = c.removeImages(ctx, pool, list)
	}
	if err == nil {
		err = c.removePool(pool)
	}
	return err
}

// removeImages removes uploaded images that nobody keeps and no domain and no other volume uses.
func (c *client) removeImages(ctx context.Context, pool golibvirt.StoragePool, list []golibvirt.StorageVol) error {
	for _, volume := range list {
		sum, isImage := uploadedSum(strings.TrimSuffix(volume.Name, doneSuffix))
		if !isImage {
			continue
		}
		if err := c.removeImage(ctx, pool, sum); err != nil {
			return fmt.Errorf("image %s: %w", sum, err)
		}
	}
	return nil
}

// removeImage takes the marker away first, so that nobody makes a clone without looking again, and then looks for users.
// An image with a user gets it back. One that is being uploaded is somebody's.
func (c *client) removeImage(ctx context.Context, pool golibvirt.StoragePool, sum string) error {
	if used, err := c.imageUsed(pool, sum); err != nil || used {
		return err
	}
	marker := imageName(sum) + doneSuffix
	if err := c.deleteVolume(ctx, pool, marker); err != nil {
		return err
	}
	used, err := c.imageUsed(pool, sum)
	if err == nil && used {
		_, _, err = c.makeVolume(pool, volumeSpec{name: marker, format: formatRaw})
		return err
	}
	volume, found, findErr := c.findVolume(pool, imageName(sum))
	if err := errors.Join(err, findErr); err != nil || !found {
		return err
	}
	if err := c.StorageVolDelete(volume, golibvirt.StorageVolDeleteNormal); !busy(err) {
		return ignoreGone(err)
	}
	return nil
}

// imageUsed tells whether the image is kept, or a volume of the pool or any domain names its path.
func (c *client) imageUsed(pool golibvirt.StoragePool, sum string) (bool, error) {
	volumes, _, err := c.StoragePoolListAllVolumes(pool, 1, 0)
	if err != nil {
		return false, err
	}
	for _, volume := range volumes {
		if isKept(volume.Name, sum) {
			return true, nil
		}
		if strings.HasPrefix(volume.Name, imagePrefix) {
			continue // an image stands alone
		}
		text, err := c.StorageVolGetXMLDesc(volume, 0)
		if err = ignoreGone(err); err != nil || isUsedBy(text, imageName(sum)) {
			return err == nil, err
		}
	}
	domains, _, err := c.ConnectListAllDomains(1, 0)
	if err != nil {
		return false, err
	}
	for _, handle := range domains {
		text, err := c.DomainGetXMLDesc(handle, 0)
		if err = ignoreGone(err); err != nil || isUsedBy(text, imageName(sum)) {
			return err == nil, err
		}
	}
	return false, nil
}
