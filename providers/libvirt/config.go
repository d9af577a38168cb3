package libvirt

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/musterhq/muster/providers"
)

// Config configures one provider: a libvirt daemon, and where hosts live in it. Relative paths begin at the cluster
// file's directory.
type Config struct {
	URI        string        `yaml:"uri" jsonschema:"description=The daemon: qemu:///system\\, qemu+tls://HOST/system or qemu+ssh://USER@HOST/system; ?socket=PATH names another socket,default=qemu:///system"`
	TLS        TLS           `yaml:"tls" jsonschema:"description=How to authenticate to a daemon at qemu+tls"`
	SSH        SSH           `yaml:"ssh" jsonschema:"description=How to authenticate to a daemon at qemu+ssh"`
	Pool       string        `yaml:"pool" jsonschema:"description=Storage pool: the name of one that exists\\, or the path of a directory that muster makes one of and removes when it is empty,default=/var/lib/libvirt/images/muster"`
	Network    Network       `yaml:"network" jsonschema:"description=Network of the hosts; by default muster makes one with NAT"`
	DomainType string        `yaml:"domain_type" jsonschema:"enum=auto,enum=kvm,enum=qemu,default=auto,description=kvm\\, or qemu for emulation; auto is KVM where it works"`
	Grace      time.Duration `yaml:"grace" jsonschema:"type=string,description=How long a host that is destroyed may take to shut down before it is powered off,default=5s"`
}

// TLS is how to authenticate to a daemon over TLS.
type TLS struct {
	Dir string `yaml:"dir" jsonschema:"description=Directory with cacert.pem\\, clientcert.pem and clientkey.pem; by default those of libvirt itself"`
}

// SSH is how to authenticate to a daemon over SSH. Host keys are never accepted unseen.
type SSH struct {
	Key        string   `yaml:"key" jsonschema:"description=Private key file without passphrase; by default the SSH agent's keys and ~/.ssh/id_ed25519\\, id_ecdsa and id_rsa"`
	KnownHosts string   `yaml:"known_hosts" jsonschema:"description=File of host keys,default=~/.ssh/known_hosts"`
	HostKeys   []string `yaml:"host_keys" jsonschema:"description=The host's public keys\\, such as ssh-ed25519 AAAA...; they replace known_hosts"`
}

// Network says where hosts are connected. At most one field is set; none is an own network with a subnet that muster
// chooses.
type Network struct {
	Name   string `yaml:"name" jsonschema:"description=A libvirt network that exists"`
	Subnet string `yaml:"subnet" jsonschema:"description=muster makes a network with NAT\\, with this IPv4 subnet,example=10.70.1.0/24"`
	Bridge string `yaml:"bridge" jsonschema:"description=A bridge of the hypervisor that hosts are put on"`
}

const (
	defaultURI   = "qemu:///system"
	defaultPool  = "/var/lib/libvirt/images/muster"
	defaultGrace = 5 * time.Second
)

// The values of Config.DomainType.
const (
	typeAuto = "auto"
	typeKVM  = "kvm"
	typeQEMU = "qemu"
)

// NewConfig returns the defaults.
func NewConfig() *Config {
	return &Config{URI: defaultURI, Pool: defaultPool, DomainType: typeAuto, Grace: defaultGrace}
}

// nameForm is what may be the name of a pool, a volume, a network or a bridge.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*$`)

