package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/providers"
)

// Create makes a host's volumes and its domain, and starts it. What a crash left half-made is completed.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (made providers.Instance, err error) {
	if err := req.Validate(); err != nil {
		return providers.Instance{}, err
	}
	settings, err := settingsOf(req.Settings)
	if err != nil {
		return providers.Instance{}, err
	}
	if settings.MAC != "" && p.makesNetwork() {
		return providers.Instance{}, fmt.Errorf("`mac` is for hosts in a network that muster does not make: %w", providers.ErrInvalid)
	}
	unlock, err := p.hosts.Lock(ctx, req.ID())
	if err != nil {
		return providers.Instance{}, err
	}
	defer unlock()
	err = p.change(ctx, func(ctx context.Context, c *client) error {
		made, err = c.create(ctx, p, req, *settings)
		return err
	})
	return made, err
}

// create adopts the domain that there is, or makes it.
func (c *client) create(
	ctx context.Context, p *Provider, req providers.CreateRequest, settings Settings,
) (providers.Instance, error) {
	d, found, err := c.find(p, req.Identity)
	if err == nil && found && d.record.phase == phaseEnding {
		found, err = false, c.remove(ctx, p, req.Identity) // to the end, before it is made anew
	}
	if err == nil && (!found || d.record.phase == phaseMaking && !d.active()) {
		if err = c.build(ctx, p, req, settings); err == nil {
			d, found, err = c.find(p, req.Identity)
		}
	}
	if err == nil && !found {
		err = fmt.Errorf("somebody else removed the domain: %w", providers.ErrConflict)
	}
	if err == nil && d.record.phase == phaseMaking {
		err = c.setPhase(&d, phaseLaunched)
	}
	if err != nil {
		return providers.Instance{}, err
	}
	list, err := c.instances(ctx, p, req.Cluster, []domain{d})
	if err != nil {
		return providers.Instance{}, err
	}
	return list[0], nil
}

// build makes whatever of a host is not there and starts it.
func (c *client) build(ctx context.Context, p *Provider, req providers.CreateRequest, settings Settings) error {
	o := p.owner(req.Cluster)
	g := guest{id: req.Identity, settings: settings, record: recordOf(req.Identity, p.name, p.now())}
	var err error
	if g.machine, err = p.machine(ctx, c, true); err == nil {
		err = g.machine.checkFirmware(settings.Firmware)
	}
	if err != nil {
		return err
	}
	pool, err := c.ensurePool(ctx, p)
	if err != nil {
		return err
	}
	if err := c.removeForgotten(ctx, p, pool, req.Identity); err != nil {
		return err
	}
	if g.settings.Cmdline, err = p.cmdline(settings); err != nil {
		return err
	}
	var base image
	var address netip.Addr
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		base, err = c.ensureImages(bothCtx, p, pool, settings, &g.disks)
		return err
	})
	both.Go(func() (err error) {
		g.plug, address, err = c.connect(bothCtx, p, o, req.Identity, settings)
		return err
	})
	if err := both.Wait(); err != nil {
		return err
	}
	if err := c.makeVolumes(ctx, p, pool, &g, base, req.UserData, address); err != nil {
		return err
	}
	return c.launch(p, g)
}

// ensureImages finds or uploads what a host boots from, and writes where it is into to.
func (c *client) ensureImages(
	ctx context.Context, p *Provider, pool golibvirt.StoragePool, settings Settings, to *disks,
) (image, error) {
	var disk, kernel, initrd image
	all, ctx := errgroup.WithContext(ctx)
	for _, file := range []struct {
		source, want string
		found        *image
	}{{settings.Image, settings.SHA256, &disk}, {settings.Kernel, "", &kernel}, {settings.Initrd, "", &initrd}} {
		if file.source == "" {
			continue
		}
		all.Go(func() (err error) {
			*file.found, err = c.ensureImage(ctx, p, pool, file.source, file.want)
			return err
		})
	}
	err := all.Wait()
	to.kernel, to.initrd = kernel.path, initrd.path
	return disk, err
}

// connect reserves the host's address, where muster has the say, and tells where its interface is put.
func (c *client) connect(
	ctx context.Context, p *Provider, o owner, id providers.Identity, settings Settings,
) (plug, netip.Addr, error) {
	at := plug{network: p.config.Network.Name, bridge: p.config.Network.Bridge, mac: macOf(id)}
	if settings.MAC != "" {
		at.mac = strings.ToLower(settings.MAC)
	}
	if !p.makesNetwork() {
		return at, netip.Addr{}, nil
	}
	n, address, err := c.reserve(ctx, p, o, id.Host, at.mac)
	at.network = n.handle.Name
	if err == nil {
		err = p.step("reserved")
	}
	return at, address, err
}

