package local

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// The values of Config.Boot.
const (
	bootProcess = "process"
	bootNspawn  = "nspawn"
)

// container is what a host has that is a container. It is part of the host's record: what the cluster file says later is
// for later hosts.
type container struct {
	Image   string       `json:"image"`   // absolute: the directory of a root file system, or a file with one as squashfs
	Network netip.Prefix `json:"network"` // of the bridge
	NAT     bool         `json:"nat,omitempty"`
}

// What the directory of a container holds beside the files that every host has. Only upper and var are written to by the
// container; nothing here follows a path inside them.
const (
	lowerDir    = "lower" // where the image is mounted
	layerDir    = "layer" // the provider's own files over the image
	upperDir    = "upper" // what the host changes of both
	workDir     = "work"  // overlayfs's
	rootDir     = "root"  // where all three are mounted
	varDir      = "var"   // the host's /var: no overlay, so that the host can have overlays on it
	seedDir     = "seed"  // the host's NoCloud data source
	consoleFile = "console.log"
)

// Names on this machine that follow from the host's instance ID. Those of interfaces have at most 15 characters
// (IFNAMSIZ); systemd-nspawn puts "vb-" before the machine's.
func (h host) machineName() string { return "m" + h.InstanceID[:10] }
func (h host) vethName() string    { return "vb-" + h.machineName() }
func (h host) groupName() string   { return "muster-" + h.InstanceID }

// nspawn is the command that runs a host's system: with an init of its own and without asking the machine's systemd, if
// there is one, for anything. Podman wants keyrings.
func (h host) nspawn(musterd string, b bridge) []string {
	return []string{
		"systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--link-journal=no",
		"--resolv-conf=off", "--timezone=off", "--console=read-only", "--system-call-filter=@keyring bpf",
		h.directoryArgument(), "--machine=" + h.machineName(), "--hostname=" + h.identity().Host, "--uuid=" + h.identity().ID(),
		"--bind=" + escapeBind(h.path(varDir)) + ":/var",
		"--bind-ro=" + escapeBind(h.path(seedDir)) + ":/var/lib/cloud/seed/nocloud",
		"--bind-ro=" + escapeBind(musterd) + ":/usr/bin/musterd",
		"--network-bridge=" + b.name,
		"--setenv=TERM=dumb", "--setenv=SYSTEMD_COLORS=0", // of what systemd says on the console
	}
}

// directoryArgument tells a host's systemd-nspawn from all others.
func (h host) directoryArgument() string { return "--directory=" + h.path(rootDir) }

// escapeBind quotes a path for --bind= of systemd-nspawn(1).
func escapeBind(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(path)
}

// containerFile is a file that the provider gives to a container.
type containerFile struct {
	path    string
	content string // "" is a link to /dev/null, which masks a unit
}

// surroundings are what a container must know of this machine.
type surroundings struct {
	resolv string // the content of resolv.conf
	pids   bool   // whether control groups can limit how many processes there are
}

// layer is what lies over the image: who the host is, and its address.
func (h host) layer(at endpoint, machine surroundings) []containerFile {
	files := []containerFile{
		{"etc/machine-id", h.identity().ID() + "\n"},
		{"etc/systemd/network/10-muster.network", h.networkFile(at)},
		{"etc/systemd/system/console-getty.service", ""}, // nobody can type there
	}
	if h.Container.NAT {
		files = append(files, containerFile{"etc/resolv.conf", cmp.Or(machine.resolv, "\n")})
	}
	if !machine.pids { // podman would insist on its default limit
		files = append(files, containerFile{"etc/containers/containers.conf.d/50-muster.conf", "[containers]\npids_limit = 0\n"})
	}
	return files
}

// networkFile is the systemd.network(5) of a container. The hardware address follows from the other one, so that
// neighbours need not forget a host before its successor.
func (h host) networkFile(at endpoint) string {
	ip := at.address.As4()
	return fmt.Sprintf(`[Match]
Name=host0

[Link]
MACAddress=02:6d:%02x:%02x:%02x:%02x

[Network]
Address=%s/%d
Gateway=%s
LinkLocalAddressing=no
IPv6AcceptRA=no
`, ip[0], ip[1], ip[2], ip[3], at.address, h.Container.Network.Bits(), gateway(h.Container.Network))
}

// seed is the content of a container's data source.
func (h host) seed(userData []byte) (map[string][]byte, error) {
	meta, err := json.Marshal(map[string]string{"instance-id": h.InstanceID, "local-hostname": h.identity().Host})
	return map[string][]byte{"meta-data": append(meta, '\n'), "user-data": userData}, err
}

// gateway is the machine's own address in a network: the first.
func gateway(network netip.Prefix) netip.Addr { return network.Addr().Next() }

// validateContainer reports what cannot be among the fields that say how hosts boot: field, message, hint.
func (c *Config) validateContainer(add func(field, message, hint string)) {
	switch cmp.Or(c.Boot, bootProcess) {
	case bootProcess:
		if c.Image != "" {
			add("image", "only containers have an image", "add `boot: nspawn`")
		}
		if c.NAT {
			add("nat", "only containers have a network of their own", "add `boot: nspawn`")
		}
	case bootNspawn:
		if c.Image == "" {
			add("image", "a container needs an image", "build one with `make image`, and name the directory tree/ in it")
		}
		if len(c.Path) > 0 {
			add("path", "a container has its image's programs only", "leave it out, or put the programs into the image")
		}
		if n := c.Network; !n.IsValid() || !n.Addr().Is4() || n != n.Masked() || n.Bits() < 16 || n.Bits() > 29 || !n.Addr().IsPrivate() {
			add("network", fmt.Sprintf("%s is not a private IPv4 network of 8 to 65536 addresses", n), "write one such as 10.93.1.0/24")
		}
	default:
		add("boot", fmt.Sprintf("%q is neither %s nor %s", c.Boot, bootProcess, bootNspawn), "")
	}
}
