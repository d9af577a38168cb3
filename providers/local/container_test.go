package local

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/providers"
)

// testHost is a container that exists in memory only.
func testHost(change func(*container)) (host, endpoint) {
	id := providers.Identity{Cluster: testCluster, Host: "box-1", Generation: 2}
	c := &container{Image: "/srv/image/tree", Network: netip.MustParsePrefix("10.93.0.0/24")}
	change(c)
	return host{dir: "/srv/hosts/a:b/box-1-2", record: record{
		InstanceID: "0123456789abcdef0123456789abcdef", Tags: id.Tags(), Container: c,
	}}, endpoint{address: netip.MustParseAddr("10.93.0.17")}
}

// TestContainerIsGiven shows everything with which a container starts.
func TestContainerIsGiven(t *testing.T) {
	h, at := testHost(func(c *container) { c.NAT = true })
	leases := leaseDir{dir: "/tmp/muster-local-0"}
	var b strings.Builder
	fmt.Fprintf(&b, "-- command --\n%s\n", strings.Join(h.nspawn("/opt/muster/musterd", leases.bridgeOf(h.Container.Network, true)), "\n"))
	for _, file := range h.layer(at, surroundings{resolv: "nameserver 192.0.2.1\n"}) {
		fmt.Fprintf(&b, "-- /%s --\n%s", file.path, file.content)
	}
	seed, err := h.seed([]byte("#cloud-config\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"meta-data", "user-data"} {
		fmt.Fprintf(&b, "-- seed/%s --\n%s", name, seed[name])
	}
	golden.Compare(t, "testdata/container.golden", b.String())
}

// TestContainerIsToldNoMore has a container without NAT on a machine whose control groups limit processes.
func TestContainerIsToldNoMore(t *testing.T) {
	h, at := testHost(func(*container) {})
	for _, file := range h.layer(at, surroundings{resolv: "nameserver 192.0.2.1\n", pids: true}) {
		if strings.Contains(file.path, "resolv.conf") || strings.Contains(file.path, "containers.conf") {
			t.Errorf("it is given %s", file.path)
		}
	}
}

func TestNamesOfInterfaces(t *testing.T) {
	h, _ := testHost(func(*container) {})
	b := machineLeases().bridgeOf(h.Container.Network, false)
	for _, name := range []string{h.vethName(), b.name} {
		if len(name) > 15 {
			t.Errorf("%s has more than 15 characters", name)
		}
	}
	other := leaseDir{dir: "/elsewhere"}.bridgeOf(h.Container.Network, false)
	if other.name == b.name || other.mark == b.mark {
		t.Errorf("bridges of other leases are %v, too", b)
	}
}

func TestAddressesOfANetwork(t *testing.T) {
	for network, want := range map[string]int{"10.93.0.0/24": 253, "192.168.1.8/29": 5, "172.16.0.0/16": 65533} {
		prefix := netip.MustParsePrefix(network)
		seen := map[netip.Addr]bool{}
		for e := range networkAddresses(prefix)("seed") {
			after := e.address.Next()
			if !prefix.Contains(e.address) || e.address == prefix.Addr() || e.address == gateway(prefix) || !prefix.Contains(after) {
				t.Fatalf("%s has %s", network, e.address)
			}
			if e.ports != (providers.Ports{}) {
				t.Fatalf("%s has ports %v", e.address, e.ports)
			}
			seen[e.address] = true
		}
		if len(seen) != want {
			t.Errorf("%s has %d addresses for hosts, want %d", network, len(seen), want)
		}
	}
}

// TestNetworkIsFull leases every address of a small network and one more.
func TestNetworkIsFull(t *testing.T) {
	h, _ := testHost(func(c *container) { c.Network = netip.MustParsePrefix("10.93.0.0/29") })
	l := testLeases(t).of(h)
	if l.anyIn(h.Container.Network) {
		t.Error("somebody has an address before anybody asked")
	}
	dirs := hostDirs(t, 6)
	for i, dir := range dirs {
		_, err := l.acquire(t.Context(), dir, "seed")
		if (err == nil) != (i < 5) {
			t.Errorf("host %d: %v", i, err)
		}
		if err != nil && (!errors.Is(err, providers.ErrConflict) || !strings.Contains(err.Error(), "set `network:` to a wider one")) {
			t.Error(err)
		}
	}
	if !l.anyIn(h.Container.Network) || l.anyIn(netip.MustParsePrefix("10.94.0.0/24")) {
		t.Error("the network whose addresses are leased is not found")
	}
}

func TestValidateContainers(t *testing.T) {
	good := Config{Boot: bootNspawn, Image: "tree", Network: netip.MustParsePrefix("10.93.0.0/24")}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		fields []string
	}{
		{"good", func(*Config) {}, nil},
		{"no image", func(c *Config) { c.Image = "" }, []string{"image"}},
		{"programs of the machine", func(c *Config) { c.Path = []string{"bin"} }, []string{"path"}},
		{"public network", func(c *Config) { c.Network = netip.MustParsePrefix("192.0.2.0/24") }, []string{"network"}},
		{"address", func(c *Config) { c.Network = netip.MustParsePrefix("10.93.0.1/24") }, []string{"network"}},
		{"IPv6", func(c *Config) { c.Network = netip.MustParsePrefix("fd00::/64") }, []string{"network"}},
		{"narrow", func(c *Config) { c.Network = netip.MustParsePrefix("10.93.0.0/30") }, []string{"network"}},
		{"none", func(c *Config) { c.Network = netip.Prefix{} }, []string{"network"}},
		{"other boot", func(c *Config) { c.Boot = "docker" }, []string{"boot"}},
		{"process", func(c *Config) { *c = *NewConfig() }, nil},
		{"process with what containers have", func(c *Config) { c.Boot, c.NAT = "", true }, []string{"image", "nat"}},
	} {
		config := good
		tt.change(&config)
		var fields []string
		for _, p := range config.Validate() {
			fields = append(fields, p.Field)
		}
		if !slices.Equal(fields, tt.fields) {
			t.Errorf("%s: problems in %v, want %v", tt.name, fields, tt.fields)
		}
	}
}

func TestSettingsOfContainers(t *testing.T) {
	p := testProvider(t, shortDir(t))
	p.container = &container{}
	defer func() { p.container = nil }()
	_, err := p.settingsOf(&Settings{Env: map[string]string{"A": "b"}})
	if !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "`env:`") {
		t.Errorf("got %v", err)
	}
}

// TestConsole reads what a host that is a process has logged, and follows it until it is gone.
func TestConsole(t *testing.T) {
	p := testProvider(t, shortDir(t))
	made, h := create(t, p, request("web-1", nil))
	await(t, "the log", func() bool {
		data, _ := os.ReadFile(h.path(logFile))
		return len(data) > 0
	})
	var said bytes.Buffer
	if err := p.Console(t.Context(), made, false, &said); err != nil || said.String() != "stand-in is ready\n" {
		t.Errorf("%q, %v", &said, err)
	}
	var followed bytes.Buffer
	ended := make(chan error, 1)
	go func() { ended <- p.Console(t.Context(), made, true, &followed) }()
	if err := p.Destroy(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil && !errors.Is(err, providers.ErrNotFound) || err == nil && followed.String() != said.String() {
		t.Errorf("%q, %v", &followed, err)
	}
	if err := p.Console(t.Context(), made, false, &said); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("the console of no host: %v", err)
	}
}
