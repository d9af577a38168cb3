package openstack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/musterhq/muster/providers"
)

// imageProperty is the property of an uploaded image that says what people call it.
const imageProperty = "muster_name"

// slowUpload is how many bytes a second somebody else's upload of the same image is waited for.
const slowUpload = 1 << 20

// imageName is the name of an uploaded image, by which settings name it.
func imageName(sum string) string { return "muster-image-" + sum }

// UploadImage uploads an image into the project. The reference is its name there.
func (p *Provider) UploadImage(ctx context.Context, wanted providers.Image, progress func(bytes int64)) (string, error) {
	if err := wanted.Validate(); err != nil {
		return "", err
	}
	unlock, err := p.shared.Lock(ctx, "image of "+wanted.SHA256)
	if err != nil {
		return "", err
	}
	defer unlock()
	s, err := p.session(ctx)
	if err != nil {
		return "", err
	}
	file, err := openImage(ctx, wanted)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	wait := p.pauses()
	patience := p.config.Settle + time.Duration(file.size/slowUpload)*time.Second
	for began := p.now(); ; {
		image, err := s.ensureImage(ctx, wanted, file.format)
		if err != nil {
			return "", err
		}
		if image.Status == images.ImageStatusActive {
			return imageName(wanted.SHA256), nil
		}
		if image.Status == images.ImageStatusQueued {
			err := s.send(ctx, p, image.ID, file, wanted, progress)
			if err == nil {
				return imageName(wanted.SHA256), nil
			}
			// Somebody else sends it, or took it away again because there were two.
			if !hasStatus(err, http.StatusConflict) && !hasStatus(err, http.StatusNotFound) && !hasStatus(err, http.StatusGone) {
				return "", err
			}
		}
		if p.now().Sub(began) > patience {
			return "", fmt.Errorf("image %s is %s: somebody else sends it, or gave up (`openstack image delete %s`): %w",
				image.ID, image.Status, image.ID, providers.ErrUnavailable)
		}
		if err := wait.wait(ctx); err != nil {
			return "", err
		}
	}
}

// imageFile is a file that becomes an image.
type imageFile struct {
	*os.File
	size   int64
	format string // qcow2 or raw
}

// openImage opens a file that has the sum that it is said to have.
func openImage(ctx context.Context, wanted providers.Image) (imageFile, error) {
	file, err := os.Open(wanted.Path)
	if err != nil {
		class := providers.ErrInvalid
		if errors.Is(err, fs.ErrNotExist) {
			class = providers.ErrNotFound
		}
		return imageFile{}, fmt.Errorf("%w: %w", err, class)
	}
	opened := imageFile{File: file, format: "raw"}
	if err := opened.examine(ctx, wanted); err != nil {
		_ = file.Close()
		return imageFile{}, err
	}
	return opened, nil
}

func (f *imageFile) examine(ctx context.Context, wanted providers.Image) error {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file: %w", wanted.Path, providers.ErrInvalid)
	}
	if err != nil {
		return err
	}
	f.size = info.Size()
	magic := make([]byte, 4)
	if n, _ := f.ReadAt(magic, 0); n == len(magic) && string(magic) == "QFI\xfb" { // docs/interop/qcow2 of QEMU
		f.format = "qcow2"
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, &body{ctx: ctx, from: f.File}); err != nil {
		return err
	}
	return verify(sum, wanted)
}

func verify(sum hash.Hash, wanted providers.Image) error {
	if actual := hex.EncodeToString(sum.Sum(nil)); actual != wanted.SHA256 {
		return fmt.Errorf("%s has the SHA-256 %s, not %s: %w", wanted.Path, actual, wanted.SHA256, providers.ErrInvalid)
	}
	return nil
}

// ensureImage finds the image of a sum, whole or not, or makes it without contents.
func (s *session) ensureImage(ctx context.Context, wanted providers.Image, format string) (images.Image, error) {
	private := images.ImageVisibilityPrivate
	return sole(ctx, func(i images.Image) string { return i.ID },
		func(ctx context.Context) ([]images.Image, error) { return s.uploaded(ctx, wanted.SHA256) },
		func(ctx context.Context) (images.Image, error) {
			made, err := images.Create(ctx, s.image, images.CreateOpts{
				Name: imageName(wanted.SHA256), ContainerFormat: "bare", DiskFormat: format, Visibility: &private,
				Properties: map[string]string{imageProperty: wanted.Name},
			}).Extract()
			if err != nil {
				return images.Image{}, classified(ctx, err)
			}
			return *made, nil
		},
		func(ctx context.Context, i images.Image) error { return s.deleteImage(ctx, i.ID) },
	)
}

