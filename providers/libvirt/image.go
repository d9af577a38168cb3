package libvirt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/musterhq/muster/providers"
)

// image is a volume that hosts boot from.
type image struct {
	path    string // at the hypervisor
	format  string
	virtual uint64 // bytes of the disk
	sum     string // "" for a volume that somebody else made
}

// ensureImage finds the volume of an image, and uploads it when it is a file that the pool does not have. An upload that
// was cut short is begun again; one that somebody else has under way is awaited. The volume counts when its marker is
// there, which is made last.
func (c *client) ensureImage(ctx context.Context, p *Provider, pool golibvirt.StoragePool, source, want string) (image, error) {
	if !isPath(source) {
		volume, err := c.namedVolume(pool, source)
		if err != nil {
			return image{}, err
		}
		sum, _ := uploadedSum(source)
		return c.look(volume, sum)
	}
	path := p.file(source)
	sum, err := want, error(nil)
	if sum == "" {
		if sum, err = p.files.sum(ctx, path); err != nil {
			return image{}, err
		}
	}
	unlock, err := p.shared.Lock(ctx, "image "+sum)
	if err != nil {
		return image{}, err
	}
	defer unlock()
	volume, err := c.ensureUploaded(ctx, pool, sum, func() error { return c.uploadFile(ctx, p, pool, path, sum) })
	if err != nil {
		return image{}, fmt.Errorf("upload of %s: %w", source, err)
	}
	return c.look(volume, sum)
}

// namedVolume finds the volume that settings name. An uploaded image must be there whole.
func (c *client) namedVolume(pool golibvirt.StoragePool, name string) (golibvirt.StorageVol, error) {
	if sum, ok := uploadedSum(name); ok {
		volume, whole, err := c.uploaded(pool, sum)
		if err == nil && !whole {
			err = fmt.Errorf("pool %s has no image %s, or a part of it; upload it with `muster image upload`: %w",
				pool.Name, name, providers.ErrNotFound)
		}
		return volume, err
	}
	volume, found, err := c.findVolume(pool, name)
	if err == nil && !found {
		err = fmt.Errorf("pool %s has no volume %s; write ./%s for a file: %w", pool.Name, name, name, providers.ErrNotFound)
	}
	return volume, err
}

// look reads what a volume is.
func (c *client) look(volume golibvirt.StorageVol, sum string) (image, error) {
	data, err := c.read(volume, headerSize)
	if err != nil {
		return image{}, err
	}
	h := parseHeader(data)
	found := image{format: h.format, virtual: h.virtual, sum: sum}
	if h.format == formatRaw {
		if _, found.virtual, _, err = c.StorageVolGetInfo(volume); err != nil {
			return image{}, err
		}
	}
	found.path, err = c.StorageVolGetPath(volume)
	return found, err
}

// uploadFile uploads a file whose contents are verified before, so that nothing else ever gets its name, and while they
// are read.
func (c *client) uploadFile(ctx context.Context, p *Provider, pool golibvirt.StoragePool, path, sum string) error {
	actual, err := p.files.sum(ctx, path)
	if err != nil {
		return err
	}
	if actual != sum {
		return fmt.Errorf("%s has the SHA-256 %s, not %s: %w", path, actual, sum, providers.ErrInvalid)
	}
	return c.send(ctx, p, pool, sending{path: path, sum: sum})
}

// wholeImage is the size of an image file, which must not need another one.
func wholeImage(file *os.File) (uint64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	data := make([]byte, headerSize)
	n, err := file.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return uint64(info.Size()), checkHeader(file.Name(), parseHeader(data[:n]))
}

// fileSums remembers the sums of files that have not changed. The zero value knows none.
type fileSums struct {
	mu    sync.Mutex
	known map[string]fileSum
}

type fileSum struct {
	size     int64
	modified time.Time
	sum      string
}

// sum is the SHA-256 of a file. One caller at a time reads.
func (f *fileSums) sum(ctx context.Context, path string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := openImage(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if known, ok := f.known[path]; ok && known.size == info.Size() && known.modified.Equal(info.ModTime()) {
		return known.sum, nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, contextReader{ctx, file}); err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, err)
	}
	if f.known == nil {
		f.known = map[string]fileSum{}
	}
	f.known[path] = fileSum{info.Size(), info.ModTime(), hex.EncodeToString(hash.Sum(nil))}
	return f.known[path].sum, nil
}

// openImage opens the file of an image.
func openImage(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s: %w", path, providers.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, providers.ErrInvalid)
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a file: %w", path, providers.ErrInvalid), file.Close())
	}
	return file, nil
}

// maxCmdline is the longest command line that a kernel takes, in bytes (COMMAND_LINE_SIZE of x86 and arm64).
const maxCmdline = 2048

// cmdline is the kernel command line of hosts with these settings.
func (p *Provider) cmdline(s Settings) (_ string, err error) {
	if s.CmdlineFile == "" {
		return s.Cmdline, nil
	}
	file, err := openImage(p.file(s.CmdlineFile))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	text, err := io.ReadAll(io.LimitReader(file, maxCmdline+1))
	line := strings.TrimSpace(string(text))
	if err == nil && (len(text) > maxCmdline || strings.ContainsFunc(line, unicode.IsControl)) {
		err = fmt.Errorf("%s is not one line of at most %d bytes: %w", file.Name(), maxCmdline, providers.ErrInvalid)
	}
	return line, err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(data []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(data)
}

// isUsedBy tells whether the text of a domain or a volume names a path. A path that only begins like it counts too,
// which at worst keeps an image.
func isUsedBy(text, path string) bool { return strings.Contains(text, path) }
