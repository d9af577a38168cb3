package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"
	"github.com/kdomanski/iso9660"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/providers"
)

const testCluster = "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a001"

var (
	web1    = providers.Identity{Cluster: testCluster, Host: "web-1", Generation: 1}
	ours    = owner{cluster: testCluster, provider: "cloud-a"}
	created = time.Date(2026, 11, 23, 7, 30, 0, 0, time.UTC)
)

func testGuest(change func(*guest)) guest {
	g := guest{
		id: web1, record: recordOf(web1, "cloud-a", created), settings: *NewSettings(),
		machine: machine{domainType: typeKVM, arch: "x86_64"},
		disks:   disks{disk: "/pool/disk.qcow2", seed: "/pool/seed.iso", console: "/pool/console.log"},
		plug:    plug{network: "muster-6f1c3b6e-cloud-a", mac: macOf(web1)},
	}
	change(&g)
	return g
}

func TestDomainXML(t *testing.T) {
	for name, change := range map[string]func(*guest){
		"kvm-bios": func(*guest) {},
		"qemu-uefi": func(g *guest) {
			g.machine.domainType, g.settings.Firmware, g.settings.CPUs, g.settings.Memory = typeQEMU, firmwareUEFI, 2, 512<<20
		},
		"direct-bridge": func(g *guest) {
			g.settings.Firmware, g.settings.Cmdline = firmwareDirect, "root=/dev/vda1 console=ttyS0 quote=\"<&>\""
			g.disks.kernel, g.disks.initrd = "/pool/kernel", "/pool/initrd"
			g.plug = plug{bridge: "br0", mac: "52:54:00:12:34:56"}
		},
		"aarch64-uefi": func(g *guest) { g.machine.arch, g.settings.Firmware = "aarch64", firmwareUEFI },
	} {
		t.Run(name, func(t *testing.T) {
			got, err := domainXML(testGuest(change))
			if err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, "testdata/domain-"+name+".xml", got+"\n")
		})
	}
}

func TestOtherXML(t *testing.T) {
	for name, render := range map[string]func() (string, error){
		"network": func() (string, error) { return networkXML(ours, netip.MustParsePrefix("10.70.1.0/24")) },
		"pool":    func() (string, error) { return poolXML("/var/lib/libvirt/images/muster") },
		"clone": func() (string, error) {
			base := &image{path: "/pool/" + imageName(strings.Repeat("ab", 32)), format: formatQCOW2}
			return volumeXML(volumeSpec{name: ours.volumes(web1).disk, format: formatQCOW2, capacity: 10 << 30, backing: base, mode: "0600"})
		},
		"probe": func() (string, error) {
			return probeXML(machine{domainType: typeKVM, arch: "x86_64"}, "muster-probe-1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := render()
			if err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, "testdata/"+name+".xml", got+"\n")
		})
	}
}

func TestRecord(t *testing.T) {
	want := recordOf(web1, "cloud-a", created)
	text, err := want.marshal(false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseRecord(text)
	if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(record{})) {
		t.Errorf("read %+v, %v, want %+v", got, err, want)
	}
	if id, ok := got.identity(); !ok || id != web1 {
		t.Errorf("identity %v %v", id, ok)
	}
	if _, err := parseRecord("<broken"); err == nil {
		t.Error("broken metadata passes")
	}
}

// TestNames holds names fixed: another version of muster must find what this one made.
func TestNames(t *testing.T) {
	network, bridge, uuid := ours.network()
	pool, poolUUID := ownPool(defaultPool)
	got := []string{
		domainName(web1), uuidString(uuidOf(web1)), macOf(web1), network, bridge, uuidString(uuid), ours.subnet(0).String(),
		ours.subnet(1).String(), pool, uuidString(poolUUID), imageName("SHA"),
	}
	golden.Compare(t, "testdata/names.txt", strings.Join(append(got, ours.volumes(web1).all()...), "\n")+"\n")
	if len(bridge) > 15 {
		t.Errorf("bridge %q is longer than an interface's name may be", bridge)
	}
	if strings.ReplaceAll(uuidString(uuidOf(web1)), "-", "") != web1.ID() {
		t.Error("the machine's UUID is not the host's ID")
	}
}

// TestNamesAreDistinct gives every host of every owner names of its own.
func TestNamesAreDistinct(t *testing.T) {
	seen := map[string]string{}
	for _, o := range []owner{ours, {testCluster, "cloud-b"}, {testCluster, "cloud"}, {strings.Replace(testCluster, "1", "2", 1), "cloud-a"}} {
		for _, host := range []string{"web", "web-1", "a-web"} {
			for _, generation := range []int{1, 11} {
				name := o.volumes(providers.Identity{Cluster: o.cluster, Host: host, Generation: generation}).disk
				if before, dup := seen[name]; dup {
					t.Errorf("%s is of %v and of %s", name, o, before)
				}
				seen[name] = fmt.Sprint(o, host, generation)
				for _, other := range []owner{{testCluster, "cloud-b"}, {testCluster, "cloud"}} {
					if o != other && strings.HasPrefix(name, other.volumePrefix()) {
						t.Errorf("%s of %v passes for one of %v", name, o, other)
					}
				}
			}
		}
	}
}

