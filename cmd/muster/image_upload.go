package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cluster/image"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cmd/muster/output"
	"github.com/musterhq/muster/providers"
)

// uploadFlags are those of `muster image upload`.
type uploadFlags struct {
	provider string
	name     string
}

func (c *cli) imageUploadCommand() *cobra.Command {
	var flags uploadFlags
	cmd := &cobra.Command{
		Use:   "upload DIR|FILE --provider NAME",
		Short: "give an image to a provider of the cluster file",
		Long: `upload gives a disk image to a provider, and prints what the settings of its hosts name it by. DIR is the latest version in
it; FILE is a manifest, for its version, or any disk image that the provider takes. An image is known by its SHA-256: one
that is there is not sent again, and an upload that was cut short is done by the next. It belongs to no cluster, and
` + "`muster down`" + ` leaves it.

  muster image upload image/ --provider rack
  muster image upload image/muster_2.manifest --provider rack -f prod.yaml
  muster image upload ./debian.qcow2 --provider rack --name debian-13 -o json`,
		Args: takes(1, 1, "a directory or a disk image"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.uploadImage(cmd.Context(), args[0], flags) },
	}
	cmd.Flags().StringVar(&flags.provider, "provider", "", "`NAME` of the provider in the cluster file")
	cmd.Flags().StringVar(&flags.name, "name", "", "`NAME` of the image at the provider, for people; by default the file's")
	_ = cmd.RegisterFlagCompletionFunc("provider", c.completeProviders)
	return cmd
}

// completeProviders offers the providers of the cluster file to the shell.
func (c *cli) completeProviders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	s, err := spec.Load(c.file, c.drivers)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return providerNames(s), cobra.ShellCompDirectiveNoFileComp
}

func providerNames(s spec.Spec) []string {
	var names []string
	for _, p := range s.Providers {
		names = append(names, p.Name)
	}
	return names
}

// uploadReport is what an upload came to.
type uploadReport struct {
	Name      string `json:"name"`
	Provider  string `json:"provider"`
	Driver    string `json:"driver"`
	File      string `json:"file"`
	Bytes     int64  `json:"bytes"`
	SHA256    string `json:"sha256"`
	Reference string `json:"reference"` // what the settings of hosts name the image by
	Uploaded  bool   `json:"uploaded"`  // false: it was there
}

func (c *cli) uploadImage(ctx context.Context, path string, flags uploadFlags) error {
	s, err := c.loadSpec()
	if err != nil {
		return err
	}
	taker, err := c.takerOf(s, flags.provider)
	if err != nil {
		return err
	}
	disk, err := findDisk(path)
	if err != nil {
		return err
	}
	if flags.name != "" {
		disk.name = flags.name
	}
	report := uploadReport{
		Name: disk.name, Provider: flags.provider, Driver: driverOf(s, flags.provider), File: disk.path, Bytes: disk.bytes,
	}
	if err := c.send(ctx, taker, disk, &report); err != nil {
		return err
	}
	return output.Write(c.out, c.format, report, report.write)
}

// takerOf is a provider of the cluster file as one that takes images.
func (c *cli) takerOf(s spec.Spec, name string) (providers.ImageTaker, error) {
	opened, err := c.openProviders(s)
	if err != nil {
		return nil, err
	}
	hint := ableHint[providers.ImageTaker](c, opened, "take images")
	p, known := opened[name]
	switch {
	case name == "":
		return nil, usage(hint, "`muster image upload` needs --provider")
	case !known:
		if guess := finding.DidYouMean(name, providerNames(s)); guess != "" {
			hint = guess
		}
		return nil, usage(hint, "no provider of %s is called `%s`", c.file, name)
	}
	taker, ok := providers.As[providers.ImageTaker](p)
	if !ok {
		return nil, usage(hint, "provider %s (%s) takes no images", name, driverOf(s, name))
	}
	return taker, nil
}

// send gives a disk to a provider and writes down how that went.
func (c *cli) send(ctx context.Context, taker providers.ImageTaker, disk disk, report *uploadReport) error {
	wanted := providers.Image{Name: disk.name, Path: disk.path, SHA256: strings.Repeat("0", 64)}
	if err := wanted.Validate(); err != nil {
		return usage("name it with --name", "cannot upload %s: %w", disk.path, err)
	}
	m := c.newMeter(disk.name, report.Provider)
	defer m.close()
	var err error
	if wanted.SHA256, _, err = image.Sum(ctx, disk.path, m.begin("reading", disk.bytes)); err != nil {
		return noImage(disk.path, err)
	}
	if disk.sum != "" && disk.sum != wanted.SHA256 {
		return failed("`muster image verify` tells more", "%s has the SHA-256 %s, its manifest says %s", disk.path, wanted.SHA256, disk.sum)
	}
	show := m.begin("uploading", disk.bytes)
	report.SHA256 = wanted.SHA256
	report.Reference, err = taker.UploadImage(ctx, wanted, func(bytes int64) {
		report.Uploaded = true
		show(bytes)
	})
	if err != nil {
		hint := "run it again to go on"
		if errors.Is(err, providers.ErrInvalid) {
			hint = "the provider does not take this file; nothing was uploaded"
		} else if known := advice(err); known != "" {
			hint = known
		}
		return failed(hint, "cannot upload %s to %s: %w", disk.path, report.Provider, err)
	}
	m.report(report.outcome(), true)
	return nil
}

func (r uploadReport) outcome() string {
	if r.Uploaded {
		return "uploaded"
	}
	return "was there already"
}

// write tells people.
func (r uploadReport) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, `image %s at %s: %s, %s

  settings: {image: %s}   # of hosts at %s in the cluster file
`, r.Name, r.Provider, sizeText(r.Bytes), r.outcome(), r.Reference, r.Provider)
	return err
}

// disk is a disk image to upload.
type disk struct {
	name  string
	path  string
	bytes int64
	sum   string // that its manifest says, "" when that does not name it
}

// findDisk finds the disk image that a path means.
func findDisk(path string) (disk, error) {
	info, err := os.Stat(path)
	if err != nil {
		return disk{}, noImage(path, err)
	}
	var release image.Release
	switch {
	case info.IsDir():
		var list []image.Release
		if list, err = image.List(path); err == nil {
			release = list[len(list)-1]
		}
	default:
		if release, err = image.Of(path); errors.Is(err, image.ErrNoManifest) {
			return disk{name: imageName(path), path: path, bytes: info.Size()}, nil
		}
	}
	if err != nil {
		return disk{}, noImage(path, err)
	}
	return diskOf(release, path, info)
}

// diskOf is the disk of a release that was found at a path. Other files of it are no disks.
func diskOf(r image.Release, path string, at os.FileInfo) (disk, error) {
	if !at.IsDir() && !slices.Contains([]string{filepath.Base(r.Path()), filepath.Base(r.Disk())}, at.Name()) {
		return disk{}, usage("upload "+r.Disk(), "%s is a part of %s and no disk image", path, r.Base())
	}
	info, err := os.Stat(r.Disk())
	if err != nil {
		return disk{}, noImage(r.Disk(), err)
	}
	named, _ := r.File(filepath.Base(r.Disk()))
	return disk{name: imageName(r.Disk()), path: r.Disk(), bytes: info.Size(), sum: named.SHA256}, nil
}

// imageName is a file's name without suffix, in the letters that a provider takes.
func imageName(path string) string {
	base := filepath.Base(path)
	return notInImageName.ReplaceAllString(strings.TrimSuffix(base, filepath.Ext(base)), "-")
}

var notInImageName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
