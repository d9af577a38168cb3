package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cluster/image"
	"github.com/musterhq/muster/cmd/muster/output"
)

const imageLong = `An image is what hosts boot from. ` + "`make image`" + ` builds muster's own into a directory: a disk image, and beside it a
manifest that says what went into it.

  muster image list image/                          the versions in a directory
  muster image verify image/                        whether their files are what was built
  muster image upload image/ --provider rack        give the latest to a provider`

func (c *cli) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "what hosts boot from: list, verify and upload images",
		Long:  imageLong,
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(c.imageListCommand(), c.imageVerifyCommand(), c.imageUploadCommand())
	return cmd
}

// defaultImages is where `make image` puts what it builds.
const defaultImages = "image"

func (c *cli) imageListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [DIR]",
		Short: "the versions in a directory that `make image` filled",
		Long: `list shows the versions of the image in DIR (image), the oldest first, as their manifests tell. Size and SHA-256 are those
of the root file system, which is what updates ship; -o json tells those of every file.

  muster image list
  muster image list /srv/images -o json`,
		Args: takes(0, 1, "a directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := defaultImages
			if len(args) > 0 {
				dir = args[0]
			}
			return c.listImages(dir)
		},
	}
}

// imageEntry is a version of an image as `muster image list` shows it.
type imageEntry struct {
	Name     string       `json:"name"`
	Version  string       `json:"version"`
	Suite    string       `json:"suite"`
	Epoch    int64        `json:"epoch"`
	Packages int          `json:"packages"`
	Bytes    int64        `json:"bytes"`  // of the root
	SHA256   string       `json:"sha256"` // of the root
	Files    []image.File `json:"files"`
	Manifest string       `json:"manifest"`
}

func (c *cli) listImages(dir string) error {
	releases, err := image.List(dir)
	if err != nil {
		return noImage(dir, err)
	}
	list := []imageEntry{}
	for _, r := range releases {
		root, _ := r.Root()
		list = append(list, imageEntry{
			Name: r.Name, Version: r.Version, Suite: r.Suite, Epoch: r.Epoch, Packages: len(r.Packages),
			Bytes: root.Bytes, SHA256: root.SHA256, Files: append([]image.File{}, r.Files...), Manifest: r.Path(),
		})
	}
	return output.Write(c.out, c.format, list, func(w io.Writer) error {
		g := output.Grid{Columns: []string{"IMAGE", "VERSION", "SUITE", "PACKAGES", "SIZE", "SHA-256"}}
		for _, e := range list {
			g.Add(e.Name, e.Version, e.Suite, fmt.Sprint(e.Packages), sizeText(e.Bytes), e.SHA256)
		}
		return g.Write(w)
	})
}

// noImage gives an error of cluster/image its exit status and what to do about it.
func noImage(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usage("`make image` builds an image into image/", "there is no %s", path)
	case errors.Is(err, image.ErrNoManifest):
		return usage("`make image IMAGE=DIR` builds an image into DIR", "%w", err)
	case errors.Is(err, context.Canceled):
		return err
	default:
		return failed("build the image again with `make image`, or copy it again", "%w", err)
	}
}

func (c *cli) imageVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE|DIR",
		Short: "tell whether an image's files are what was built",
		Long: `verify compares the files of an image with its manifest: size and SHA-256 of each. It also looks whether the kernel image asks
for the root hash that the root has, so that what boots is what was built. DIR is every version in it, a manifest is its
version, and any other FILE is that file alone. The exit status is 1 when something differs.

  muster image verify image/
  muster image verify image/muster_1.manifest -o json
  muster image verify image/muster_1.root`,
		Args: takes(1, 1, "a directory, a manifest or a file of an image"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.verifyImages(cmd.Context(), args[0]) },
	}
}

func (c *cli) verifyImages(ctx context.Context, path string) error {
	releases, only, err := toVerify(path)
	if err != nil {
		return noImage(path, err)
	}
	reports, err := c.verify(ctx, releases, only)
	if err != nil {
		return noImage(path, err)
	}
	if err := output.Write(c.out, c.format, reports, verifyGrid(reports, c.color(c.out)).Write); err != nil {
		return err
	}
	bad := 0
	for _, r := range reports {
		for _, f := range r.Files {
			if !f.OK {
				bad++
			}
		}
	}
	if bad > 0 {
		return failed("build the image again with `make image`, or copy it again", "%s not what was built", are(bad, "file"))
	}
	return nil
}

// are renders "1 file is", "2 files are".
func are(n int, noun string) string {
	if n == 1 {
		return count(n, noun) + " is"
	}
	return count(n, noun) + " are"
}

// toVerify finds the releases that a path means, and the one file of them that it means alone.
func toVerify(path string) (releases []image.Release, only string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", err
	}
	if info.IsDir() {
		releases, err = image.List(path)
		return releases, "", err
	}
	r, err := image.Of(path)
	if err != nil {
		return nil, "", err
	}
	if info.Name() != r.Base()+".manifest" {
		only = info.Name()
	}
	if _, named := r.File(only); only != "" && !named {
		return nil, "", fmt.Errorf("%w: %s does not name %s", image.ErrNoManifest, r.Path(), only)
	}
	return []image.Release{r}, only, nil
}

// verify verifies releases, one after the other.
func (c *cli) verify(ctx context.Context, releases []image.Release, only string) ([]image.Report, error) {
	reports := []image.Report{}
	for _, r := range releases {
		var total int64
		for _, f := range r.Files {
			total += f.Bytes
		}
		m := c.newMeter(r.Base(), "")
		report, err := image.Verify(ctx, r, only, m.begin("verifying", total))
		m.close()
		if err != nil {
			return nil, err
		}
		reports = append(reports, report)
	}
	return reports, nil
}

func verifyGrid(reports []image.Report, color bool) *output.Grid {
	g := &output.Grid{Columns: []string{"FILE", "SIZE", "CHECK"}, Color: color}
	for _, r := range reports {
		for _, f := range r.Files {
			g.Add(f.Name, sizeText(f.Bytes), checkText(f))
		}
	}
	return g
}

func checkText(f image.FileReport) string {
	switch {
	case !f.OK:
		return f.Problem
	case f.Version != "":
		return "ok, of version " + f.Version
	default:
		return "ok"
	}
}

// sizeText renders a number of bytes for people.
func sizeText(bytes int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if bytes < 1<<10 {
		return count(int(bytes), "byte")
	}
	size := float64(bytes) / (1 << 10)
	for len(units) > 1 && size >= 1<<10 {
		size, units = size/(1<<10), units[1:]
	}
	return fmt.Sprintf("%.1f %s", size, units[0])
}
