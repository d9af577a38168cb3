package vsphere

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/musterhq/muster/providers"
)

// Settings are the settings of one host. Objects of the inventory are given by name, or by as much of their path as tells
// them from others of the same name. Exactly one of Template, Library and OVA is set.
type Settings struct {
	Template string `yaml:"template" jsonschema:"description=Template or virtual machine that hosts are cloned from,example=templates/debian-12"`
	Library  string `yaml:"library" jsonschema:"description=Item of a content library\\, an OVF or a VM template; deployed once per cluster and cloned from then on,example=images/debian-12"`
	OVA      string `yaml:"ova" jsonschema:"description=OVA: a file or an https URL; uploaded once per cluster and cloned from then on,example=./debian-12.ova"`
	SHA256   string `yaml:"sha256" jsonschema:"description=SHA-256 of the OVA\\, in hexadecimal; a file that differs is refused; a URL needs it"`
	Linked   bool   `yaml:"linked" jsonschema:"default=false,description=Clone the differences alone\\, of the template's current snapshot; vCenter only"`

	Folder           string `yaml:"folder" jsonschema:"description=Folder of the machines; by default muster makes one for the cluster and removes it when it is empty"`
	Cluster          string `yaml:"cluster" jsonschema:"description=Compute cluster\\, or standalone host of a vCenter; by default the only one there is"`
	Host             string `yaml:"host" jsonschema:"description=ESXi host; by default vSphere chooses"`
	ResourcePool     string `yaml:"resource_pool" jsonschema:"description=Resource pool; by default the compute cluster's"`
	Datastore        string `yaml:"datastore" jsonschema:"description=Datastore; by default the template's"`
	DatastoreCluster string `yaml:"datastore_cluster" jsonschema:"description=Datastore cluster\\, of which Storage DRS recommends a datastore"`

	Networks    []string     `yaml:"networks" jsonschema:"description=Networks or distributed port groups\\, one for each interface; by default the template's"`
	Address     netip.Prefix `yaml:"address" jsonschema:"type=string,description=Address of the first interface\\, for one host; by default DHCP,example=10.20.0.11/24"`
	Gateway     netip.Addr   `yaml:"gateway" jsonschema:"type=string,description=Gateway for address"`
	Nameservers []netip.Addr `yaml:"nameservers" jsonschema:"description=DNS servers for address"`

	CPUs         int    `yaml:"cpus" jsonschema:"minimum=0,maximum=768,default=0,description=Virtual CPUs; 0 means the template's"`
	Memory       Size   `yaml:"memory" jsonschema:"description=Memory; by default the template's,example=4GiB"`
	Disk         Size   `yaml:"disk" jsonschema:"description=Size of the first disk\\, at least the template's\\, which is the default,example=40GiB"`
	AntiAffinity string `yaml:"anti_affinity" jsonschema:"enum=off,enum=preferred,enum=required,default=off,description=Whether DRS keeps the hosts of the cluster on different ESXi hosts"`
}

// The values of Settings.AntiAffinity.
const (
	affinityOff       = "off"
	affinityPreferred = "preferred"
	affinityRequired  = "required"
)

// NewSettings returns the defaults.
func NewSettings() *Settings { return &Settings{AntiAffinity: affinityOff} }

const (
	maxCPUs   = 768      // of a virtual machine (configuration maximums, vSphere 8)
	maxMemory = 24 << 40 // the same
	minMemory = 64 << 20
	maxDisk   = 62 << 40 // the same
)

var sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Validate reports what cannot be.
func (s *Settings) Validate() []providers.Problem {
	var problems []providers.Problem
	add := func(field, hint, format string, args ...any) {
		problems = append(problems, providers.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	s.validateSource(add)
	if s.CPUs < 0 || s.CPUs > maxCPUs {
		add("cpus", "", "%d is not between 0 and %d", s.CPUs, maxCPUs)
	}
	if s.Memory != 0 && (s.Memory < minMemory || s.Memory > maxMemory || s.Memory%(4<<20) != 0) {
		add("memory", "", "%s is not a multiple of 4MiB between %s and %s", s.Memory, Size(minMemory), Size(maxMemory))
	}
	if s.Disk > maxDisk {
		add("disk", "", "%s is more than %s", s.Disk, Size(maxDisk))
	}
	if s.Disk > 0 && s.Linked {
		add("disk", "remove one of them", "the disk of a linked clone has the template's size")
	}
	if s.Datastore != "" && s.DatastoreCluster != "" {
		add("datastore_cluster", "keep one", "`datastore` and `datastore_cluster` exclude each other")
	}
	if !slices.Contains([]string{affinityOff, affinityPreferred, affinityRequired}, s.AntiAffinity) {
		add("anti_affinity", "", "%q is none of off, preferred and required", s.AntiAffinity)
	}
	if slices.Contains(s.Networks, "") {
		add("networks", "", "a network has no name")
	}
	s.validateAddress(add)
	return problems
}

// validateSource looks at what hosts are cloned from.
func (s *Settings) validateSource(add func(field, hint, format string, args ...any)) {
	given := 0
	for _, source := range []string{s.Template, s.Library, s.OVA} {
		if source != "" {
			given++
		}
	}
	if given != 1 {
		add("template", "set one of `template`, `library` and `ova`", "%d of `template`, `library` and `ova` are given", given)
	}
	if library, item, ok := strings.Cut(s.Library, "/"); s.Library != "" && (!ok || library == "" || item == "") {
		add("library", "write it as LIBRARY/ITEM", "%q does not name a library and an item", s.Library)
	}
	if strings.Contains(s.OVA, "://") {
		if u, err := url.Parse(s.OVA); err != nil || u.Scheme != "https" || u.Host == "" {
			add("ova", "", "%q is not an https URL", s.OVA)
		}
		if s.SHA256 == "" {
			add("sha256", "", "an OVA from a URL needs its SHA-256")
		}
	}
	switch {
	case s.SHA256 == "":
	case s.OVA == "":
		add("sha256", "remove it", "only an OVA has a sum")
	case !sha256Form.MatchString(s.SHA256):
		add("sha256", "", "not 64 hexadecimal digits in lower case")
	}
}

// validateAddress looks at the static address.
func (s *Settings) validateAddress(add func(field, hint, format string, args ...any)) {
	if !s.Address.IsValid() {
		if s.Gateway.IsValid() {
			add("gateway", "set `address`, or remove it", "has no effect without `address`")
		}
		if len(s.Nameservers) > 0 {
			add("nameservers", "set `address`, or remove them", "have no effect without `address`")
		}
		return
	}
	if s.Gateway.IsValid() && (!s.Address.Contains(s.Gateway) || s.Gateway == s.Address.Addr()) {
		add("gateway", "", "%s is not another address in %s", s.Gateway, s.Address.Masked())
	}
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
	if problems := s.Validate(); len(problems) > 0 {
		return nil, fmt.Errorf("`%s`: %s: %w", problems[0].Field, problems[0].Message, providers.ErrInvalid)
	}
	return s, nil
}
