//go:build lab

package bootservice

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/pin/tftp/v3"
	"golang.org/x/sync/errgroup"
)

const (
	machinesVariable = "MUSTER_RACK_MACHINES"
	roundsVariable   = "MUSTER_RACK_ROUNDS" // of comparing with the plain file server
)

// bootRack boots machines at once, and then compares how fast the service and a plain file server send.
func bootRack(ctx context.Context) error {
	count, err := strconv.Atoi(os.Getenv(machinesVariable))
	if err != nil {
		return err
	}
	rounds, err := strconv.Atoi(os.Getenv(roundsVariable))
	if err != nil {
		return err
	}
	wire, err := newWire("rack1")
	if err != nil {
		return err
	}
	defer wire.close()
	machines := make([]*machine, count)
	for i := range machines {
		machines[i] = &machine{wire: wire, mac: net.HardwareAddr{0x52, 0x54, 0, 0x70, byte(i >> 8), byte(i)}}
	}
	started := time.Now()
	if err := together(ctx, machines, (*machine).boot); err != nil {
		return err
	}
	fmt.Printf("%d machines booted in %s\n", count, time.Since(started).Round(time.Millisecond))
	waits := make([]time.Duration, 0, count)
	for _, m := range machines {
		waits = append(waits, m.waited)
	}
	slices.Sort(waits)
	fmt.Printf("waiting for addresses and the script: median %s, most %s\n", waits[count/2].Round(time.Millisecond), waits[count-1].Round(time.Millisecond))
	if rounds == 0 {
		return nil
	}
	return compare(ctx, machines, rounds)
}

// compare loads kernels and file systems from both servers in turns, and takes the best turn of each.
func compare(ctx context.Context, machines []*machine, rounds int) error {
	best := map[string]time.Duration{}
	for range rounds {
		for _, base := range []string{"http://" + serverAddress + ":" + plainPort, "http://" + serverAddress + ":8480/images"} {
			started := time.Now()
			err := together(ctx, machines, func(m *machine, ctx context.Context) error {
				return errors.Join(m.load(ctx, base+"/vmlinuz", kernelSize), m.load(ctx, base+"/initrd", initrdSize))
			})
			if err != nil {
				return err
			}
			if took := time.Since(started); best[base] == 0 || took < best[base] {
				best[base] = took
			}
		}
	}
	plain, own := best["http://"+serverAddress+":"+plainPort], best["http://"+serverAddress+":8480/images"]
	total := float64(len(machines)) * (kernelSize + initrdSize) / (1 << 20)
	fmt.Printf("plain file server %.0f MiB/s, boot service %.0f MiB/s, share %.0f%%\n",
		total/plain.Seconds(), total/own.Seconds(), 100*plain.Seconds()/own.Seconds())
	if plain.Seconds() < 0.9*own.Seconds() {
		return errors.New("the boot service serves less than 90% of what a plain file server does")
	}
	return nil
}

