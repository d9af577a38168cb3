//go:build lab

package libvirt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/musterhq/muster/providers"
)

// labImage describes a file for an upload.
func labImage(t *testing.T, path string) providers.Image {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return providers.Image{Name: "muster_1", Path: path, SHA256: hex.EncodeToString(sum[:])}
}

// TestHostFromUpload boots a host from the reference of an upload, which is there for the next one when the first and its
// cluster are gone.
func TestHostFromUpload(t *testing.T) {
	p := labProvider(t)
	settings := tinySettings(t)
	uploaded := labImage(t, settings.Image)
	reference, err := p.UploadImage(t.Context(), uploaded, nil)
	if err != nil {
		t.Fatal(err)
	}
	settings.Image = reference
	for range 2 {
		if err := p.Check(t.Context(), []any{settings}); err != nil {
			t.Fatal(err)
		}
		made := labCreate(t, p, "web-1", settings)
		var said bytes.Buffer
		awaitLab(t, "greeting", func() bool {
			said.Reset()
			err := p.Console(t.Context(), made, false, &said)
			return err == nil && strings.Contains(said.String(), greeting)
		})
		if err := errors.Join(p.Destroy(t.Context(), made), p.Cleanup(t.Context(), labCluster)); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	files, err := filepath.Glob(filepath.Join(p.config.Pool, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		left = append(left, strings.TrimPrefix(filepath.Base(file), reference))
	}
	if got := strings.Join(left, " "); got != " .done .kept.muster_1" {
		t.Errorf("in the pool: %q, want the image and its two marks", got)
	}
}

// TestHalfAnImage: what an upload that was cut short left is no image, and a clean-up removes it.
func TestHalfAnImage(t *testing.T) {
	p := labProvider(t)
	settings := tinySettings(t)
	crashUpload(t, p, "uploaded", labImage(t, settings.Image))
	settings.Image = imageName(labImage(t, settings.Image).SHA256)
	for what, err := range map[string]error{
		"check": p.Check(t.Context(), []any{settings}),
		"create": func() error {
			_, err := p.Create(t.Context(), labRequest("web-1", settings))
			return err
		}(),
	} {
		if !errors.Is(err, providers.ErrNotFound) || !strings.Contains(err.Error(), "muster image upload") {
			t.Errorf("%s with half an image: %v", what, err)
		}
	}
	if err := p.Cleanup(t.Context(), labCluster); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, p, labCluster); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestUploadCancelled ends an upload in the middle of the file, and repeats it.
func TestUploadCancelled(t *testing.T) {
	p := labProvider(t)
	path := filepath.Join(t.TempDir(), "large.img")
	writeFile(t, path, bytes.Repeat([]byte("muster"), 8<<20))
	large := labImage(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := p.UploadImage(ctx, large, func(taken int64) {
		if taken > 1<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled upload: %v", err)
	}
	reference, err := p.UploadImage(t.Context(), large, nil)
	if err != nil {
		t.Fatal(err)
	}
	stored(t, p, reference, large)
}

// stored checks that a volume has an image's bytes, and tells how many of them take room on the disk.
func stored(t *testing.T, p *Provider, volume string, wanted providers.Image) (allocated int64) {
	t.Helper()
	path := filepath.Join(p.config.Pool, volume)
	if got := labImage(t, path); got.SHA256 != wanted.SHA256 {
		t.Errorf("the volume has the SHA-256 %s, want %s", got.SHA256, wanted.SHA256)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// TestHolesAreNotWritten uploads an image that is mostly zeros, into an empty volume, and over what another upload left.
func TestHolesAreNotWritten(t *testing.T) {
	p := labProvider(t)
	data := make([]byte, 64<<20+1)
	for _, at := range []int{1 << 20, 40<<20 - 1, 63 << 20} {
		copy(data[at:], bytes.Repeat([]byte("muster"), 1<<15))
	}
	path := filepath.Join(t.TempDir(), "mostly-holes.img")
	writeFile(t, path, data)
	sparse := labImage(t, path)
	reference, err := p.UploadImage(t.Context(), sparse, nil)
	if err != nil {
		t.Fatal(err)
	}
	if took := stored(t, p, reference, sparse); took > 4<<20 {
		t.Errorf("%d bytes are written, of which less than a MiB are data", took)
	}

	with(t, p, func(c *client) error {
		pool, err := c.ensurePool(t.Context(), p)
		if err != nil {
			return err
		}
		if err := c.deleteVolume(t.Context(), pool, reference+doneSuffix); err != nil {
			return err
		}
		volume, _, err := c.findVolume(pool, reference)
		if err != nil {
			return err
		}
		return c.upload(volume, bytes.NewReader(bytes.Repeat([]byte("other"), 8<<20)), 40<<20, false)
	})
	if _, err := p.UploadImage(t.Context(), sparse, nil); err != nil {
		t.Fatal(err)
	}
	stored(t, p, reference, sparse)
}