// Validate reports what cannot be.
func (c *Config) Validate() []providers.Problem {
	var problems []providers.Problem
	add := func(field, hint, format string, args ...any) {
		problems = append(problems, providers.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if _, err := parseURI(c.URI); err != nil {
		add("uri", "write qemu:///system, qemu+tls://HOST/system or qemu+ssh://USER@HOST/system", "%s", err)
	}
	for i, key := range c.SSH.HostKeys {
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key)); err != nil {
			add(fmt.Sprintf("ssh.host_keys[%d]", i), "copy a line of `ssh-keyscan HOST` without the host's name", "not a public key")
		}
	}
	switch {
	case path.IsAbs(c.Pool):
		if path.Clean(c.Pool) != c.Pool || c.Pool == "/" {
			add("pool", "", "%q is not the clean path of a directory", c.Pool)
		}
	case !nameForm.MatchString(c.Pool):
		add("pool", "", "%q is neither the name of a pool nor an absolute path", c.Pool)
	}
	switch c.DomainType {
	case typeAuto, typeKVM, typeQEMU:
	default:
		add("domain_type", "", "%q is none of auto, kvm and qemu", c.DomainType)
	}
	if c.Grace < 0 {
		add("grace", "", "must not be negative")
	}
	return append(problems, c.Network.validate()...)
}

func (n Network) validate() []providers.Problem {
	var problems []providers.Problem
	add := func(field, hint, format string, args ...any) {
		problems = append(problems, providers.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	given := 0
	for field, value := range map[string]string{"network.name": n.Name, "network.bridge": n.Bridge} {
		if value == "" {
			continue
		}
		given++
		if !nameForm.MatchString(value) {
			add(field, "", "%q is not a name", value)
		}
	}
	if n.Subnet != "" {
		given++
		if _, err := parseSubnet(n.Subnet); err != nil {
			add("network.subnet", "write it as 10.70.1.0/24", "%s", err)
		}
	}
	if given > 1 {
		add("network", "keep one", "`name`, `subnet` and `bridge` exclude each other")
	}
	return problems
}

// parseSubnet reads an IPv4 subnet with room for some hosts.
func parseSubnet(text string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !subnet.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("%q is not an IPv4 subnet", text)
	case subnet != subnet.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits set behind its mask, the subnet is %s", text, subnet.Masked())
	case subnet.Bits() < 8 || subnet.Bits() > 29:
		return netip.Prefix{}, fmt.Errorf("%s is not between a /8 and a /29", text)
	}
	return subnet, nil
}

// The transports of a libvirt URI.
const (
	overUnix = "unix"
	overTLS  = "tls"
	overSSH  = "ssh"
)

// location is a libvirt URI, read. The format is libvirt's (https://libvirt.org/uri.html).
type location struct {
	transport string
	host      string // "" for unix
	port      string // "" for the transport's own
	user      string
	socket    string // of the daemon, "" for the standard one
}

// parseURI reads a URI of QEMU's system daemon. A connection without encryption is refused: user-data holds a join token.
func parseURI(text string) (location, error) {
	u, err := url.Parse(text)
	if err != nil {
		return location{}, fmt.Errorf("%q is not a URI", text)
	}
	at := location{transport: overUnix, host: u.Hostname(), port: u.Port(), user: u.User.Username(), socket: u.Query().Get("socket")}
	driver, transport, given := strings.Cut(u.Scheme, "+")
	switch {
	case given:
		at.transport = transport
	case at.host != "":
		at.transport = overTLS
	}
	if _, password := u.User.Password(); password {
		return location{}, fmt.Errorf("a URI is no place for a password")
	}
	for key := range u.Query() {
		if key != "socket" || at.transport == overTLS {
			return location{}, fmt.Errorf("parameter `%s` is not known here", key)
		}
	}
	switch {
	case driver != "qemu":
		return location{}, fmt.Errorf("%q is not a URI of QEMU", text)
	case u.Path != "/system":
		return location{}, fmt.Errorf("%q is not the system daemon's: a session has no networks", text)
	case at.transport == "tcp":
		return location{}, fmt.Errorf("qemu+tcp does not encrypt")
	case at.transport != overUnix && at.transport != overTLS && at.transport != overSSH:
		return location{}, fmt.Errorf("transport `%s` is not known", at.transport)
	case (at.transport == overUnix) != (at.host == ""):
		return location{}, fmt.Errorf("%q needs a host for tls and ssh, and none for unix", text)
	}
	return at, nil
}

// address is host:port.
func (l location) address(standardPort string) string {
	port := l.port
	if port == "" {
		port = standardPort
	}
	return net.JoinHostPort(l.host, port)
}