// TestSubnets walks through every subnet that an owner may have.
func TestSubnets(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	within := netip.MustParsePrefix("10.64.0.0/12")
	for nth := range subnetCount {
		subnet := ours.subnet(nth)
		if !within.Overlaps(subnet) || seen[subnet] {
			t.Fatalf("choice %d is %s", nth, subnet)
		}
		seen[subnet] = true
	}
	p := &Provider{}
	subnet, nth, err := p.chooseSubnet(ours, 0, []netip.Prefix{ours.subnet(0), ours.subnet(1)})
	if err != nil || nth != 2 || subnet != ours.subnet(2) {
		t.Errorf("chose %s (%d), %v", subnet, nth, err)
	}
	if _, _, err := p.chooseSubnet(ours, 0, []netip.Prefix{within}); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("every subnet is taken: %v", err)
	}
}

func TestAddressOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(20, 29).Draw(t, "bits")
		subnet := netip.PrefixFrom(netip.MustParseAddr("10.70.0.0"), bits)
		first, last := ends(subnet)
		taken := map[netip.Addr]bool{}
		for i := range min(1<<(32-bits)-3, 40) {
			address, ok := addressOf(subnet, ours, fmt.Sprintf("web-%d", i), func(a netip.Addr) bool { return taken[a] })
			if !ok || taken[address] || !subnet.Contains(address) || address.Compare(first) <= 0 || address.Compare(last) > 0 {
				t.Fatalf("host %d of %s: %v %v", i, subnet, address, ok)
			}
			taken[address] = true
		}
	})
	if address, ok := addressOf(netip.MustParsePrefix("10.70.0.0/29"), ours, "web-1", func(netip.Addr) bool { return true }); ok {
		t.Errorf("a full subnet has %s", address)
	}
}

func TestParseNetwork(t *testing.T) {
	for _, element := range []string{"prefix='24'", "netmask='255.255.255.0'"} {
		n, err := parseNetwork(`<network><name>n</name><ip address='10.70.1.1' ` + element + `><dhcp>
			<host mac='52:AA:00:00:00:01' ip='10.70.1.7'/></dhcp></ip><ip family='ipv6' address='fd00::1' prefix='64'/></network>`)
		want := map[string]netip.Addr{"52:aa:00:00:00:01": netip.MustParseAddr("10.70.1.7")}
		if err != nil || n.subnet.String() != "10.70.1.0/24" || !cmp.Equal(n.reservations, want, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
			t.Errorf("%s: read %+v, %v", element, n, err)
		}
	}
}

func TestSeed(t *testing.T) {
	address := netip.MustParseAddr("10.70.1.7")
	data, err := seedImage(web1, []byte("#cloud-config\nhostname: web-1\n"), address)
	if err != nil {
		t.Fatal(err)
	}
	again, err := seedImage(web1, []byte("#cloud-config\nhostname: web-1\n"), address)
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("the same seed is made of other bytes (%v)", err)
	}
	volume, err := iso9660.OpenImage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if label, err := volume.Label(); err != nil || label != "cidata" {
		t.Errorf("label %q, %v", label, err)
	}
	root, err := volume.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	children, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, child := range children {
		content, err := io.ReadAll(child.Reader())
		if err != nil {
			t.Fatal(err)
		}
		got[child.Name()] = string(content)
	}
	want := map[string]string{
		"user-data": "#cloud-config\nhostname: web-1\n",
		"meta-data": "instance-id: \"" + web1.ID() + "\"\nlocal-hostname: \"web-1\"\nlocal-ipv4: \"10.70.1.7\"\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seed (-want +got):\n%s", diff)
	}
}

func TestParseHeader(t *testing.T) {
	qcow2 := func(backing string) []byte {
		data := make([]byte, 1024)
		copy(data, "QFI\xfb\x00\x00\x00\x03")
		data[24+3] = 1 // 4 GiB
		if backing != "" {
			data[14], data[15], data[19] = 2, 0, byte(len(backing)) // at 512
			copy(data[512:], backing)
		}
		return data
	}
	for _, tt := range []struct {
		data []byte
		want header
	}{
		{nil, header{format: formatRaw}},
		{make([]byte, 512), header{format: formatRaw}},
		{qcow2(""), header{format: formatQCOW2, virtual: 1 << 32}},
		{qcow2("/pool/base"), header{format: formatQCOW2, virtual: 1 << 32, backing: "/pool/base"}},
		{qcow2("/pool/base")[:515], header{format: formatQCOW2, virtual: 1 << 32, backing: "?"}},
	} {
		if got := parseHeader(tt.data); got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.data[:min(len(tt.data), 32)], got, tt.want)
		}
	}
	path := writeFile(t, filepath.Join(t.TempDir(), "image"), qcow2("/pool/base"))
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := wholeImage(file); !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "qemu-img convert") {
		t.Errorf("an image that needs another: %v", err)
	}
}

