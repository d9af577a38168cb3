package libvirt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/musterhq/muster/providers"
)

// UploadImage uploads an image into the pool and has Cleanup leave it there. The reference is the name of its volume.
func (p *Provider) UploadImage(ctx context.Context, wanted providers.Image, progress func(bytes int64)) (reference string, err error) {
	if err := wanted.Validate(); err != nil {
		return "", err
	}
	unlock, err := p.shared.Lock(ctx, "image "+wanted.SHA256)
	if err != nil {
		return "", err
	}
	defer unlock()
	err = p.change(ctx, func(ctx context.Context, c *client) error {
		pool, err := c.ensurePool(ctx, p)
		if err != nil {
			return err
		}
		return c.keepImage(ctx, p, pool, wanted, progress)
	})
	if err != nil {
		return "", err
	}
	return imageName(wanted.SHA256), nil
}

// keepImage uploads an image that is not there and marks it as kept. A clean-up that looked for the mark too early may
// have removed the image by then, so it looks again.
func (c *client) keepImage(
	ctx context.Context, p *Provider, pool golibvirt.StoragePool, wanted providers.Image, progress func(int64),
) error {
	for {
		_, err := c.ensureUploaded(ctx, pool, wanted.SHA256, func() error {
			return c.send(ctx, p, pool, sending{path: wanted.Path, sum: wanted.SHA256, progress: progress})
		})
		if err != nil {
			return fmt.Errorf("upload of %s: %w", wanted.Path, err)
		}
		if err := p.step("unkept"); err != nil {
			return err
		}
		if _, _, err := c.makeVolume(pool, volumeSpec{name: keptName(wanted), format: formatRaw}); err != nil {
			return err
		}
		if _, there, err := c.uploaded(pool, wanted.SHA256); err != nil || there {
			return err
		}
	}
}

// ensureUploaded finds the volume of an uploaded image, and has it sent when it is not there whole. An upload that
// somebody else has under way is awaited.
func (c *client) ensureUploaded(
	ctx context.Context, pool golibvirt.StoragePool, sum string, send func() error,
) (golibvirt.StorageVol, error) {
	for {
		volume, found, err := c.uploaded(pool, sum)
		if err != nil || found {
			return volume, err
		}
		err = send()
		if busy(err) {
			err = providers.Pause(ctx, busyPause)
		}
		if err != nil {
			return volume, err
		}
	}
}

// uploaded finds an image whose upload was completed.
func (c *client) uploaded(pool golibvirt.StoragePool, sum string) (volume golibvirt.StorageVol, found bool, err error) {
	if _, found, err = c.findVolume(pool, imageName(sum)+doneSuffix); err != nil || !found {
		return volume, false, err
	}
	return c.findVolume(pool, imageName(sum))
}

// sending is a file that becomes an image.
type sending struct {
	path     string
	sum      string
	progress func(bytes int64) // may be nil
}

// send uploads a file, whose contents are verified while they are read, from its beginning, and marks it as whole.
func (c *client) send(ctx context.Context, p *Provider, pool golibvirt.StoragePool, s sending) error {
	file, err := openImage(s.path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	size, err := wholeImage(file)
	if err != nil {
		return err
	}
	volume, empty, err := c.imageVolume(ctx, pool, s.sum, size)
	if err != nil {
		return err
	}
	p.log.InfoContext(ctx, "image upload", "file", s.path, "bytes", size, "pool", pool.Name, "volume", volume.Name)
	if err := p.step("image"); err != nil {
		return err
	}
	if err := c.fill(ctx, pool, filling{s, volume, empty}, file, size); err != nil {
		return err
	}
	if err := p.step("uploaded"); err != nil {
		return err
	}
	_, _, err = c.makeVolume(pool, volumeSpec{name: volume.Name + doneSuffix, format: formatRaw})
	return err
}

// imageVolume makes the volume of an image or finds the one of an upload that was cut short, which is not empty. One of
// another size is of a file that had not the sum that was said.
func (c *client) imageVolume(
	ctx context.Context, pool golibvirt.StoragePool, sum string, size uint64,
) (volume golibvirt.StorageVol, empty bool, err error) {
	spec := volumeSpec{name: imageName(sum), format: formatRaw, capacity: size, mode: "0644"}
	volume, empty, err = c.makeVolume(pool, spec)
	if err != nil || empty {
		return volume, empty, err
	}
	_, capacity, _, err := c.StorageVolGetInfo(volume)
	if err == nil && capacity != size {
		if err = c.deleteVolume(ctx, pool, volume.Name); err == nil {
			volume, empty, err = c.makeVolume(pool, spec)
		}
	}
	return volume, empty, err
}

// filling is an upload and where it goes.
type filling struct {
	sending
	volume golibvirt.StorageVol
	empty  bool // nothing was ever written to the volume
}

// fill writes a file into its volume, which is removed when the file turns out to be another one. The sum is that of all
// the bytes, holes included.
func (c *client) fill(ctx context.Context, pool golibvirt.StoragePool, f filling, file *os.File, size uint64) error {
	hash := sha256.New()
	taken := &counter{tell: f.progress}
	if err := c.upload(f.volume, io.TeeReader(file, io.MultiWriter(hash, taken)), size, f.empty); err != nil {
		if gone(err) {
			return fmt.Errorf("volume %s was removed meanwhile: %w", f.volume.Name, providers.ErrUnavailable)
		}
		return err
	}
	if actual := hex.EncodeToString(hash.Sum(nil)); actual != f.sum {
		err := fmt.Errorf("%s has the SHA-256 %s now, not %s: %w", f.path, actual, f.sum, providers.ErrInvalid)
		return errors.Join(err, c.deleteVolume(ctx, pool, f.volume.Name))
	}
	return nil
}

// counter tells how many bytes were written to it.
type counter struct {
	bytes int64
	tell  func(bytes int64)
}

func (c *counter) Write(data []byte) (int, error) {
	c.bytes += int64(len(data))
	if c.tell != nil {
		c.tell(c.bytes)
	}
	return len(data), nil
}

// isKept tells whether a volume is a mark that keeps an image.
func isKept(volume, sum string) bool { return strings.HasPrefix(volume, imageName(sum)+keptInfix) }
