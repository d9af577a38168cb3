package ec2

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/providers"
)

// Settings are the settings of one host.
type Settings struct {
	Image           Image             `yaml:"image" jsonschema:"description=What the host boots: give id\\, name or parameter"`
	Type            string            `yaml:"type" jsonschema:"description=Instance type,default=t3.small,example=m7g.large"`
	Spot            bool              `yaml:"spot" jsonschema:"default=false,description=Whether the host is a spot instance\\, which is cheaper and which EC2 may end at any time"`
	SpotMaxPrice    string            `yaml:"spot_max_price" jsonschema:"description=Most to pay for a spot instance in US dollars per hour,default=the on-demand price,example=0.05"`
	Key             string            `yaml:"key" jsonschema:"description=Name of a key pair for SSH; by default none"`
	InstanceProfile string            `yaml:"instance_profile" jsonschema:"description=Name of the IAM instance profile\\, whose rights everything on the host has; by default none"`
	HopLimit        int               `yaml:"metadata_hop_limit" jsonschema:"minimum=1,maximum=64,default=1,description=How far answers of the metadata service travel: 1 keeps them from containers. IMDSv2 is always required"`
	Root            Volume            `yaml:"root" jsonschema:"description=The root volume"`
	Data            []DataVolume      `yaml:"data" jsonschema:"description=More volumes\\, which end with the host"`
	Subnets         []string          `yaml:"subnets" jsonschema:"description=IDs of subnets; hosts are spread over their zones. By default all of the VPC,example=subnet-0123456789abcdef0"`
	SubnetTags      map[string]string `yaml:"subnet_tags" jsonschema:"description=Tags of the subnets to choose from"`
	SecurityGroups  []string          `yaml:"security_groups" jsonschema:"description=IDs of security groups; by default muster makes one for the cluster"`
	Address         string            `yaml:"address" jsonschema:"enum=public,enum=private,enum=elastic,default=public,description=Whether the host has a public address\\, none\\, or an elastic one that stays when the host is stopped"`
	Reach           string            `yaml:"reach" jsonschema:"enum=public,enum=private,description=At which address operator and members reach the host; by default the public one if it has one"`
	Placement       string            `yaml:"placement" jsonschema:"enum=none,enum=cluster,enum=spread,enum=partition,default=none,description=Strategy of a placement group that muster makes for the cluster: cluster keeps hosts close together in one zone\\, spread has at most seven a zone on racks of their own"`
	PlacementGroup  string            `yaml:"placement_group" jsonschema:"description=Name of a placement group that exists"`
	Tags            map[string]string `yaml:"tags" jsonschema:"description=More tags for the instance\\, its volumes\\, its interface and its address"`
}

// Image says which Amazon Machine Image a host boots. One of ID, Name and Parameter is given.
type Image struct {
	ID        string `yaml:"id" jsonschema:"description=ID of the image,example=ami-0123456789abcdef0"`
	Name      string `yaml:"name" jsonschema:"description=Name of the image\\, which may have * and ?; the newest is taken,example=debian-13-amd64-*"`
	Owner     string `yaml:"owner" jsonschema:"description=Who owns an image that is given by name: an account's ID\\, self\\, amazon or aws-marketplace,default=self"`
	Parameter string `yaml:"parameter" jsonschema:"description=Name of a Systems Manager parameter that holds the image's ID,example=/aws/service/debian/release/13/latest/amd64"`
}

// Volume is a volume of EBS.
type Volume struct {
	Size        Size   `yaml:"size" jsonschema:"description=Size; the root volume's is by default the image's,example=20GiB"`
	Type        string `yaml:"type" jsonschema:"enum=gp3,enum=gp2,enum=io1,enum=io2,enum=st1,enum=sc1,enum=standard,default=gp3,description=Type of the volume"`
	IOPS        int    `yaml:"iops" jsonschema:"minimum=0,description=I/O operations per second\\, for gp3\\, io1 and io2; by default the type's own"`
	Throughput  int    `yaml:"throughput" jsonschema:"minimum=0,description=MiB per second\\, for gp3; by default the type's own"`
	Unencrypted bool   `yaml:"unencrypted" jsonschema:"default=false,description=Leaves the volume without encryption"`
	KMSKey      string `yaml:"kms_key" jsonschema:"description=Key to encrypt with,default=the account's own for EBS"`
}

// DataVolume is a volume beside the root.
type DataVolume struct {
	Device string `yaml:"device" jsonschema:"required,description=Name of the device,example=/dev/sdf"`
	Volume `yaml:",inline"`
}

