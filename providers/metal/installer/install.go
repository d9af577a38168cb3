package installer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/musterhq/muster/providers/metal/diskselect"
	"github.com/musterhq/muster/providers/metal/enrol"
	"github.com/musterhq/muster/providers/metal/ledger"
)

// headBytes are written last: the partition table and what BIOS boots lie in them.
const headBytes = 1 << 20

// install writes the order's image to the disk that it selects.
func (cfg Config) install(ctx context.Context, order enrol.Order) error {
	if order.Bytes <= headBytes {
		return fmt.Errorf("cannot install an image of %d bytes: it has no partitions", order.Bytes)
	}
	chosen, err := choose(cfg.Facts.Disks, order)
	if err != nil {
		return err
	}
	disk, err := cfg.Machine.Open(chosen.Path)
	if err != nil {
		return err
	}
	partitions, err := cfg.writeDisk(ctx, order, chosen, disk)
	if err = errors.Join(err, disk.Close()); err != nil {
		return err
	}
	return cfg.configure(ctx, order, chosen, partitions)
}

// choose selects the disk to install to.
func choose(disks []ledger.Disk, order enrol.Order) (ledger.Disk, error) {
	selector, err := diskselect.Parse(order.Disk)
	if err != nil {
		return ledger.Disk{}, err
	}
	disk, err := selector.Choose(disks, order.Bytes)
	if err != nil {
		return ledger.Disk{}, fmt.Errorf("cannot select a disk by %q: %w", cmp.Or(order.Disk, "smallest"), err)
	}
	return disk, nil
}

// describe names a disk, and says why it was taken.
func describe(d ledger.Disk, selector string) string {
	return fmt.Sprintf("%s (%s, %d bytes) by %q", d.Path, cmp.Or(d.Model, d.Serial, "no model"), d.Bytes, cmp.Or(selector, "smallest"))
}

// writeDisk leaves the image on a disk, verified, and returns its partitions.
func (cfg Config) writeDisk(ctx context.Context, order enrol.Order, chosen ledger.Disk, disk Disk) ([]Partition, error) {
	name := describe(chosen, order.Disk)
	cfg.Log.Info("installing", "disk", name, "image", order.Image)
	err := cfg.retry(ctx, func() error {
		return cfg.Server.Progress(ctx, enrol.Progress{Stage: enrol.StageStarted, Disk: name})
	})
	if err != nil {
		return nil, err
	}
	// What was on the disk boots no more from here on: neither it nor a half-written image is to be mistaken for a host.
	err = errors.Join(disk.Zero(ctx, 0, headBytes), disk.Zero(ctx, chosen.Bytes-headBytes, headBytes), disk.Flush())
	if err != nil {
		return nil, fmt.Errorf("cannot clear %s: %w", chosen.Path, err)
	}
	head, err := cfg.download(ctx, order, disk, cfg.reporter(ctx, enrol.StageWriting, name, order.Bytes))
	if err != nil {
		return nil, err
	}
	partitions, err := ParseGPT(head)
	if err != nil {
		return nil, fmt.Errorf("cannot boot this image: %w", err)
	}
	if err := disk.Flush(); err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", chosen.Path, err)
	}
	if err := verify(disk, head, order, cfg.reporter(ctx, enrol.StageVerifying, name, order.Bytes)); err != nil {
		return nil, fmt.Errorf("cannot trust %s: %w", chosen.Path, err)
	}
	return partitions, writeHead(disk, head, chosen.Path)
}

func writeHead(disk Disk, head []byte, path string) error {
	_, err := disk.WriteAt(head, 0)
	if err := errors.Join(err, disk.Flush()); err != nil {
		return fmt.Errorf("cannot write the partition table of %s: %w", path, err)
	}
	got := make([]byte, len(head))
	if _, err := disk.ReadAt(got, 0); err != nil {
		return fmt.Errorf("cannot read the partition table of %s: %w", path, err)
	}
	if !bytes.Equal(got, head) {
		return fmt.Errorf("cannot trust %s: its partition table reads back as something else", path)
	}
	return nil
}

// configure gives the host its user-data, and has the firmware boot it.
func (cfg Config) configure(ctx context.Context, order enrol.Order, chosen ledger.Disk, partitions []Partition) error {
	if err := cfg.progress(ctx, enrol.Progress{Stage: enrol.StageConfiguring, Disk: chosen.Path}); err != nil {
		return err
	}
	data, system := find(partitions, isVar), find(partitions, isESP)
	if data == nil {
		return errors.New("cannot tell the host what it is to become: the image has no partition labelled var")
	}
	var userData []byte
	err := cfg.retry(ctx, func() (err error) {
		userData, err = cfg.Server.UserData(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot fetch the user-data: %w", err)
	}
	seed := Seed{Instance: cmp.Or(order.Instance, cfg.Task.Boot), Host: order.Host, UserData: userData}
	if err := cfg.Machine.Seed(chosen.Path, data.Number, seed); err != nil {
		return err
	}
	if system == nil {
		return nil
	}
	done, err := cfg.Machine.BootFrom(*system, order.NetworkFirst)
	if err != nil {
		return err
	}
	cfg.Log.Info("installed", "disk", chosen.Path, "boot", done)
	return nil
}

// wipe erases the disk that the order selects, or all.
func (cfg Config) wipe(ctx context.Context, order enrol.Order) error {
	disks := cfg.Facts.Disks
	if order.Disk != "" {
		chosen, err := choose(disks, order)
		if err != nil {
			return err
		}
		disks = []ledger.Disk{chosen}
	}
	err := cfg.retry(ctx, func() error { return cfg.Server.Progress(ctx, enrol.Progress{Stage: enrol.StageStarted}) })
	if err != nil {
		return err
	}
	for _, disk := range disks {
		if err := cfg.erase(ctx, disk); err != nil {
			return err
		}
	}
	return nil
}

// eraseStep is how much of a disk is erased between two reports.
const eraseStep = 256 << 20

func (cfg Config) erase(ctx context.Context, d ledger.Disk) (err error) {
	disk, err := cfg.Machine.Open(d.Path)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, disk.Flush(), disk.Close()); err != nil {
			err = fmt.Errorf("cannot erase %s: %w", d.Path, err)
		}
	}()
	report := cfg.reporter(ctx, enrol.StageWriting, d.Path, d.Bytes)
	for done := int64(0); done < d.Bytes; done += eraseStep {
		if err := report(done); err != nil {
			return err
		}
		if err := disk.Zero(ctx, done, min(eraseStep, d.Bytes-done)); err != nil {
			return err
		}
	}
	return nil
}