// makeVolumes makes a host's disk, seed and console log.
func (c *client) makeVolumes(
	ctx context.Context, p *Provider, pool golibvirt.StoragePool, g *guest, base image, userData []byte, address netip.Addr,
) error {
	names := p.owner(g.id.Cluster).volumes(g.id)
	disk, err := c.makeClone(ctx, pool, names.disk, base, uint64(g.settings.Disk))
	if err != nil {
		return c.cloneError(pool, base, err)
	}
	// Whoever removes an image takes its marker first and then looks for clones: one of us sees the other.
	if base.sum != "" {
		if _, there, err := c.uploaded(pool, base.sum); err != nil || !there {
			return errors.Join(err, fmt.Errorf("the image was removed meanwhile: %w", providers.ErrUnavailable))
		}
	}
	if err := p.step("cloned"); err != nil {
		return err
	}
	seed, err := seedImage(g.id, userData, address)
	if err != nil {
		return err
	}
	seedVolume, err := c.writeSmall(ctx, pool, names.seed, seed)
	if err != nil {
		return err
	}
	console, _, err := c.makeVolume(pool, volumeSpec{name: names.console, format: formatRaw, mode: "0600"})
	if err != nil {
		return err
	}
	for _, volume := range []struct {
		handle golibvirt.StorageVol
		path   *string
	}{{disk, &g.disks.disk}, {seedVolume, &g.disks.seed}, {console, &g.disks.console}} {
		if *volume.path, err = c.StorageVolGetPath(volume.handle); err != nil {
			return err
		}
	}
	return p.step("volumes")
}

// cloneError tells a clone that failed because its image went meanwhile, which is worth another try.
func (c *client) cloneError(pool golibvirt.StoragePool, base image, err error) error {
	if base.sum != "" {
		if _, there, lookErr := c.uploaded(pool, base.sum); lookErr == nil && !there {
			return fmt.Errorf("the image was removed meanwhile: %w: %w", err, providers.ErrUnavailable)
		}
	}
	return err
}

// launch defines and starts a domain.
func (c *client) launch(p *Provider, g guest) error {
	text, err := domainXML(g)
	if err != nil {
		return err
	}
	handle, err := c.DomainDefineXMLFlags(text, golibvirt.DomainDefineValidate)
	if err == nil {
		err = p.step("defined")
	}
	if err == nil && g.settings.Autostart {
		err = c.DomainSetAutostart(handle, 1)
	}
	if err == nil {
		err = c.start(handle)
	}
	if err == nil {
		err = p.step("started")
	}
	return err
}

// start starts a domain unless it runs.
func (c *client) start(handle golibvirt.Domain) error {
	_, err := c.DomainCreateWithFlags(handle, 0)
	if says(err, "domain is already running") {
		return nil
	}
	return err
}

// Start powers a host on, or lets one that is paused go on.
func (p *Provider) Start(ctx context.Context, instance providers.Instance) error {
	unlock, err := p.hosts.Lock(ctx, instance.Identity.ID())
	if err != nil {
		return err
	}
	defer unlock()
	return p.change(ctx, func(ctx context.Context, c *client) error {
		d, found, err := c.find(p, instance.Identity)
		if err == nil && (!found || d.record.phase != phaseLaunched) {
			err = fmt.Errorf("there is no domain %s: %w", domainName(instance.Identity), providers.ErrNotFound)
		}
		if err != nil {
			return err
		}
		return c.resume(ctx, p, d)
	})
}

// resume does what a domain's state needs for it to run.
func (c *client) resume(ctx context.Context, p *Provider, d domain) error {
	switch d.state {
	case golibvirt.DomainRunning, golibvirt.DomainBlocked, golibvirt.DomainShutdown:
		return nil
	case golibvirt.DomainPaused:
		return c.DomainResume(d.handle)
	case golibvirt.DomainPmsuspended:
		return c.DomainPmWakeup(d.handle, 0)
	}
	if _, err := c.ensurePool(ctx, p); err != nil {
		return err
	}
	if p.makesNetwork() {
		if _, _, err := c.reserve(ctx, p, p.owner(d.id.Cluster), d.id.Host, macOf(d.id)); err != nil {
			return err
		}
	}
	return c.start(d.handle)
}
