package libvirt

import (
	"context"
	"fmt"
	"path"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/musterhq/muster/providers"
)

// filePools are the types of pools whose volumes are files: only those can hold copy-on-write clones and console logs.
var filePools = map[string]bool{"dir": true, "fs": true, "netfs": true}

// findPool finds the configured pool. A directory's pool is ours, unless somebody else made one of it already.
func (c *client) findPool(config Config) (pool golibvirt.StoragePool, found bool, err error) {
	if !path.IsAbs(config.Pool) {
		pool, err = c.StoragePoolLookupByName(config.Pool)
		return pool, err == nil, ignoreGone(err)
	}
	pools, _, err := c.ConnectListAllStoragePools(1, 0)
	if err != nil {
		return pool, false, err
	}
	for _, pool := range pools {
		doc, err := c.poolXML(pool)
		switch {
		case gone(err):
			continue // meanwhile
		case err != nil:
			return pool, false, err
		case doc.Target != nil && doc.Target.Path == config.Pool:
			return pool, true, nil
		}
	}
	return golibvirt.StoragePool{}, false, nil
}

func (c *client) poolXML(pool golibvirt.StoragePool) (libvirtxml.StoragePool, error) {
	var doc libvirtxml.StoragePool
	text, err := c.StoragePoolGetXMLDesc(pool, 0)
	if err == nil {
		err = doc.Unmarshal(text)
	}
	return doc, err
}

// checkPool looks whether a pool can be used as it is.
func (c *client) checkPool(pool golibvirt.StoragePool) error {
	doc, err := c.poolXML(pool)
	if err != nil {
		return err
	}
	if !filePools[doc.Type] {
		return fmt.Errorf("pool %s is of type %s, hosts need one of files (dir, fs or netfs): %w",
			pool.Name, doc.Type, providers.ErrInvalid)
	}
	active, err := c.StoragePoolIsActive(pool)
	if err == nil && active == 0 && !isOurs(pool.Name) {
		err = fmt.Errorf("pool %s is not active, run `virsh pool-start %s`: %w", pool.Name, pool.Name, providers.ErrInvalid)
	}
	return err
}

// ensurePool finds the pool, makes it when the configuration names a directory, and starts it when it is ours.
func (c *client) ensurePool(ctx context.Context, p *Provider) (golibvirt.StoragePool, error) {
	unlock, err := p.shared.Lock(ctx, "pool")
	if err != nil {
		return golibvirt.StoragePool{}, err
	}
	defer unlock()
	pool, found, err := c.findPool(p.config)
	if err == nil && !found {
		pool, err = c.makePool(p.config.Pool)
	}
	if err == nil {
		err = c.checkPool(pool)
	}
	if err == nil && isOurs(pool.Name) {
		err = c.startPool(pool)
	}
	return pool, err
}

func (c *client) makePool(dir string) (golibvirt.StoragePool, error) {
	if !path.IsAbs(dir) {
		err := fmt.Errorf("there is no pool %s, set `pool:` to one of `virsh pool-list --all` or to a directory: %w",
			dir, providers.ErrNotFound)
		return golibvirt.StoragePool{}, err
	}
	text, err := poolXML(dir)
	if err != nil {
		return golibvirt.StoragePool{}, err
	}
	return c.StoragePoolDefineXML(text, 0)
}

// poolXML renders the pool of a directory (https://libvirt.org/formatstorage.html).
func poolXML(dir string) (string, error) {
	name, uuid := ownPool(dir)
	doc := libvirtxml.StoragePool{
		Type: "dir", Name: name, UUID: uuidString(uuid),
		Target: &libvirtxml.StoragePoolTarget{Path: dir, Permissions: &libvirtxml.StoragePoolTargetPermissions{Mode: "0711"}},
	}
	return doc.Marshal()
}

// startPool makes the pool's directory, has it started with the daemon, and starts it.
func (c *client) startPool(pool golibvirt.StoragePool) error {
	active, err := c.StoragePoolIsActive(pool)
	if err != nil || active == 1 {
		return err
	}
	err = c.StoragePoolBuild(pool, 0)
	if err == nil {
		err = c.StoragePoolSetAutostart(pool, 1)
	}
	if err == nil {
		err = c.StoragePoolCreate(pool, 0)
	}
	if err != nil && !says(err, "is already active") { // somebody else was faster
		return fmt.Errorf("cannot start pool %s: %w", pool.Name, err)
	}
	return nil
}

const (
	busyPause    = 100 * time.Millisecond // between two tries of something that is in use
	busyPatience = time.Minute            // how long an upload of somebody else may keep a pool from being read anew
)

// refreshPool reads the pool's directory anew, which shows files that the daemon did not make itself.
func (c *client) refreshPool(ctx context.Context, pool golibvirt.StoragePool) error {
	for began := time.Now(); ; {
		err := c.StoragePoolRefresh(pool, 0)
		if !says(err, "has asynchronous jobs running") || time.Since(began) > busyPatience {
			return err
		}
		if err := providers.Pause(ctx, busyPause); err != nil {
			return err
		}
	}
}

// removePool removes our pool and its directory once nothing is in it.
func (c *client) removePool(pool golibvirt.StoragePool) error {
	if !isOurs(pool.Name) {
		return nil
	}
	active, err := c.StoragePoolIsActive(pool)
	if err != nil {
		return ignoreGone(err)
	}
	if active == 1 {
		volumes, _, err := c.StoragePoolListAllVolumes(pool, 1, 0)
		if err != nil || len(volumes) > 0 {
			return ignoreGone(err)
		}
		if err := c.StoragePoolDestroy(pool); err != nil {
			return ignoreGone(err)
		}
	}
	// The directory stays when something is in it that is no volume.
	if err := c.StoragePoolDelete(pool, 0); err != nil && !gone(err) && !hasCode(err, golibvirt.ErrSystemError) {
		return err
	}
	return ignoreGone(c.StoragePoolUndefine(pool))
}
