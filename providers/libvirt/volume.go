package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/musterhq/muster/providers"
)

// Formats of volumes.
const (
	formatRaw   = "raw"
	formatQCOW2 = "qcow2"
)

// volumeSpec is a volume to make.
type volumeSpec struct {
	name     string
	format   string
	capacity uint64
	backing  *image // of a clone
	mode     string // permissions in octal, "" for the daemon's default
}

// volumeXML renders a volume (https://libvirt.org/formatstorage.html).
func volumeXML(spec volumeSpec) (string, error) {
	doc := libvirtxml.StorageVolume{
		Name:       spec.name,
		Capacity:   &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: spec.capacity},
		Allocation: &libvirtxml.StorageVolumeSize{Unit: "bytes"},
		Target:     &libvirtxml.StorageVolumeTarget{Format: &libvirtxml.StorageVolumeTargetFormat{Type: spec.format}},
	}
	if spec.mode != "" {
		doc.Target.Permissions = &libvirtxml.StorageVolumeTargetPermissions{Mode: spec.mode}
	}
	if spec.backing != nil {
		doc.BackingStore = &libvirtxml.StorageVolumeBackingStore{
			Path: spec.backing.path, Format: &libvirtxml.StorageVolumeTargetFormat{Type: spec.backing.format},
		}
	}
	return doc.Marshal()
}

// makeVolume makes a volume or finds the one that has its name.
func (c *client) makeVolume(pool golibvirt.StoragePool, spec volumeSpec) (volume golibvirt.StorageVol, made bool, err error) {
	text, err := volumeXML(spec)
	if err != nil {
		return volume, false, err
	}
	volume, err = c.StorageVolCreateXML(pool, text, 0)
	if err == nil {
		return volume, true, nil
	}
	if hasCode(err, golibvirt.ErrStorageVolExist) {
		volume, err = c.StorageVolLookupByName(pool, spec.name)
	}
	return volume, false, err
}

// findVolume finds a volume by name.
func (c *client) findVolume(pool golibvirt.StoragePool, name string) (volume golibvirt.StorageVol, found bool, err error) {
	volume, err = c.StorageVolLookupByName(pool, name)
	return volume, err == nil, ignoreGone(err)
}

// busy tells whether a volume cannot be used now because somebody writes it.
func busy(err error) bool { return says(err, "is still in use", "is still being allocated") }

// patiently repeats something until no volume that it needs is busy.
func patiently(ctx context.Context, do func() error) error {
	for {
		if err := do(); !busy(err) {
			return err
		}
		if err := providers.Pause(ctx, busyPause); err != nil {
			return err
		}
	}
}

// deleteVolume deletes a volume, if it is there.
func (c *client) deleteVolume(ctx context.Context, pool golibvirt.StoragePool, name string) error {
	volume, found, err := c.findVolume(pool, name)
	if err != nil || !found {
		return err
	}
	return patiently(ctx, func() error { return ignoreGone(c.StorageVolDelete(volume, golibvirt.StorageVolDeleteNormal)) })
}

// upload writes a volume from its beginning. Where data has long runs of zeros an empty volume, which has only zeros, need
// not be written.
func (c *client) upload(volume golibvirt.StorageVol, data io.Reader, size uint64, empty bool) error {
	return c.StorageVolUpload(volume, newPieces(data, empty), 0, size, golibvirt.StorageVolUploadSparseStream)
}

// read reads the first bytes of a volume, which may be fewer.
func (c *client) read(volume golibvirt.StorageVol, count uint64) ([]byte, error) {
	var data bytes.Buffer
	sink := &absorb{write: func(part []byte) error { _, err := data.Write(part); return err }}
	if err := c.StorageVolDownload(volume, sink, 0, count, 0); err != nil {
		return nil, err
	}
	return data.Bytes(), sink.err
}

// writeSmall makes a volume hold exactly data, whatever it held.
func (c *client) writeSmall(
	ctx context.Context, pool golibvirt.StoragePool, name string, data []byte,
) (golibvirt.StorageVol, error) {
	// Only the daemon and QEMU read it: user-data holds a token.
	spec := volumeSpec{name: name, format: formatRaw, capacity: uint64(len(data)), mode: "0600"}
	volume, made, err := c.makeVolume(pool, spec)
	if err == nil && !made {
		var capacity uint64
		if _, capacity, _, err = c.StorageVolGetInfo(volume); err == nil && capacity != spec.capacity {
			if err = c.deleteVolume(ctx, pool, name); err == nil {
				volume, _, err = c.makeVolume(pool, spec)
			}
		}
	}
	if err != nil {
		return volume, fmt.Errorf("volume %s: %w", name, err)
	}
	err = patiently(ctx, func() error { return c.upload(volume, bytes.NewReader(data), spec.capacity, false) })
	if err != nil {
		return volume, fmt.Errorf("volume %s: %w", name, err)
	}
	return volume, nil
}

// headerSize is how much of a volume tells what it is. qemu-img puts the name of the backing file in the first cluster.
const headerSize = 4096

// header is the beginning of a disk image. The format of qcow2 is QEMU's (docs/interop/qcow2.txt).
type header struct {
	format  string
	virtual uint64 // size of a qcow2 image's disk
	backing string // the qcow2 image's backing file; "?" when its name is not in the header
}

func parseHeader(data []byte) header {
	if len(data) < 32 || !bytes.HasPrefix(data, []byte("QFI\xfb")) {
		return header{format: formatRaw}
	}
	h := header{format: formatQCOW2, virtual: binary.BigEndian.Uint64(data[24:])}
	offset, length := binary.BigEndian.Uint64(data[8:]), uint64(binary.BigEndian.Uint32(data[16:]))
	switch {
	case offset == 0:
	case offset < uint64(len(data)) && length <= uint64(len(data))-offset:
		h.backing = string(data[offset : offset+length])
	default:
		h.backing = "?"
	}
	return h
}

// makeClone makes a host's disk, a copy-on-write clone. One that a crash left half-made is made again.
func (c *client) makeClone(
	ctx context.Context, pool golibvirt.StoragePool, name string, base image, size uint64,
) (golibvirt.StorageVol, error) {
	spec := volumeSpec{name: name, format: formatQCOW2, capacity: max(size, base.virtual), backing: &base, mode: "0600"}
	for {
		volume, made, err := c.makeVolume(pool, spec)
		if err != nil || made {
			return volume, err
		}
		var data []byte
		err = patiently(ctx, func() (err error) { data, err = c.read(volume, headerSize); return err })
		if err != nil {
			return volume, err
		}
		if h := parseHeader(data); h.backing == base.path && h.virtual > 0 {
			return volume, nil
		}
		if err := c.deleteVolume(ctx, pool, name); err != nil {
			return volume, err
		}
	}
}

// checkHeader refuses images that are not whole.
func checkHeader(what string, h header) error {
	if h.backing != "" {
		return fmt.Errorf("%s needs another image behind it (%s), make it whole with `qemu-img convert`: %w",
			what, h.backing, providers.ErrInvalid)
	}
	return nil
}
