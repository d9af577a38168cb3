package libvirt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/musterhq/muster/providers"
)

// machineCache remembers what the hypervisor can run. The zero value remembers nothing.
type machineCache struct {
	mu     sync.Mutex
	known  *machine
	proven bool
}

// machine is what hosts run on: with KVM where there is one, else emulated, which is said. With prove, a KVM that was
// not asked for by name must have run something: there are machines that have a /dev/kvm with which nothing runs.
func (p *Provider) machine(ctx context.Context, c *client, prove bool) (machine, error) {
	p.machines.mu.Lock()
	defer p.machines.mu.Unlock()
	if p.machines.known == nil {
		m, err := p.lookMachine(ctx, c)
		if err != nil {
			return m, err
		}
		p.machines.known = &m
	}
	m := *p.machines.known
	if !prove || p.machines.proven || m.domainType != typeKVM || p.config.DomainType != typeAuto {
		return m, nil
	}
	if err := c.proveKVM(ctx, m); err != nil {
		if m, err = p.emulated(ctx, c, err); err != nil {
			return m, err
		}
	}
	p.machines.known, p.machines.proven = &m, true
	return m, nil
}

func (p *Provider) lookMachine(ctx context.Context, c *client) (machine, error) {
	if p.config.DomainType == typeQEMU {
		return c.capabilities(typeQEMU)
	}
	m, err := c.capabilities(typeKVM)
	if err == nil || p.config.DomainType == typeKVM {
		return m, err
	}
	return p.emulated(ctx, c, err)
}

// emulated is what hosts run on without KVM, unless the question failed because nobody answers any more.
func (p *Provider) emulated(ctx context.Context, c *client, reason error) (machine, error) {
	if context.Cause(ctx) != nil || lost(reason) {
		return machine{}, reason
	}
	p.log.WarnContext(ctx, "KVM does not work, hosts are emulated, which is many times slower", "uri", p.config.URI, "reason", reason)
	return c.capabilities(typeQEMU)
}

const (
	provePause    = 50 * time.Millisecond
	provePatience = 15 * time.Second // the firmware needs a fraction of a second
)

// proveKVM runs a machine's firmware until it finds nothing to boot and resets the machine, which ends it. The domain is
// nobody's: the daemon forgets it when it ends, and ends it with the connection. Only x86 has a firmware that does so.
func (c *client) proveKVM(ctx context.Context, m machine) error {
	if m.arch != "x86_64" {
		return nil
	}
	var random [4]byte
	// Read never fails (crypto/rand).
	_, _ = rand.Read(random[:])
	text, err := probeXML(m, fmt.Sprintf("muster-probe-%x", random))
	if err != nil {
		return err
	}
	handle, err := c.DomainCreateXML(text, golibvirt.DomainStartAutodestroy)
	if err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < provePatience; {
		if _, _, err := c.DomainGetState(handle, 0); err != nil {
			return ignoreGone(err)
		}
		if err := providers.Pause(ctx, provePause); err != nil {
			return err
		}
	}
	return errors.Join(errors.New("a machine hangs in its firmware"), ignoreGone(c.DomainDestroy(handle)))
}

func probeXML(m machine, name string) (string, error) {
	now := 0
	domain := libvirtxml.Domain{
		Type: m.domainType, Name: name, CPU: domainCPU(m), OnReboot: "destroy", OnPoweroff: "destroy", OnCrash: "destroy",
		Memory:   &libvirtxml.DomainMemory{Value: 64, Unit: "MiB"},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		OS: &libvirtxml.DomainOS{
			Type: &libvirtxml.DomainOSType{Arch: m.arch, Machine: m.kind(), Type: "hvm"},
			BIOS: &libvirtxml.DomainBIOS{RebootTimeout: &now},
		},
		Devices: &libvirtxml.DomainDeviceList{MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"}},
	}
	return domain.Marshal()
}

// capabilities asks what domains of a type can be (https://libvirt.org/formatdomaincaps.html).
func (c *client) capabilities(domainType string) (machine, error) {
	text, err := c.ConnectGetDomainCapabilities(nil, nil, nil, golibvirt.OptString{domainType}, 0)
	if err != nil {
		return machine{}, fmt.Errorf("the hypervisor has no domains of type %s: %w", domainType, err)
	}
	return parseCapabilities(text)
}

func parseCapabilities(text string) (machine, error) {
	var doc libvirtxml.DomainCaps
	if err := doc.Unmarshal(text); err != nil {
		return machine{}, fmt.Errorf("cannot read the hypervisor's capabilities: %w", err)
	}
	m := machine{domainType: doc.Domain, arch: doc.Arch}
	if doc.OS != nil {
		for _, enum := range doc.OS.Enums {
			m.uefi = m.uefi || enum.Name == "firmware" && slices.Contains(enum.Values, "efi")
		}
	}
	if m.arch != "x86_64" && m.arch != "aarch64" {
		return m, fmt.Errorf("hosts of architecture %s are not known: %w", m.arch, providers.ErrInvalid)
	}
	return m, nil
}

// checkFirmware looks whether the hypervisor has a firmware.
func (m machine) checkFirmware(firmware string) error {
	switch {
	case firmware == firmwareUEFI && !m.uefi:
		return fmt.Errorf("the hypervisor has no UEFI firmware, install OVMF there or set `firmware: bios`: %w", providers.ErrNotFound)
	case firmware == firmwareBIOS && m.arch != "x86_64":
		return fmt.Errorf("a hypervisor of architecture %s has no BIOS, set `firmware: uefi`: %w", m.arch, providers.ErrInvalid)
	}
	return nil
}
