package bootservice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/pin/tftp/v3"

	"github.com/musterhq/muster/providers/metal/dhcp"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// machines decides for machines that are kept in memory, all of which install.
type machines struct {
	mu    sync.Mutex
	known map[string]netboot.Machine
	err   error
}

func (m *machines) Boot(_ context.Context, request netboot.Request) (Boot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	decision, next := netboot.Decide(m.known[request.MAC], request)
	if next.State != "" {
		m.known[request.MAC] = next
	}
	return Boot{
		Decision: decision,
		System:   netboot.System{Kernel: "http://10.0.0.1/images/vmlinuz", Initrd: "http://10.0.0.1/images/initrd"},
		Task: netboot.Task{
			Server: "https://10.0.0.1:8443", CA: strings.Repeat("ab", 32), Image: "http://10.0.0.1/images/host.img",
			SHA256: strings.Repeat("0f", 32), Boot: strings.Repeat("5c", 16),
		},
	}, m.err
}

// loader is longer than a block and no multiple of one.
var loader = noise(100_001)

func noise(size int) []byte {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(b)
	return b
}

func testConfig(t testing.TB) Config {
	t.Helper()
	image := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(image, loader, 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{
		DHCP: dhcp.Config{
			Server: netip.MustParseAddr("127.0.0.1"), HTTP: "http://127.0.0.1:8480",
			Loaders: map[dhcp.Platform]string{{Arch: netboot.AMD64, Firmware: netboot.UEFI}: "ipxe.efi"},
		},
		Loaders: map[string][]byte{"ipxe.efi": loader},
		Images:  map[string]string{"vmlinuz": image, "gone": image + "x", "folder": filepath.Dir(image)},
		Decider: &machines{known: map[string]netboot.Machine{"52:54:00:00:00:01": {State: netboot.Installing, Attempt: 1}}},
		Log:     slog.New(slog.DiscardHandler),
	}
}

// serve serves a configuration on ports of the loopback until the test ends.
func serve(t testing.TB, config Config) Sockets {
	t.Helper()
	service, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	var sockets Sockets
	for _, conn := range []**net.UDPConn{&sockets.DHCP, &sockets.BINL, &sockets.TFTP} {
		if *conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if sockets.HTTP, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- service.Serve(ctx, sockets) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return sockets
}

func TestTFTP(t *testing.T) {
	sockets := serve(t, testConfig(t))
	client, err := tftp.NewClient(sockets.TFTP.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	client.RequestTSize(true)
	for _, size := range []int{512, 1024, 1468} {
		client.SetBlockSize(size)
		from, err := client.Receive("/ipxe.efi", "octet")
		if err != nil {
			t.Fatal(err)
		}
		if told, ok := from.(tftp.IncomingTransfer).Size(); !ok || told != int64(len(loader)) {
			t.Errorf("told a size of %d, %t", told, ok)
		}
		var got bytes.Buffer
		if _, err := from.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), loader) {
			t.Errorf("blocks of %d: %d bytes, %v", size, got.Len(), err)
		}
	}
	for _, name := range []string{"../../etc/passwd", "vmlinuz", ""} {
		if _, err := client.Receive(name, "octet"); err == nil || !strings.Contains(err.Error(), "no file of this name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := client.Send("ipxe.efi", "octet"); err == nil {
		t.Error("a file was taken")
	}
}

func TestTFTPTransfersAreBounded(t *testing.T) {
	service, err := New(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	for range maxTransfers {
		service.transfers <- struct{}{}
	}
	if err := service.transfer(t.Context(), "ipxe.efi", nil); err == nil || !strings.Contains(err.Error(), "try again") {
		t.Error(err)
	}
}

func TestHTTP(t *testing.T) {
	config := testConfig(t)
	service, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(service.Handler())
	defer server.Close()
	const known = "?mac=52:54:00:00:00:01&arch=amd64&firmware=bios"
	for _, tt := range []struct {
		method, path, span string
		status             int
		want               string
	}{
		{"GET", "/images/vmlinuz", "", 200, string(loader)},
		{"GET", "/images/vmlinuz", "bytes=10-19", 206, string(loader[10:20])},
		{"GET", "/images/vmlinuz", "bytes=-5", 206, string(loader[len(loader)-5:])},
		{"GET", "/images/vmlinuz", "bytes=999999-", 416, ""},
		{"HEAD", "/images/vmlinuz", "", 200, ""},
		{"GET", "/images/gone", "", 500, "cannot open"},
		{"GET", "/images/folder", "", 500, "cannot read"},
		{"GET", "/images/..%2f..%2fetc%2fpasswd", "", 404, ""},
		{"GET", "/files/ipxe.efi", "", 200, string(loader)},
		{"GET", "/files/other", "", 404, ""},
		{"PUT", "/files/ipxe.efi", "", 405, ""},
		{"HEAD", "/script" + known, "", 405, ""},
		{"GET", "/script" + known, "", 200, "muster.action=install"},
		{"GET", "/script" + strings.Replace(known, ":01", ":02", 1), "", 200, "muster.action=discover"},
		{"GET", "/script", "", 400, "which machine"},
	} {
		status, body := fetch(t, tt.method, server.URL+tt.path, tt.span)
		if status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s %s: %d with %d bytes, want %d", tt.method, tt.path, tt.span, status, len(body), tt.status)
		}
	}
	if got := config.Decider.(*machines).known["52:54:00:00:00:01"].Boots; got != 1 {
		t.Errorf("%d boots counted, want 1", got)
	}
	config.Decider.(*machines).err = errors.New("the disk of the service is full, secret path")
	if status, body := fetch(t, "GET", server.URL+"/script"+known, ""); status != 503 || strings.Contains(body, "secret") {
		t.Errorf("%d: %s", status, body)
	}
}

func fetch(t *testing.T, method, url, span string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if span != "" {
		request.Header.Set("Range", span)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// A UEFI client asks the PXE port for its file.
func TestBINL(t *testing.T) {
	sockets := serve(t, testConfig(t))
	conn, err := net.DialUDP("udp4", nil, sockets.BINL.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient")), dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64)))
	if err != nil {
		t.Fatal(err)
	}
	// What nobody understands is passed over.
	for _, packet := range [][]byte{{}, {1, 2, 3}, request.ToBytes()} {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	buffer := make([]byte, maxPacket)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := dhcpv4.FromBytes(buffer[:n])
	if err != nil || answer.TransactionID != request.TransactionID || answer.BootFileNameOption() != "ipxe.efi" {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestNewRefuses(t *testing.T) {
	for want, bend := range map[string]func(*Config){
		"no such loader":    func(c *Config) { c.Loaders = nil },
		"no name of a file": func(c *Config) { c.Images["a/b"] = "c" },
		"URL":               func(c *Config) { c.DHCP.HTTP = "" },
	} {
		config := testConfig(t)
		bend(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestReadLoaders(t *testing.T) {
	directory := t.TempDir()
	if _, _, err := ReadLoaders(directory); err == nil || !strings.Contains(err.Error(), "install the package ipxe") {
		t.Error(err)
	}
	for _, name := range []string{"undionly.kpxe", "snponly.efi", "README"} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, contents, err := ReadLoaders(directory)
	want := map[dhcp.Platform]string{
		{Arch: netboot.AMD64, Firmware: netboot.BIOS}: "undionly.kpxe", {Arch: netboot.AMD64, Firmware: netboot.UEFI}: "snponly.efi",
	}
	if err != nil || fmt.Sprint(names) != fmt.Sprint(want) || len(contents) != 2 || string(contents["snponly.efi"]) != "snponly.efi" {
		t.Errorf("%v, %q, %v", names, contents, err)
	}
}

// FuzzTFTP sends anything to the server, and then asks for a file, which must come whole.
func FuzzTFTP(f *testing.F) {
	for _, seed := range []string{
		"\x00\x01ipxe.efi\x00octet\x00", "\x00\x01ipxe.efi\x00octet\x00blksize\x000\x00", "\x00\x01ipxe.efi\x00netascii\x00tsize\x00-1\x00",
		"\x00\x01/\x00octet\x00blksize\x0099999\x00windowsize\x0064\x00", "\x00\x02ipxe.efi\x00octet\x00", "\x00\x05\x00", "", "\x00\x01",
	} {
		f.Add([]byte(seed))
	}
	config := testConfig(f)
	config.Loaders["small"] = []byte("whole")
	sockets := serve(f, config)
	f.Fuzz(func(t *testing.T, packet []byte) {
		abortAll(t, sockets.TFTP.LocalAddr().(*net.UDPAddr), packet)
		client, err := tftp.NewClient(sockets.TFTP.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		from, err := client.Receive("small", "octet")
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := from.WriteTo(&got); err != nil || got.String() != "whole" {
			t.Fatalf("%q, %v", got.String(), err)
		}
	})
}

// abortAll sends a packet and ends the transfer that it may have begun.
func abortAll(t *testing.T, server *net.UDPAddr, packet []byte) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.WriteToUDP(packet[:min(len(packet), 1400)], server); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 64<<10)
	// What never answers is waited for this long; what answers late is given up by the server itself.
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, from, err := conn.ReadFromUDP(buffer); err == nil {
		_, _ = conn.WriteToUDP([]byte("\x00\x05\x00\x00\x00"), from)
	}
}
