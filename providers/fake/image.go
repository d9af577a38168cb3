package fake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/musterhq/muster/providers"
)

// Image is an image in the cloud. The cloud keeps no contents.
type Image struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// imagePrefix begins the identifiers of imported images; those with other names have always been there.
const imagePrefix = "img-"

// findImage refuses an image that does not exist.
func (s *state) findImage(image string) error {
	known := slices.ContainsFunc(s.Images, func(i Image) bool { return i.ID == image })
	if image == "missing" || strings.HasPrefix(image, imagePrefix) && !known {
		return fmt.Errorf("image %q: %w", image, providers.ErrNotFound)
	}
	return nil
}

// image asks whether an image exists.
func (c *cloud) image(ctx context.Context, image string) error {
	return c.request(ctx, "image", func(s *state) error { return s.findImage(image) })
}

// imported finds an image by its sum.
func (c *cloud) imported(ctx context.Context, sum string) (found Image, ok bool, err error) {
	err = c.request(ctx, "images", func(s *state) error {
		i := slices.IndexFunc(s.Images, func(i Image) bool { return i.SHA256 == sum })
		if ok = i >= 0; ok {
			found = s.Images[i]
		}
		return nil
	})
	return found, ok, err
}

// importImage makes an image, unless it is there.
func (c *cloud) importImage(ctx context.Context, name, sum string) (made Image, err error) {
	err = c.request(ctx, "import", func(s *state) error {
		call := APICall{Time: c.now(), Name: "import", Host: name}
		defer func() { s.record(call) }()
		if i := slices.IndexFunc(s.Images, func(i Image) bool { return i.SHA256 == sum }); i >= 0 {
			made = s.Images[i]
			return nil
		}
		made = Image{ID: imagePrefix + sum[:12], Name: name, SHA256: sum}
		s.Images, call.Changed = append(s.Images, made), true
		return nil
	})
	return made, err
}

// UploadImage imports an image under an identifier that follows from its sum.
func (p *Provider) UploadImage(ctx context.Context, image providers.Image, progress func(bytes int64)) (string, error) {
	if err := image.Validate(); err != nil {
		return "", err
	}
	found, ok, err := p.cloud.imported(ctx, image.SHA256)
	if err != nil || ok {
		return found.ID, err
	}
	if err := send(image, progress); err != nil {
		return "", err
	}
	found, err = p.cloud.importImage(ctx, image.Name, image.SHA256)
	return found.ID, err
}

// send reads an image's file, which is all that the cloud does with it.
func send(image providers.Image, progress func(bytes int64)) error {
	file, err := os.Open(image.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no file %s: %w", image.Path, providers.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, providers.ErrInvalid)
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w: %w", image.Path, err, providers.ErrInvalid)
	}
	if actual := hex.EncodeToString(hash.Sum(nil)); actual != image.SHA256 {
		return fmt.Errorf("%s has the SHA-256 %s, not %s: %w", image.Path, actual, image.SHA256, providers.ErrInvalid)
	}
	if progress != nil {
		progress(size)
	}
	return nil
}
