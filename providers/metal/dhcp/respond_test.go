package dhcp

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/musterhq/muster/providers/metal/netboot"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	noon   = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	nobody = netip.MustParseAddrPort("0.0.0.0:68")
	guest  = netip.MustParseAddrPort("10.77.0.60:4011")
)

func config(proxy bool) Config {
	c := Config{
		Server: netip.MustParseAddr("10.77.0.1"), HTTP: "http://10.77.0.1:8480",
		Loaders: map[Platform]string{
			{netboot.AMD64, netboot.BIOS}: "undionly.kpxe",
			{netboot.AMD64, netboot.UEFI}: "ipxe.efi",
			{netboot.ARM64, netboot.UEFI}: "ipxe-arm64.efi",
		},
		Network: &Network{
			Prefix: netip.MustParsePrefix("10.77.0.0/24"), First: netip.MustParseAddr("10.77.0.50"), Last: netip.MustParseAddr("10.77.0.59"),
			Router: netip.MustParseAddr("10.77.0.254"), DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, Lease: time.Hour,
		},
	}
	if proxy {
		c.Network = nil
	}
	return c
}

func responder(t testing.TB, proxy bool) *Responder {
	t.Helper()
	r, err := New(config(proxy))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// packet is a client's, with the identifier and the transaction of the machine with a number.
func packet(t testing.TB, kind dhcpv4.MessageType, number byte, options ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	identifier := append([]byte{0}, "\x44\x45\x4c\x4c\x42\x00\x10\x35\x80\x52\xb4\xc0\x4f\x4e\x31\x32"...)
	p, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithTransactionID(dhcpv4.TransactionID{0xde, 0xad, 0, number}),
		dhcpv4.WithHwAddr(net.HardwareAddr{0x52, 0x54, 0, 0, 0, number}),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, identifier),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func firmware(class string, arch iana.Arch) dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) {
		p.UpdateOption(dhcpv4.OptClassIdentifier(fmt.Sprintf("%s:Arch:%05d:UNDI:003010", class, arch)))
		p.UpdateOption(dhcpv4.OptClientArch(arch))
	}
}

// rom is iPXE, as a firmware's or loaded by one.
func rom(arch iana.Arch) dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) {
		firmware("PXEClient", arch)(p)
		p.UpdateOption(dhcpv4.OptUserClass("iPXE"))
	}
}

func wish(addr string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(addr)))
}

func server(addr string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(addr)))
}