func TestClassified(t *testing.T) {
	code := func(code golibvirt.ErrorNumber, message string) error {
		return fmt.Errorf("volume x: %w", golibvirt.Error{Code: uint32(code), Message: message})
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{code(golibvirt.ErrNoDomain, "Domain not found"), "not-found"},
		{code(golibvirt.ErrOperationFailed, "domain 'x' already exists with uuid y"), "conflict"},
		{code(golibvirt.ErrAccessDenied, "access denied"), "auth"},
		{code(golibvirt.ErrXMLError, "XML error: x"), "invalid"},
		{code(golibvirt.ErrInternalError, "cannot set up guest memory 'pc.ram': Cannot allocate memory"), "quota"},
		{code(golibvirt.ErrSystemError, "cannot fill file: No space left on device"), "quota"},
		{code(golibvirt.ErrOperationTimeout, "cannot acquire state change lock"), "unavailable"},
		{code(golibvirt.ErrInternalError, "something"), "unknown"},
		{golibvirt.ErrInterrupted, "unavailable"},
		{io.EOF, "unavailable"},
		{fmt.Errorf("mine: %w", providers.ErrQuota), "quota"},
		{context.Canceled, "canceled"},
		{nil, ""},
	} {
		if got := providers.Class(classified(tt.err)); got != tt.want {
			t.Errorf("%v is of class %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestUsable(t *testing.T) {
	at := func(name string, addresses ...string) golibvirt.DomainInterface {
		i := golibvirt.DomainInterface{Name: name}
		for _, a := range addresses {
			i.Addrs = append(i.Addrs, golibvirt.DomainIPAddr{Addr: a})
		}
		return i
	}
	got := usable([]golibvirt.DomainInterface{
		at("lo", "127.0.0.1"), at("enp1s0", "fe80::1", "fd00::7", "192.168.1.7"), at("docker0", "172.17.0.1"), at("vnet0", "192.168.1.7"),
	})
	if fmt.Sprint(got) != "[192.168.1.7 fd00::7]" {
		t.Errorf("usable: %v", got)
	}
}

func TestInstanceState(t *testing.T) {
	for _, tt := range []struct {
		state  golibvirt.DomainState
		reason golibvirt.DomainPausedReason
		phase  phase
		want   providers.State
	}{
		{golibvirt.DomainRunning, 0, phaseLaunched, providers.StateRunning},
		{golibvirt.DomainPaused, golibvirt.DomainPausedStartingUp, phaseLaunched, providers.StatePending},
		{golibvirt.DomainPaused, golibvirt.DomainPausedIoerror, phaseLaunched, providers.StateStopped},
		{golibvirt.DomainShutoff, 0, phaseLaunched, providers.StateStopped},
		{golibvirt.DomainCrashed, 0, phaseLaunched, providers.StateStopped},
		{golibvirt.DomainShutoff, 0, phaseEnding, providers.StateFailed},
	} {
		if got := instanceState(domain{state: tt.state, reason: int32(tt.reason), record: record{phase: tt.phase}}); got != tt.want {
			t.Errorf("%+v is %s", tt, got)
		}
	}
}

func TestParseCapabilities(t *testing.T) {
	m, err := parseCapabilities(`<domainCapabilities><domain>kvm</domain><arch>x86_64</arch><os supported='yes'>
		<enum name='firmware'><value>efi</value></enum></os></domainCapabilities>`)
	if err != nil || m != (machine{domainType: typeKVM, arch: "x86_64", uefi: true}) {
		t.Errorf("%+v, %v", m, err)
	}
	if err := (machine{arch: "x86_64"}).checkFirmware(firmwareUEFI); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("no OVMF: %v", err)
	}
	if _, err := parseCapabilities(`<domainCapabilities><domain>qemu</domain><arch>s390x</arch></domainCapabilities>`); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("s390x: %v", err)
	}
}

func TestDriverOpens(t *testing.T) {
	d := Driver()
	if _, err := d.Open("cloud-a", d.NewConfig(), providers.Environment{}); err != nil {
		t.Error(err)
	}
	for name, config := range map[string]any{"another driver's": new(int), "empty": new(Config)} {
		if _, err := d.Open("cloud-a", config, providers.Environment{}); !errors.Is(err, providers.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
