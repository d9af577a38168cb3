package libvirt

import (
	"context"
	"fmt"
	"slices"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/musterhq/muster/providers"
)

// machineCache remembers what the hypervisor can run. The zero value remembers nothing.
type machineCache struct {
	mu    sync.Mutex
	known *machine
}

// machine is what hosts run on: with KVM where it works, else emulated, which is said once.
func (p *Provider) machine(ctx context.Context, c *client) (machine, error) {
	p.machines.mu.Lock()
	defer p.machines.mu.Unlock()
	if p.machines.known != nil {
		return *p.machines.known, nil
	}
	m, err := p.lookMachine(ctx, c)
	if err == nil {
		p.machines.known = &m
	}
	return m, err
}

func (p *Provider) lookMachine(ctx context.Context, c *client) (machine, error) {
	if p.config.DomainType != typeQEMU {
		m, err := c.capabilities(typeKVM)
		if err == nil || p.config.DomainType == typeKVM {
			return m, err
		}
		if !hasCode(err, golibvirt.ErrInvalidArg, golibvirt.ErrNoSupport, golibvirt.ErrConfigUnsupported, golibvirt.ErrInternalError) {
			return m, err
		}
		p.log.WarnContext(ctx, "KVM is not to be had, hosts are emulated, which is many times slower", "uri", p.config.URI, "reason", err)
	}
	return c.capabilities(typeQEMU)
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