func TestGolden(t *testing.T) {
	const discover, request, inform = dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform
	for _, tt := range []struct {
		name   string
		proxy  bool
		port   uint16
		source netip.AddrPort
		packet *dhcpv4.DHCPv4
	}{
		{"bios-discover", false, ServerPort, nobody, packet(t, discover, 1, firmware("PXEClient", iana.INTEL_X86PC))},
		{"bios-request", false, ServerPort, nobody, packet(t, request, 1, firmware("PXEClient", iana.INTEL_X86PC), wish("10.77.0.55"), server("10.77.0.1"))},
		{"uefi-discover", false, ServerPort, nobody, packet(t, discover, 2, firmware("PXEClient", iana.EFI_X86_64))},
		{"arm64-discover", false, ServerPort, nobody, packet(t, discover, 3, firmware("PXEClient", iana.EFI_ARM64))},
		{"http-discover", false, ServerPort, nobody, packet(t, discover, 4, firmware("HTTPClient", iana.EFI_X86_64_HTTP))},
		{"ipxe-request", false, ServerPort, nobody, packet(t, request, 5, rom(iana.INTEL_X86PC), wish("10.77.0.55"))},
		{"system-request", false, ServerPort, nobody, packet(t, request, 6, dhcpv4.WithClientIP(net.ParseIP("10.77.0.56")))},
		{"unknown-arch-discover", false, ServerPort, nobody, packet(t, discover, 7, firmware("PXEClient", iana.EFI_IA32))},
		{"nak", false, ServerPort, nobody, packet(t, request, 8, wish("192.168.1.4"))},
		{"inform", false, ServerPort, guest, packet(t, inform, 9, dhcpv4.WithClientIP(net.ParseIP("10.77.0.60")))},
		{"relayed-discover", false, ServerPort, nobody, packet(t, discover, 10, dhcpv4.WithGatewayIP(net.ParseIP("10.77.0.254")))},
		{"proxy-bios-discover", true, ServerPort, nobody, packet(t, discover, 1, firmware("PXEClient", iana.INTEL_X86PC))},
		{"proxy-uefi-discover", true, ServerPort, nobody, packet(t, discover, 2, firmware("PXEClient", iana.EFI_BC))},
		{"proxy-uefi-request", true, BINLPort, guest, packet(t, request, 2, firmware("PXEClient", iana.EFI_BC), dhcpv4.WithClientIP(net.ParseIP("10.77.0.60")))},
		{"proxy-http-discover", true, ServerPort, nobody, packet(t, discover, 4, firmware("HTTPClient", iana.EFI_ARM64_HTTP))},
		{"proxy-ipxe-discover", true, ServerPort, nobody, packet(t, discover, 5, rom(iana.EFI_X86_64))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer, err := responder(t, tt.proxy).Answer(tt.packet, tt.port, tt.source, noon)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name, fmt.Sprintf("to %s, loads %q\n%s\n%s", answer.To, answer.File, answer.Packet.Summary(), hex.Dump(answer.Packet.ToBytes())))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestNoAnswer(t *testing.T) {
	const discover, request = dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest
	bios := firmware("PXEClient", iana.INTEL_X86PC)
	for _, tt := range []struct {
		want   string
		proxy  bool
		port   uint16
		packet *dhcpv4.DHCPv4
	}{
		{"it is a reply", false, ServerPort, packet(t, discover, 1, func(p *dhcpv4.DHCPv4) { p.OpCode = dhcpv4.OpcodeBootReply })},
		{"not from an Ethernet", false, ServerPort, packet(t, discover, 1, func(p *dhcpv4.DHCPv4) { p.ClientHWAddr = p.ClientHWAddr[:5] })},
		{"no machine's address", false, ServerPort, packet(t, discover, 1, func(p *dhcpv4.DHCPv4) { p.ClientHWAddr[0] = 1 })},
		{"no machine's address", false, ServerPort, packet(t, discover, 1, func(p *dhcpv4.DHCPv4) { p.ClientHWAddr = make([]byte, 6) })},
		{"took the offer of 10.77.0.2", false, ServerPort, packet(t, request, 1, bios, wish("10.77.0.50"), server("10.77.0.2"))},
		{"relayed from another network", false, ServerPort, packet(t, discover, 1, dhcpv4.WithGatewayIP(net.ParseIP("10.78.0.1")))},
		{"it is a OFFER", false, ServerPort, packet(t, dhcpv4.MessageTypeOffer, 1)},
		{"does not boot over the network", true, ServerPort, packet(t, discover, 1)},
		{"leaves REQUEST to the server", true, ServerPort, packet(t, request, 1, bios)},
		{"architecture cannot be booted", true, ServerPort, packet(t, discover, 1, firmware("PXEClient", iana.EFI_IA32))},
		{"came to the port for files", true, BINLPort, packet(t, discover, 1, bios)},
		{"has no address yet", true, BINLPort, packet(t, request, 1, bios)},
		{"does not boot by PXE", true, BINLPort, packet(t, request, 1)},
	} {
		answer, err := responder(t, tt.proxy).Answer(tt.packet, tt.port, nobody, noon)
		if !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v, %v, want %q", answer, err, tt.want)
		}
	}
	c := config(true)
	c.Loaders = nil
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Answer(packet(t, discover, 1, bios), ServerPort, nobody, noon); err == nil || !strings.Contains(err.Error(), "no iPXE for amd64 with bios") {
		t.Error(err)
	}
}

// A firmware without option 93 says its architecture in its class, and iPXE built with another user class has its options.
func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options []dhcpv4.Modifier
		want    client
	}{
		{"class only", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003001"))}, client{pxe, netboot.Request{Arch: netboot.AMD64, Firmware: netboot.UEFI}}},
		{"nothing", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient"))}, client{loader: pxe}},
		{"several", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient")), dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_IA32, iana.EFI_ARM64))}, client{pxe, netboot.Request{Arch: netboot.ARM64, Firmware: netboot.UEFI}}},
		{"user class of RFC 3004", []dhcpv4.Modifier{firmware("PXEClient", 0), dhcpv4.WithUserClass("iPXE", true)}, client{ipxe, netboot.Request{Arch: netboot.AMD64, Firmware: netboot.BIOS}}},
		{"user class of its own", []dhcpv4.Modifier{firmware("PXEClient", 7), dhcpv4.WithUserClass("rack", false), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(175), []byte{1, 1, 1})}, client{ipxe, netboot.Request{Arch: netboot.AMD64, Firmware: netboot.UEFI}}},
		{"iPXE loaded by HTTP", []dhcpv4.Modifier{firmware("HTTPClient", 16), dhcpv4.WithUserClass("iPXE", false)}, client{ipxe, netboot.Request{Arch: netboot.AMD64, Firmware: netboot.UEFI}}},
		{"Linux", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("udhcp 1.36"))}, client{loader: system}},
	} {
		want := tt.want
		want.MAC, want.UUID = "52:54:00:00:00:01", "4c4c4544-0042-3510-8052-b4c04f4e3132"
		if got := classify(packet(t, dhcpv4.MessageTypeDiscover, 1, tt.options...)); got != want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, options := range [][]dhcpv4.Modifier{
		{firmware("PXEClient", iana.INTEL_X86PC)},
		{firmware("HTTPClient", iana.EFI_X86_64_HTTP)},
		{rom(iana.EFI_ARM64), wish("10.77.0.51")},
		{dhcpv4.WithGatewayIP(net.ParseIP("10.77.0.9"))},
	} {
		for _, kind := range []dhcpv4.MessageType{1, 3, 4, 7, 8} {
			f.Add(packet(f, kind, 1, options...).ToBytes(), false, false)
			f.Add(packet(f, kind, 1, options...).ToBytes(), true, true)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, proxy, binl bool) {
		p, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		port, source := uint16(ServerPort), nobody
		if binl {
			port, source = BINLPort, guest
		}
		answer, err := responder(t, proxy).Answer(p, port, source, noon)
		if err != nil {
			return
		}
		holds(t, p, answer, proxy)
	})
}