// uploaded lists the project's images of a sum: one, or while it is being made more. One that is whole comes alone.
func (s *session) uploaded(ctx context.Context, sum string) ([]images.Image, error) {
	pages, err := images.List(s.image, images.ListOpts{Name: imageName(sum), Owner: s.project, Limit: pageSize}).AllPages(ctx)
	if err != nil {
		return nil, classified(ctx, err)
	}
	list, err := images.ExtractImages(pages)
	if err != nil {
		return nil, classified(ctx, err)
	}
	list = slices.DeleteFunc(list, func(i images.Image) bool {
		return i.Status == images.ImageStatusDeleted || i.Status == images.ImageStatusPendingDelete || i.Status == images.ImageStatusKilled
	})
	if i := slices.IndexFunc(list, func(i images.Image) bool { return i.Status == images.ImageStatusActive }); i >= 0 {
		return list[i : i+1], nil
	}
	return list, nil
}

func (s *session) deleteImage(ctx context.Context, id string) error {
	return ignoreGone(classified(ctx, images.Delete(ctx, s.image, id).ExtractErr()))
}

// imageByID finds nothing when the image is not there, or going.
func (s *session) imageByID(ctx context.Context, id string) (*images.Image, error) {
	found, err := images.Get(ctx, s.image, id).Extract()
	if err = classified(ctx, err); hasStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch found.Status {
	case images.ImageStatusDeleted, images.ImageStatusPendingDelete:
		return nil, nil
	}
	return found, nil
}

// send fills an image. Whatever keeps the file from being sent whole leaves the image without contents; one that Glance
// took for whole all the same is deleted.
func (s *session) send(
	ctx context.Context, p *Provider, id string, file imageFile, wanted providers.Image, progress func(int64),
) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.log.InfoContext(ctx, "image upload", "provider", p.name, "file", wanted.Path, "bytes", file.size, "image", id)
	sum := sha512.New()
	data := &body{ctx: ctx, from: file, wanted: &wanted, size: file.size, sum: sha256.New(), other: sum, progress: progress}
	err := imagedata.Upload(ctx, s.image, id, data).ExtractErr()
	if data.err != nil {
		return data.err
	}
	if err != nil {
		return classified(ctx, err)
	}
	found, err := s.imageByID(ctx, id)
	if err != nil {
		return err
	}
	if found == nil {
		return fmt.Errorf("somebody deleted image %s meanwhile: %w", id, providers.ErrUnavailable)
	}
	algorithm, _ := found.Properties["os_hash_algo"].(string)
	value, _ := found.Properties["os_hash_value"].(string)
	differs := cmp.Or(algorithm, "sha512") == "sha512" && value != "" && value != hex.EncodeToString(sum.Sum(nil))
	if found.SizeBytes != file.size || differs {
		err := s.deleteImage(ctx, id)
		return errors.Join(fmt.Errorf("%d of %d bytes arrived: %w",
			found.SizeBytes, file.size, providers.ErrUnavailable), err)
	}
	return nil
}

// body reads a file and ends with ctx. With wanted it verifies what it reads, and fails before the end of a file that is
// another, so that Glance never sees that end.
type body struct {
	ctx      context.Context
	from     io.Reader
	wanted   *providers.Image
	size     int64
	sum      hash.Hash
	other    hash.Hash
	progress func(int64)

	taken int64
	err   error // why the file was not sent
}

// Read implements io.Reader.
func (b *body) Read(into []byte) (int, error) {
	if err := context.Cause(b.ctx); err != nil {
		return 0, err
	}
	n, err := b.from.Read(into)
	if b.wanted == nil {
		return n, err
	}
	b.taken += int64(n)
	_, _ = b.sum.Write(into[:n])
	_, _ = b.other.Write(into[:n])
	if b.taken >= b.size || err != nil {
		if b.taken != b.size || !errors.Is(err, io.EOF) && err != nil {
			b.err = fmt.Errorf("%s changed while it was read: %w", b.wanted.Path, providers.ErrInvalid)
		} else {
			b.err = verify(b.sum, *b.wanted)
		}
	}
	if b.err != nil {
		return 0, b.err
	}
	if b.progress != nil && n > 0 {
		b.progress(b.taken)
	}
	return n, err
}
