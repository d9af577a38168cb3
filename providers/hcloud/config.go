package hcloud

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
)

// Config configures one provider: a project of the Hetzner Cloud.
type Config struct {
	Token    secret.Secret `yaml:"token" jsonschema:"description=API token of the project that may read and write; by default $HCLOUD_TOKEN"`
	Endpoint string        `yaml:"endpoint" jsonschema:"description=URL of the API; by default $HCLOUD_ENDPOINT or Hetzner's,example=https://api.hetzner.cloud/v1"`
	Timeout  time.Duration `yaml:"timeout" jsonschema:"type=string,default=60s,description=How long the API may take to answer one request"`
	Allow    Allow         `yaml:"allow" jsonschema:"description=Whom the cluster's firewall lets in"`
}

// Allow is whom the cluster's firewall lets in at public addresses, as IPv4 or IPv6 prefixes. Private networks pass by
// firewalls.
type Allow struct {
	API     []string `yaml:"api" jsonschema:"description=Networks that reach the API port: those of operators; by default all,example=203.0.113.7/32"`
	SSH     []string `yaml:"ssh" jsonschema:"description=Networks that reach SSH (port 22); by default none"`
	Members []string `yaml:"members" jsonschema:"description=Networks whose hosts are members. They reach the API and etcd's ports\\, which ask for a certificate; by default all\\, since the addresses of members are not known before they are made"`
}

// Settings are the settings of one host. Types, networks, keys and groups are given by name or ID.
type Settings struct {
	ServerType     string   `yaml:"server_type" jsonschema:"description=Server type,example=cx23"`
	Image          string   `yaml:"image" jsonschema:"description=Image: name\\, or ID of one that has no name\\, such as a snapshot,example=debian-13"`
	Snapshot       string   `yaml:"snapshot" jsonschema:"description=Label selector of snapshots\\, instead of an image: the newest that fits the server type,example=os=muster"`
	Locations      []string `yaml:"locations" jsonschema:"description=Locations over which hosts are spread by their number; by default Hetzner chooses,example=fsn1"`
	SSHKeys        []string `yaml:"ssh_keys" jsonschema:"description=SSH keys of the project; without one Hetzner sends a root password by mail for each host"`
	Network        string   `yaml:"network" jsonschema:"description=Private network of the project that the host is in"`
	Firewalls      []string `yaml:"firewalls" jsonschema:"description=Firewalls that exist\\, instead of the one that muster makes for the cluster"`
	PlacementGroup string   `yaml:"placement_group" jsonschema:"description=spread for groups that muster makes\\, of ten hosts each that no machine holds two of\\, or a group that exists"`
	PublicIPv4     bool     `yaml:"public_ipv4" jsonschema:"default=true,description=Whether the host has a public IPv4 address\\, which costs extra"`
	PublicIPv6     bool     `yaml:"public_ipv6" jsonschema:"default=true,description=Whether the host has a public IPv6 network"`
}

const defaultTimeout = 60 * time.Second

// groupSpread is the placement group that muster makes.
const groupSpread = "spread"

// maxFirewalls is how many firewalls a server may have (docs.hetzner.com/cloud/firewalls/faq).
const maxFirewalls = 5

var everywhere = []string{"0.0.0.0/0", "::/0"}

// NewConfig returns the defaults.
func NewConfig() *Config {
	return &Config{Timeout: defaultTimeout, Allow: Allow{API: slices.Clone(everywhere), Members: slices.Clone(everywhere)}}
}

// NewSettings returns the defaults.
func NewSettings() *Settings { return &Settings{PublicIPv4: true, PublicIPv6: true} }

// problems collects what is wrong.
type problems []providers.Problem

func (p *problems) add(field, hint, format string, args ...any) {
	*p = append(*p, providers.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// Validate reports what cannot be.
func (c *Config) Validate() []providers.Problem {
	var p problems
	if u, err := url.Parse(c.Endpoint); c.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		p.add("endpoint", "write it as https://HOST/v1", "%q is not the URL of an API", c.Endpoint)
	}
	if c.Timeout < time.Second {
		p.add("timeout", "", "%s is less than a second", c.Timeout)
	}
	for _, each := range []struct {
		field    string
		networks []string
	}{{"allow.api", c.Allow.API}, {"allow.ssh", c.Allow.SSH}, {"allow.members", c.Allow.Members}} {
		for i, text := range each.networks {
			field := fmt.Sprintf("%s[%d]", each.field, i)
			if network, err := netip.ParsePrefix(text); err != nil {
				p.add(field, "write it as 203.0.113.7/32", "%q is not a network", text)
			} else if network != network.Masked() {
				p.add(field, "write "+network.Masked().String(), "%s has bits set behind its mask", text)
			}
		}
	}
	return p
}

// public tells whether the host has an interface to the internet.
func (s *Settings) public() bool { return s.PublicIPv4 || s.PublicIPv6 }

// Validate reports what cannot be.
func (s *Settings) Validate() []providers.Problem {
	var p problems
	if s.ServerType == "" {
		p.add("server_type", "see `hcloud server-type list`", "no server type is given")
	}
	if (s.Image == "") == (s.Snapshot == "") {
		p.add("image", "give `image` or `snapshot`", "one of `image` and `snapshot` is needed, and not both")
	}
	if !s.public() && s.Network == "" {
		p.add("network", "", "a host without public addresses needs a network")
	}
	if !s.public() && len(s.Firewalls) > 0 {
		p.add("firewalls", "remove it", "firewalls are for public addresses, and the host has none")
	}
	if len(s.Firewalls) > maxFirewalls {
		p.add("firewalls", "", "%d firewalls are given, a server has at most %d", len(s.Firewalls), maxFirewalls)
	}
	for _, each := range []struct {
		field string
		names []string
	}{{"locations", s.Locations}, {"ssh_keys", s.SSHKeys}, {"firewalls", s.Firewalls}} {
		for i, name := range each.names {
			if name == "" || slices.Contains(each.names[:i], name) {
				p.add(fmt.Sprintf("%s[%d]", each.field, i), "", "%q is empty or given before", name)
			}
		}
	}
	return p
}

// settingsOf is a request's settings. The cluster file's were validated when it was read.
func settingsOf(settings any) (*Settings, error) {
	s, ok := settings.(*Settings)
	if settings == nil {
		s, ok = NewSettings(), true
	}
	if !ok {
		return nil, fmt.Errorf("settings are a %T: %w", settings, providers.ErrInvalid)
	}
	return s, invalid(s.Validate())
}

// invalid makes an error of the first problem.
func invalid(found []providers.Problem) error {
	if len(found) == 0 {
		return nil
	}
	text := fmt.Sprintf("`%s`: %s, %s", found[0].Field, found[0].Message, found[0].Hint)
	return fmt.Errorf("%s: %w", strings.TrimSuffix(text, ", "), providers.ErrInvalid)
}