// holds checks what is true of every answer.
func holds(t *testing.T, p *dhcpv4.DHCPv4, answer Answer, proxy bool) {
	t.Helper()
	sent, err := dhcpv4.FromBytes(answer.Packet.ToBytes())
	if err != nil {
		t.Fatalf("the answer cannot be read: %v", err)
	}
	if sent.TransactionID != p.TransactionID || sent.ClientHWAddr.String() != p.ClientHWAddr.String() || sent.OpCode != dhcpv4.OpcodeBootReply {
		t.Errorf("the answer is not the client's: %s", sent.Summary())
	}
	if !answer.To.IsValid() || answer.To.Addr().IsUnspecified() {
		t.Errorf("sent to %s", answer.To)
	}
	if proxy && !sent.YourIPAddr.IsUnspecified() {
		t.Errorf("a ProxyDHCP gave %s", sent.YourIPAddr)
	}
	file := sent.BootFileNameOption()
	if strings.Contains(string(p.Options.Get(dhcpv4.OptionUserClassInformation)), "iPXE") && file != "" && !strings.Contains(file, netboot.ScriptPath) {
		t.Errorf("iPXE is to load %s", file)
	}
	if isIPXE(p) == false && strings.Contains(file, netboot.ScriptPath+"?") {
		t.Errorf("a firmware is to load %s", file)
	}
}
