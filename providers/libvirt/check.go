package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/musterhq/muster/providers"
)

// Check looks whether the daemon answers, whether it has the pool, the network, the firmware and the images that it is
// not given by muster, and whether the files that muster uploads are there and are what they should be.
func (p *Provider) Check(ctx context.Context, settings []any) error {
	return p.session(ctx, func(ctx context.Context, c *client) error {
		m, err := p.machine(ctx, c, false)
		if err != nil {
			return err
		}
		pool, found, err := c.findPool(p.config)
		switch {
		case err != nil:
			return err
		case found:
			err = c.checkPool(pool)
		case !path.IsAbs(p.config.Pool):
			_, err = c.makePool(p.config.Pool) // says what there is to do
		}
		errs := []error{err, c.checkNetwork(p)}
		for _, each := range settings {
			s, err := settingsOf(each)
			if err == nil {
				err = errors.Join(m.checkFirmware(s.Firmware), c.checkImages(ctx, p, pool, found, s))
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// checkNetwork looks whether a network that muster does not make is there and runs.
func (c *client) checkNetwork(p *Provider) error {
	name := p.config.Network.Name
	if name == "" {
		return nil // a bridge is seen when a domain starts
	}
	handle, err := c.NetworkLookupByName(name)
	if gone(err) {
		return fmt.Errorf("there is no network %s, set `network.name` to one of `virsh net-list --all`: %w", name, providers.ErrNotFound)
	}
	if err != nil {
		return err
	}
	active, err := c.NetworkIsActive(handle)
	if err == nil && active == 0 {
		err = fmt.Errorf("network %s is not active, run `virsh net-start %s`: %w", name, name, providers.ErrInvalid)
	}
	return err
}

func (c *client) checkImages(ctx context.Context, p *Provider, pool golibvirt.StoragePool, hasPool bool, s *Settings) error {
	_, err := p.cmdline(*s)
	errs := []error{err}
	for source, want := range map[string]string{s.Image: s.SHA256, s.Kernel: "", s.Initrd: ""} {
		switch {
		case source == "":
		case isPath(source):
			errs = append(errs, c.checkFile(ctx, p, pool, hasPool, source, want))
		case !hasPool:
			errs = append(errs, fmt.Errorf("there is no volume %s, write ./%s for a file: %w", source, source, providers.ErrNotFound))
		default:
			_, err := c.namedVolume(pool, source)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checkFile looks whether a file can be uploaded, or need not be any more.
func (c *client) checkFile(ctx context.Context, p *Provider, pool golibvirt.StoragePool, hasPool bool, source, want string) error {
	if want != "" && hasPool {
		if _, found, err := c.uploaded(pool, want); err != nil || found {
			return err
		}
	}
	path := p.file(source)
	file, err := openImage(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if _, err := wholeImage(file); err != nil || want == "" {
		return err
	}
	actual, err := p.files.sum(ctx, path)
	if err == nil && actual != want {
		err = fmt.Errorf("%s has the SHA-256 %s, not %s: %w", path, actual, want, providers.ErrInvalid)
	}
	return err
}
