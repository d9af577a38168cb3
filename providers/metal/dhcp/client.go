package dhcp

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/musterhq/muster/providers/metal/netboot"
)

// loader is the program that asks.
type loader string

const (
	system loader = "system" // an installed system: it wants an address and boots nothing
	pxe    loader = "pxe"    // a firmware that loads a file by TFTP
	web    loader = "http"   // a firmware that loads a file by HTTP, UEFI 2.5 section 24.7
	ipxe   loader = "ipxe"
)

// client is what a packet says of its sender.
type client struct {
	loader
	netboot.Request
}

// classify reads a packet. What is not known leaves the architecture empty: the client gets no file then.
func classify(p *dhcpv4.DHCPv4) client {
	c := client{loader: system, Request: netboot.Request{MAC: p.ClientHWAddr.String(), UUID: uuid(p)}}
	class := p.ClassIdentifier()
	switch {
	case isIPXE(p):
		c.loader = ipxe
	case strings.HasPrefix(class, "HTTPClient"):
		c.loader = web
	case strings.HasPrefix(class, "PXEClient"):
		c.loader = pxe
	default:
		return c
	}
	for _, arch := range archs(p) {
		if c.Arch, c.Firmware = platform(arch); c.Arch != "" {
			break
		}
	}
	return c
}

// isIPXE looks at the user class, which iPXE sends without the length that RFC 3004 wants, and at the options that only
// iPXE sends (175, its encapsulated ones), for builds that have a user class of their own.
func isIPXE(p *dhcpv4.DHCPv4) bool {
	class := string(p.Options.Get(dhcpv4.OptionUserClassInformation))
	return strings.Contains(class, "iPXE") || p.Options.Has(dhcpv4.GenericOptionCode(175))
}

// archs returns what option 93 says (RFC 4578, section 2.1), or the number in the class "PXEClient:Arch:00007:...".
func archs(p *dhcpv4.DHCPv4) []iana.Arch {
	if listed := p.ClientArch(); len(listed) > 0 {
		return listed
	}
	var number uint16
	_, after, found := strings.Cut(p.ClassIdentifier(), ":Arch:")
	if _, err := fmt.Sscanf(after, "%05d", &number); !found || err != nil {
		return nil
	}
	return []iana.Arch{iana.Arch(number)}
}

// platform returns nothing for what cannot be booted. 7 and 9 are both used for UEFI on x86-64, since RFC 4578 and its
// erratum disagree.
func platform(arch iana.Arch) (netboot.Arch, netboot.Firmware) {
	switch arch {
	case iana.INTEL_X86PC, iana.INTEL_X86PC_HTTP:
		return netboot.AMD64, netboot.BIOS
	case iana.EFI_X86_64, iana.EFI_BC, iana.EFI_X86_64_HTTP, iana.EFI_BC_HTTP:
		return netboot.AMD64, netboot.UEFI
	case iana.EFI_ARM64, iana.EFI_ARM64_HTTP:
		return netboot.ARM64, netboot.UEFI
	}
	return "", ""
}

// uuid returns option 97 as SMBIOS tools print it, with the first three fields in little-endian order (SMBIOS 2.6,
// section 3.3.2.1), or nothing.
func uuid(p *dhcpv4.DHCPv4) string {
	option := p.Options.Get(dhcpv4.OptionClientMachineIdentifier)
	if len(option) != 17 || option[0] != 0 {
		return ""
	}
	u := option[1:]
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(u), binary.LittleEndian.Uint16(u[4:]),
		binary.LittleEndian.Uint16(u[6:]), u[8:10], u[10:])
}

// check refuses what no machine on an Ethernet sends.
func check(p *dhcpv4.DHCPv4) error {
	switch {
	case p.OpCode != dhcpv4.OpcodeBootRequest:
		return fmt.Errorf("%w: it is a reply", ErrNoAnswer)
	case p.HWType != iana.HWTypeEthernet || len(p.ClientHWAddr) != 6:
		return fmt.Errorf("%w: it is not from an Ethernet", ErrNoAnswer)
	case p.ClientHWAddr[0]&1 != 0 || p.ClientHWAddr.String() == (net.HardwareAddr{5: 0}).String():
		return fmt.Errorf("%w: %s is no machine's address", ErrNoAnswer, p.ClientHWAddr)
	}
	return nil
}
