package openstack

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/providers"
)

// Config configures one provider: a project in a region of a cloud. Credentials are those of clouds.yaml or of the OS_*
// environment; the cluster file holds none.
type Config struct {
	Cloud     string        `yaml:"cloud" jsonschema:"description=Name of the cloud in clouds.yaml; by default $OS_CLOUD\\, and without that the OS_* variables"`
	File      string        `yaml:"clouds_file" jsonschema:"description=The clouds.yaml; by default $OS_CLIENT_CONFIG_FILE\\, or the one in the working directory\\, in ~/.config/openstack or in /etc/openstack,example=clouds.yaml"`
	Region    string        `yaml:"region" jsonschema:"description=Region; by default that of clouds.yaml or $OS_REGION_NAME"`
	Interface string        `yaml:"interface" jsonschema:"enum=public,enum=internal,enum=admin,description=Which endpoints of the catalogue are used; by default what clouds.yaml or $OS_INTERFACE says\\, or public"`
	CACert    string        `yaml:"ca_cert" jsonschema:"description=File of the certificate authorities that the cloud's certificates are verified against; by default what clouds.yaml or $OS_CACERT says\\, or the system's"`
	Baremetal bool          `yaml:"baremetal" jsonschema:"description=Whether hosts may be nodes of the bare-metal service directly (settings node and resource_class); needs a role there"`
	APIFrom   []string      `yaml:"api_from" jsonschema:"description=Subnets from which the cluster's security group lets operators reach the agents' API; by default all"`
	Allow     []Rule        `yaml:"allow" jsonschema:"description=What else the cluster's security group lets in; hosts of the provider always reach each other"`
	Settle    time.Duration `yaml:"settle" jsonschema:"type=string,default=60s,description=How long a create that somebody began and that shows no server yet is waited for before it is taken over; longer than the cloud's lists lag"`
	Timeout   time.Duration `yaml:"timeout" jsonschema:"type=string,default=60s,description=How long the cloud may take to answer one request"`
}

// Rule lets something into the cluster's security group.
type Rule struct {
	Protocol string   `yaml:"protocol" jsonschema:"enum=tcp,enum=udp,enum=icmp,default=tcp,description=Protocol"`
	Ports    string   `yaml:"ports" jsonschema:"description=A port or a range of them,example=8000-8100"`
	From     []string `yaml:"from" jsonschema:"description=Subnets; by default all"`
}

const (
	defaultSettle  = 60 * time.Second
	defaultTimeout = 60 * time.Second
)

// everywhere is all addresses, which is who may reach what a rule without subnets opens.
var everywhere = []string{"0.0.0.0/0", "::/0"}

// NewConfig returns the defaults.
func NewConfig() *Config {
	return &Config{APIFrom: slices.Clone(everywhere), Settle: defaultSettle, Timeout: defaultTimeout}
}

// Validate reports what cannot be.
func (c *Config) Validate() []providers.Problem {
	var problems []providers.Problem
	add := func(field, hint, format string, args ...any) {
		problems = append(problems, providers.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	switch c.Interface {
	case "", "public", "internal", "admin":
	default:
		add("interface", "", "%q is none of public, internal and admin", c.Interface)
	}
	if c.File != "" && c.Cloud == "" {
		add("clouds_file", "set `cloud`", "says nothing without the name of a cloud in it")
	}
	if c.Settle <= 0 {
		add("settle", "", "must be more than nothing")
	}
	if c.Timeout < time.Second {
		add("timeout", "", "%s is less than a second", c.Timeout)
	}
	for i, subnet := range c.APIFrom {
		if _, err := parseSubnet(subnet); err != nil {
			add(fmt.Sprintf("api_from[%d]", i), "write it as 192.0.2.0/24", "%s", err)
		}
	}
	for i, rule := range c.Allow {
		if _, err := rule.opening(); err != nil {
			add(fmt.Sprintf("allow[%d]", i), "", "%s", err)
		}
	}
	return problems
}

// opening is a rule, read.
type opening struct {
	protocol string
	min, max int // ports; both zero for ICMP
	from     []netip.Prefix
}

func (r Rule) opening() (opening, error) {
	o := opening{protocol: r.Protocol}
	if o.protocol == "" {
		o.protocol = "tcp"
	}
	switch o.protocol {
	case "tcp", "udp":
		first, last, ranged := strings.Cut(r.Ports, "-")
		if !ranged {
			last = first
		}
		var err error
		if o.min, err = strconv.Atoi(first); err == nil {
			o.max, err = strconv.Atoi(last)
		}
		if err != nil || o.min < 1 || o.max < o.min || o.max > 65535 {
			return o, fmt.Errorf("%q is neither a port nor a range such as 8000-8100", r.Ports)
		}
	case "icmp":
		if r.Ports != "" {
			return o, fmt.Errorf("icmp has no ports")
		}
	default:
		return o, fmt.Errorf("%q is none of tcp, udp and icmp", r.Protocol)
	}
	from := r.From
	if len(from) == 0 {
		from = everywhere
	}
	for _, text := range from {
		subnet, err := parseSubnet(text)
		if err != nil {
			return o, err
		}
		o.from = append(o.from, subnet)
	}
	return o, nil
}

// parseSubnet reads a subnet of either family.
func parseSubnet(text string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is not a subnet", text)
	case subnet != subnet.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits set behind its mask, the subnet is %s", text, subnet.Masked())
	}
	return subnet, nil
}
