package openstack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/musterhq/muster/providers"
)

// Settings are the settings of one host. Images, flavors, networks and groups are given by name or ID.
type Settings struct {
	Image             string            `yaml:"image" jsonschema:"description=Image: name or ID"`
	Flavor            string            `yaml:"flavor" jsonschema:"description=Flavor: name or ID,example=m1.small"`
	Networks          []string          `yaml:"networks" jsonschema:"description=Networks\\, in the order of the host's interfaces: names or IDs; by default the only one there is"`
	SecurityGroups    []string          `yaml:"security_groups" jsonschema:"description=Security groups that exist\\, instead of the one that muster makes for the cluster"`
	FloatingIP        string            `yaml:"floating_ip" jsonschema:"description=External network of which the host gets a floating IP on its first interface"`
	BootVolume        *Volume           `yaml:"boot_volume" jsonschema:"description=Boot from a volume that is made of the image\\, instead of a disk of the flavor"`
	ServerGroup       string            `yaml:"server_group" jsonschema:"description=anti-affinity\\, soft-anti-affinity\\, affinity or soft-affinity for a group that muster makes\\, or a group that exists"`
	AvailabilityZones []string          `yaml:"availability_zones" jsonschema:"description=Availability zones over which hosts are spread by their number"`
	KeyPair           string            `yaml:"key_pair" jsonschema:"description=Name of a key pair of the account"`
	ConfigDrive       bool              `yaml:"config_drive" jsonschema:"default=true,description=Whether the host has its data on a disk; without it the metadata service must be reachable"`
	Metadata          map[string]string `yaml:"metadata" jsonschema:"description=Metadata of the server beside muster's own"`
	BareMetal         bool              `yaml:"bare_metal" jsonschema:"description=The flavor is one of whole machines: ports have no security groups\\, and the data is on a config drive"`
	Node              string            `yaml:"node" jsonschema:"description=Node of the bare-metal service: name or UUID; the host is deployed without Nova"`
	ResourceClass     string            `yaml:"resource_class" jsonschema:"description=Resource class of the node that the bare-metal service chooses; the host is deployed without Nova"`
	Checksum          string            `yaml:"checksum" jsonschema:"description=SHA-256 of an image that is given by URL\\, for a node"`
	RootGB            int               `yaml:"root_gb" jsonschema:"description=Size of the root partition for images of a partition\\, for a node"`
}

// Volume is what a host boots from instead of a disk of its flavor.
type Volume struct {
	Size int    `yaml:"size" jsonschema:"required,minimum=1,description=Size in GiB"`
	Type string `yaml:"type" jsonschema:"description=Volume type; by default the cloud's"`
	Keep bool   `yaml:"keep" jsonschema:"default=false,description=Whether the volume stays when the host is destroyed; muster does not remove it then"`
}

// policies are the server groups that muster makes.
var policies = []string{"anti-affinity", "soft-anti-affinity", "affinity", "soft-affinity"}

const (
	maxMetadata      = 255 // characters of a key and of a value (Nova's API reference, create server)
	reservedMetadata = "muster."
)

// NewSettings returns the defaults.
func NewSettings() *Settings { return &Settings{ConfigDrive: true} }

// direct tells whether the host is a node that is deployed without Nova.
func (s *Settings) direct() bool { return s.Node != "" || s.ResourceClass != "" }

// kind is the same for hosts of the same settings.
func (s *Settings) kind() string {
	rest := *s
	rest.BootVolume = nil
	return fmt.Sprintf("%+v %+v", rest, s.BootVolume)
}

// metal tells whether the host is a whole machine.
func (s *Settings) metal() bool { return s.BareMetal || s.direct() }

// Validate reports what cannot be.
func (s *Settings) Validate() []providers.Problem {
	var problems []providers.Problem
	add := func(field, hint, format string, args ...any) {
		problems = append(problems, providers.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if s.Image == "" {
		add("image", "see `openstack image list`", "no image is given")
	}
	if s.Flavor == "" && !s.direct() {
		add("flavor", "see `openstack flavor list`", "no flavor is given")
	}
	for i, network := range s.Networks {
		if network == "" || slices.Contains(s.Networks[:i], network) {
			add(fmt.Sprintf("networks[%d]", i), "", "%q is empty or given before", network)
		}
	}
	if s.BootVolume != nil && s.BootVolume.Size < 1 {
		add("boot_volume.size", "", "%d is not a size in GiB", s.BootVolume.Size)
	}
	for key, value := range s.Metadata {
		switch {
		case key == "" || len(key) > maxMetadata || len(value) > maxMetadata:
			add("metadata", "", "key %q is empty, or it or its value is longer than %d characters", key, maxMetadata)
		case strings.HasPrefix(key, reservedMetadata):
			add("metadata", "", "keys that begin with %q are muster's, and %q does", reservedMetadata, key)
		}
	}
	return append(problems, s.validateMetal()...)
}

// validateMetal reports what whole machines cannot have, and what only nodes can.
func (s *Settings) validateMetal() []providers.Problem {
	var problems []providers.Problem
	exclude := func(because string, given map[string]bool) {
		for field, is := range given {
			if is {
				problems = append(problems, providers.Problem{Field: field, Message: "has no effect with " + because, Hint: "remove it"})
			}
		}
	}
	switch {
	case s.direct():
		exclude("`node` or `resource_class`", map[string]bool{
			"flavor": s.Flavor != "", "bare_metal": s.BareMetal, "security_groups": len(s.SecurityGroups) > 0,
			"boot_volume": s.BootVolume != nil, "server_group": s.ServerGroup != "", "key_pair": s.KeyPair != "",
			"availability_zones": len(s.AvailabilityZones) > 0,
		})
		if strings.Contains(s.Image, "://") && s.Checksum == "" {
			problems = append(problems, providers.Problem{Field: "checksum", Message: "an image that is given by URL needs its SHA-256"})
		}
	case s.BareMetal:
		exclude("`bare_metal`", map[string]bool{"security_groups": len(s.SecurityGroups) > 0, "boot_volume": s.BootVolume != nil})
	}
	if !s.direct() {
		exclude("servers of Nova", map[string]bool{"checksum": s.Checksum != "", "root_gb": s.RootGB != 0})
	}
	slices.SortFunc(problems, func(a, b providers.Problem) int { return strings.Compare(a.Field, b.Field) })
	return problems
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
