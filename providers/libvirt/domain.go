package libvirt

import (
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/musterhq/muster/providers"
)

// machine is what the hypervisor can run.
type machine struct {
	domainType string // kvm or qemu
	arch       string // of the hypervisor, such as x86_64
	uefi       bool   // whether it has UEFI firmware
}

// kind is QEMU's machine type.
func (m machine) kind() string {
	if m.arch == "x86_64" {
		return "q35"
	}
	return "virt"
}

// disks are the paths, at the hypervisor, of what a host is made of.
type disks struct {
	disk, seed, console string
	kernel, initrd      string // "" unless they boot it
}

// plug is where a host's network interface is put.
type plug struct {
	network string // name of a libvirt network, or
	bridge  string // name of a bridge
	mac     string
}

// guest is everything that a domain's XML says.
type guest struct {
	id       providers.Identity
	record   record
	settings Settings
	machine  machine
	disks    disks
	plug     plug
}

// domainXML renders a domain. The format is libvirt's (https://libvirt.org/formatdomain.html).
func domainXML(g guest) (string, error) {
	metadata, err := g.record.marshal(true)
	if err != nil {
		return "", fmt.Errorf("cannot render metadata: %w", err)
	}
	domain := libvirtxml.Domain{
		Type:     g.machine.domainType,
		Name:     domainName(g.id),
		UUID:     uuidString(uuidOf(g.id)),
		Metadata: &libvirtxml.DomainMetadata{XML: "\n    " + metadata[4:] + "\n  "},
		Memory:   &libvirtxml.DomainMemory{Value: uint(g.settings.Memory >> 10), Unit: "KiB"},
		VCPU:     &libvirtxml.DomainVCPU{Value: uint(g.settings.CPUs)},
		OS:       domainOS(g),
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		CPU:      domainCPU(g.machine),
		Clock:    &libvirtxml.DomainClock{Offset: "utc"},
		OnReboot: "restart",
		OnCrash:  "restart",
		Devices:  domainDevices(g),
	}
	if g.machine.arch == "x86_64" {
		domain.Features.APIC = &libvirtxml.DomainFeatureAPIC{}
	}
	return domain.Marshal()
}

func domainOS(g guest) *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: g.machine.arch, Machine: g.machine.kind(), Type: "hvm"}}
	switch g.settings.Firmware {
	case firmwareUEFI:
		os.Firmware = "efi"
		// Images are not signed by anybody whom the firmware knows.
		os.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{
			Features: []libvirtxml.DomainOSFirmwareFeature{{Enabled: "no", Name: "secure-boot"}},
		}
	case firmwareDirect:
		os.Kernel, os.Initrd, os.Cmdline = g.disks.kernel, g.disks.initrd, g.settings.Cmdline
		return os
	}
	os.BootDevices = []libvirtxml.DomainBootDevice{{Dev: "hd"}}
	return os
}

// domainCPU is everything that the hypervisor has. Hosts are never migrated.
func domainCPU(m machine) *libvirtxml.DomainCPU {
	if m.domainType == typeKVM {
		return &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none", Migratable: "off"}
	}
	return &libvirtxml.DomainCPU{Mode: "maximum", Check: "none"}
}

func domainDevices(g guest) *libvirtxml.DomainDeviceList {
	console := libvirtxml.DomainSerial{
		Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
		Log:    &libvirtxml.DomainChardevLog{File: g.disks.console, Append: "on"},
	}
	agent := libvirtxml.DomainChannel{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"}},
	}
	return &libvirtxml.DomainDeviceList{
		// The seed is a disk, not a CD-ROM: kernels made for clouds have no driver for SATA.
		Disks:       []libvirtxml.DomainDisk{bootDisk(g.disks.disk), seedDisk(g.disks.seed)},
		Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
		Interfaces:  []libvirtxml.DomainInterface{domainInterface(g.plug)},
		Serials:     []libvirtxml.DomainSerial{console},
		Channels:    []libvirtxml.DomainChannel{agent},
		MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "none"},
		RNGs: []libvirtxml.DomainRNG{{
			Model:   "virtio",
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
		}},
	}
}

func bootDisk(path string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2", Discard: "unmap"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
	}
}

func seedDisk(path string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device:   "disk",
		Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Source:   &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target:   &libvirtxml.DomainDiskTarget{Dev: "vdb", Bus: "virtio"},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
	}
}

func domainInterface(at plug) libvirtxml.DomainInterface {
	source := &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: at.network}}
	if at.bridge != "" {
		source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: at.bridge}}
	}
	return libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: at.mac},
		Source: source,
		Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
	}
}