// The values of Settings.Address and Settings.Reach.
const (
	addressPublic  = "public"
	addressPrivate = "private"
	addressElastic = "elastic"
)

// The values of Settings.Placement, which are EC2's strategies.
const (
	placementNone      = "none"
	placementCluster   = "cluster"
	placementSpread    = "spread"
	placementPartition = "partition"
)

const (
	defaultType       = "t3.small"
	defaultVolumeType = "gp3"
	defaultOwner      = "self"
	maxHopLimit       = 64
)

// NewSettings returns the defaults.
func NewSettings() *Settings {
	return &Settings{
		Type: defaultType, HopLimit: 1, Root: Volume{Type: defaultVolumeType}, Image: Image{Owner: defaultOwner},
		Address: addressPublic, Placement: placementNone,
	}
}

var (
	imageForm  = regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`)
	typeForm   = regexp.MustCompile(`^[a-z0-9-]+\.[a-z0-9-]+$`)
	subnetForm = regexp.MustCompile(`^subnet-[0-9a-f]{8,17}$`)
	groupForm  = regexp.MustCompile(`^sg-[0-9a-f]{8,17}$`)
	ownerForm  = regexp.MustCompile(`^(\d{12}|self|amazon|aws-marketplace)$`)
	priceForm  = regexp.MustCompile(`^\d+(\.\d{1,5})?$`)
	deviceForm = regexp.MustCompile(`^(/dev/)?(sd|xvd|hd)[a-z]{1,2}[0-9]{0,2}$`)
)

// Validate reports what cannot be.
func (s *Settings) Validate() []providers.Problem {
	var p problems
	s.Image.validate(&p)
	p.form("type", s.Type, typeForm, "t3.small")
	if s.Type == "" {
		p.add("type", "remove the line for "+defaultType, "no instance type is given")
	}
	p.form("spot_max_price", s.SpotMaxPrice, priceForm, "0.05")
	if s.SpotMaxPrice != "" && !s.Spot {
		p.add("spot_max_price", "set `spot: true`", "has no effect on a host that is not a spot instance")
	}
	if s.HopLimit < 1 || s.HopLimit > maxHopLimit {
		p.add("metadata_hop_limit", "", "%d is not between 1 and %d", s.HopLimit, maxHopLimit)
	}
	s.validateVolumes(&p)
	s.validateNetwork(&p)
	s.validateTags(&p)
	return p
}

func (i Image) validate(p *problems) {
	given := 0
	for _, value := range []string{i.ID, i.Name, i.Parameter} {
		if value != "" {
			given++
		}
	}
	switch {
	case given == 0:
		p.add("image", "set `image.id`, `image.name` or `image.parameter`", "no image is given")
	case given > 1:
		p.add("image", "keep one", "`id`, `name` and `parameter` exclude each other")
	}
	p.form("image.id", i.ID, imageForm, "ami-0123456789abcdef0")
	p.form("image.owner", i.Owner, ownerForm, "123456789012, self, amazon or aws-marketplace")
	if i.Name != "" && i.Owner == "" {
		p.add("image.owner", "set it to `self`, `amazon` or an account's ID", "anybody may give an image a name")
	}
}

func (s *Settings) validateVolumes(p *problems) {
	s.Root.validate("root", p)
	devices := map[string]bool{}
	for i, v := range s.Data {
		at := fmt.Sprintf("data[%d]", i)
		v.validate(at, p)
		if v.Size == 0 {
			p.add(at+".size", "write it as 20GiB", "no size is given")
		}
		switch {
		case v.Device == "":
			p.add(at+".device", "write it as /dev/sdf", "no device is given")
		case devices[v.Device]:
			p.add(at+".device", "", "%s is given twice", v.Device)
		default:
			p.form(at+".device", v.Device, deviceForm, "/dev/sdf")
		}
		devices[v.Device] = true
	}
}

var volumeTypes = []string{"", "gp3", "gp2", "io1", "io2", "st1", "sc1", "standard"}

func (v Volume) validate(at string, p *problems) {
	switch {
	case !slices.Contains(volumeTypes, v.Type):
		p.add(at+".type", "", "%q is none of %s", v.Type, strings.Join(volumeTypes[1:], ", "))
	case v.IOPS != 0 && !slices.Contains([]string{"", "gp3", "io1", "io2"}, v.Type):
		p.add(at+".iops", "use gp3, io1 or io2", "a volume of type %s has no such setting", v.Type)
	case v.IOPS == 0 && (v.Type == "io1" || v.Type == "io2"):
		p.add(at+".iops", "", "a volume of type %s needs it", v.Type)
	case v.Throughput != 0 && v.Type != "" && v.Type != "gp3":
		p.add(at+".throughput", "use gp3", "a volume of type %s has no such setting", v.Type)
	}
	if v.Size%(1<<30) != 0 || v.Size > maxVolume {
		p.add(at+".size", "", "%s is not a whole number of GiB up to %s", v.Size, Size(maxVolume))
	}
	if v.IOPS < 0 || v.Throughput < 0 || v.IOPS > math.MaxInt32 || v.Throughput > math.MaxInt32 {
		p.add(at, "", "`iops` and `throughput` cannot be that")
	}
	if v.Unencrypted && v.KMSKey != "" {
		p.add(at+".kms_key", "remove `unencrypted`", "a volume without encryption has no key")
	}
}

// maxVolume is 64 TiB, the largest volume of EBS.
const maxVolume = 64 << 40

func (s *Settings) validateNetwork(p *problems) {
	for i, id := range s.Subnets {
		p.form(fmt.Sprintf("subnets[%d]", i), id, subnetForm, "subnet-0123456789abcdef0")
	}
	if len(s.Subnets) > 0 && len(s.SubnetTags) > 0 {
		p.add("subnet_tags", "keep one", "`subnets` and `subnet_tags` exclude each other")
	}
	for i, id := range s.SecurityGroups {
		p.form(fmt.Sprintf("security_groups[%d]", i), id, groupForm, "sg-0123456789abcdef0")
	}
	if !slices.Contains([]string{addressPublic, addressPrivate, addressElastic}, s.Address) {
		p.add("address", "", "%q is none of public, private and elastic", s.Address)
	}
	switch {
	case !slices.Contains([]string{"", addressPublic, addressPrivate}, s.Reach):
		p.add("reach", "", "%q is neither public nor private", s.Reach)
	case s.Reach == addressPublic && s.Address == addressPrivate:
		p.add("reach", "set `address: public` or `address: elastic`", "the host has no public address")
	}
	switch {
	case !slices.Contains([]string{"", placementNone, placementCluster, placementSpread, placementPartition}, s.Placement):
		p.add("placement", "", "%q is none of none, cluster, spread and partition", s.Placement)
	case s.PlacementGroup != "" && s.Placement != placementNone && s.Placement != "":
		p.add("placement_group", "keep one", "`placement` and `placement_group` exclude each other")
	}
}

// EC2's bounds of tags (API Reference, "Tag"; User Guide, "Tag restrictions"); muster and the name take seven of the fifty.
const (
	maxTags     = 50 - 7
	maxTagKey   = 127
	maxTagValue = 256
)

func (s *Settings) validateTags(p *problems) {
	if len(s.Tags) > maxTags {
		p.add("tags", "", "there are %d, at most %d beside muster's own", len(s.Tags), maxTags)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
		switch {
		case strings.HasPrefix(key, "muster."):
			p.add("tags."+key, "take another name", "tags that begin with `muster.` are muster's own")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			p.add("tags."+key, "take another name", "tags that begin with `aws:` are Amazon's own")
		case key == "" || len([]rune(key)) > maxTagKey || len([]rune(s.Tags[key])) > maxTagValue:
			p.add("tags."+key, "", "a tag has at most %d characters, its value %d", maxTagKey, maxTagValue)
		}
	}
}

// reachPublic tells whether the public address is the one that counts.
func (s *Settings) reachPublic() bool {
	return s.Reach == addressPublic || s.Reach == "" && s.Address != addressPrivate
}

// placed tells whether the cluster's placement group has to be there.
func (s *Settings) placed() bool {
	return s.PlacementGroup == "" && s.Placement != placementNone && s.Placement != ""
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

// Size is a number of bytes, written with a unit: 20GiB, 1TiB.
type Size uint64

// UnmarshalText reads a whole number and GiB or TiB.
func (s *Size) UnmarshalText(text []byte) error {
	for unit, shift := range map[string]uint{"GiB": 30, "TiB": 40} {
		number, ok := strings.CutSuffix(string(text), unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
		if err != nil || n == 0 || n > math.MaxUint64>>shift {
			break
		}
		*s = Size(n << shift)
		return nil
	}
	return fmt.Errorf("%q is not a size such as 20GiB or 1TiB", text)
}

// String renders the size in GiB.
func (s Size) String() string { return strconv.FormatUint(s.gib(), 10) + "GiB" }

func (s Size) gib() uint64 { return uint64(s >> 30) }