func together(ctx context.Context, machines []*machine, do func(*machine, context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, m := range machines {
		group.Go(func() error {
			if err := do(m, ctx); err != nil {
				return fmt.Errorf("%s: %w", m.mac, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// wire is the socket on which all machines of the namespace speak DHCP.
type wire struct {
	conn    *net.UDPConn
	mu      sync.Mutex
	waiting map[dhcpv4.TransactionID]chan *dhcpv4.DHCPv4
	done    chan struct{}
}

func newWire(device string) (*wire, error) {
	conn, err := server4.NewIPv4UDPConn(device, &net.UDPAddr{Port: 68})
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn, waiting: map[dhcpv4.TransactionID]chan *dhcpv4.DHCPv4{}, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		buffer := make([]byte, maxPacket)
		for {
			n, _, err := conn.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			if p, err := dhcpv4.FromBytes(buffer[:n]); err == nil {
				w.mu.Lock()
				if waiting, ok := w.waiting[p.TransactionID]; ok {
					select {
					case waiting <- p:
					default:
					}
				}
				w.mu.Unlock()
			}
		}
	}()
	return w, nil
}

func (w *wire) close() {
	w.conn.Close()
	<-w.done
}

// ask broadcasts a packet until an answer comes that suits, as clients do.
func (w *wire) ask(ctx context.Context, p *dhcpv4.DHCPv4, suits func(*dhcpv4.DHCPv4) bool) (*dhcpv4.DHCPv4, error) {
	answers := make(chan *dhcpv4.DHCPv4, 8)
	w.mu.Lock()
	w.waiting[p.TransactionID] = answers
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.waiting, p.TransactionID)
		w.mu.Unlock()
	}()
	for try := range 4 {
		if _, err := w.conn.WriteToUDP(p.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
			return nil, err
		}
		again := time.After(4 * time.Second << try) // PXE 2.1, section 2.2.3
		for waiting := true; waiting; {
			select {
			case answer := <-answers:
				if suits(answer) {
					return answer, nil
				}
			case <-again:
				waiting = false
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
	return nil, errors.New("no DHCP server answers")
}

// machine is a client with UEFI whose firmware loads iPXE, which loads a system.
type machine struct {
	*wire
	mac    net.HardwareAddr
	client *http.Client
	waited time.Duration // for packets and for the script, which is the service's own work
}

func (m *machine) boot(ctx context.Context) error {
	started := time.Now()
	file, _, err := m.address(ctx)
	if err != nil {
		return err
	}
	m.waited = time.Since(started)
	if err := loadTFTP(file); err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	started = time.Now()
	url, addr, err := m.address(ctx, dhcpv4.WithUserClass("iPXE", false))
	if err != nil {
		return fmt.Errorf("iPXE: %w", err)
	}
	if err := m.take(addr); err != nil {
		return err
	}
	script, err := m.script(ctx, url)
	if err != nil {
		return err
	}
	m.waited += time.Since(started)
	kernel, initrd := kernelLine.FindStringSubmatch(script), initrdLine.FindStringSubmatch(script)
	if kernel == nil || initrd == nil || !strings.Contains(script, "muster.action=discover") {
		return fmt.Errorf("cannot boot by this script:\n%s", script)
	}
	// The decider of the test names an address of its own.
	here := strings.NewReplacer("10.0.0.1", serverAddress+":8480")
	return errors.Join(m.load(ctx, here.Replace(kernel[1]), kernelSize), m.load(ctx, here.Replace(initrd[1]), initrdSize))
}

var (
	kernelLine = regexp.MustCompile(`(?m)^kernel (\S+) `)
	initrdLine = regexp.MustCompile(`(?m)^initrd --name initrd (\S+) `)
)

// address leases one and returns the file that the server names with it.
func (m *machine) address(ctx context.Context, options ...dhcpv4.Modifier) (string, netip.Addr, error) {
	firmware := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016")), dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64)),
		// The transaction has the machine's number, so that no two machines have the same.
		func(p *dhcpv4.DHCPv4) {
			binary.BigEndian.PutUint16(p.TransactionID[2:], binary.BigEndian.Uint16(m.mac[4:]))
		},
	}
	options = append(firmware, options...)
	discover, err := dhcpv4.NewDiscovery(m.mac, options...)
	if err != nil {
		return "", netip.Addr{}, err
	}
	offer, err := m.ask(ctx, discover, func(p *dhcpv4.DHCPv4) bool { return p.MessageType() == dhcpv4.MessageTypeOffer })
	if err != nil {
		return "", netip.Addr{}, err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, options...)
	if err != nil {
		return "", netip.Addr{}, err
	}
	ack, err := m.ask(ctx, request, func(p *dhcpv4.DHCPv4) bool { return p.MessageType() != dhcpv4.MessageTypeOffer })
	if err != nil {
		return "", netip.Addr{}, err
	}
	addr, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if ack.MessageType() != dhcpv4.MessageTypeAck || !addr.IsValid() || ack.BootFileNameOption() == "" {
		return "", netip.Addr{}, fmt.Errorf("cannot boot by this answer:\n%s", ack.Summary())
	}
	return ack.BootFileNameOption(), addr, nil
}

// take gives the machine its address, from which it speaks HTTP.
func (m *machine) take(addr netip.Addr) error {
	if out, err := exec.Command("ip", "address", "replace", addr.String()+"/16", "dev", "rack1").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))}
	m.client = &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	return nil
}

func (m *machine) script(ctx context.Context, url string) (string, error) {
	response, err := m.get(ctx, url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	script, err := io.ReadAll(response.Body)
	return string(script), err
}

func (m *machine) get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := m.client.Do(request)
	if err == nil && response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return response, err
}

// load fetches a file and compares all of it.
func (m *machine) load(ctx context.Context, url string, size int) error {
	response, err := m.get(ctx, url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, response.Body); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if sum.Sum32() != sums[size] {
		return fmt.Errorf("%s came wrong", url)
	}
	return nil
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	sums       = map[int]uint32{
		kernelSize: crc32.Checksum(noise(kernelSize), castagnoli), initrdSize: crc32.Checksum(noise(initrdSize), castagnoli),
	}
)

func loadTFTP(file string) error {
	client, err := tftp.NewClient(serverAddress + ":69")
	if err != nil {
		return err
	}
	client.SetBlockSize(1468)
	from, err := client.Receive(file, "octet")
	if err != nil {
		return err
	}
	var got bytes.Buffer
	if _, err := from.WriteTo(&got); err != nil {
		return err
	}
	if !bytes.Equal(got.Bytes(), noise(loaderSize)) {
		return fmt.Errorf("%s came wrong: %d bytes", file, got.Len())
	}
	return nil
}
