package libvirt

import (
	"context"
	"fmt"
	"io"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/musterhq/muster/providers"
)

// consolePause is the time between two looks at a console that is followed.
const consolePause = 300 * time.Millisecond

// Console writes what a host has said on its serial console. The log is a volume of the pool, so that it is read through
// the daemon; virtlogd begins it anew when it is 2 MiB long (max_size in virtlogd.conf).
func (p *Provider) Console(ctx context.Context, instance providers.Instance, follow bool, w io.Writer) error {
	return p.session(ctx, func(ctx context.Context, c *client) error {
		volume, err := c.consoleVolume(p, instance.Identity)
		if err != nil {
			return err
		}
		tail := &tail{client: c, volume: volume, to: w}
		for {
			if err := tail.more(); err != nil || !follow {
				return err
			}
			if err := providers.Pause(ctx, consolePause); err != nil {
				return err
			}
			if _, found, err := c.find(p, instance.Identity); err != nil || !found {
				return err
			}
		}
	})
}

func (c *client) consoleVolume(p *Provider, id providers.Identity) (volume golibvirt.StorageVol, err error) {
	pool, found, err := c.findPool(p.config)
	if err == nil && found {
		volume, found, err = c.findVolume(pool, p.owner(id.Cluster).volumes(id).console)
	}
	if err == nil && !found {
		err = fmt.Errorf("host %s has no console log: %w", id.Host, providers.ErrNotFound)
	}
	return volume, err
}

// tail reads a volume that grows.
type tail struct {
	client *client
	volume golibvirt.StorageVol
	offset uint64
	to     io.Writer
}

// more writes what came since the last time.
func (t *tail) more() error {
	_, size, _, err := t.client.StorageVolGetInfo(t.volume)
	if err != nil {
		return ignoreGone(err)
	}
	if size < t.offset {
		t.offset = 0 // a new log
	}
	if size == t.offset {
		return nil
	}
	sink := &absorb{write: func(data []byte) error {
		n, err := t.to.Write(data)
		t.offset += uint64(n)
		return err
	}}
	if err := t.client.StorageVolDownload(t.volume, sink, t.offset, size-t.offset, 0); err != nil {
		return ignoreGone(err)
	}
	return sink.err
}
