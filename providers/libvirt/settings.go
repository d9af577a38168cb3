package libvirt

import (
	"fmt"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/musterhq/muster/providers"
)

// Settings are the settings of one host.
type Settings struct {
	Image       string `yaml:"image" jsonschema:"description=Disk image\\, raw or qcow2: the path of a file\\, with a slash\\, which is uploaded once\\, or the name of a volume of the pool"`
	SHA256      string `yaml:"sha256" jsonschema:"description=SHA-256 of the image's file\\, in hexadecimal; a file that differs is refused"`
	Memory      Size   `yaml:"memory" jsonschema:"description=Memory,default=1GiB,example=512MiB"`
	CPUs        int    `yaml:"cpus" jsonschema:"minimum=1,maximum=512,default=1,description=Virtual CPUs"`
	Disk        Size   `yaml:"disk" jsonschema:"description=Size of the disk; at least the image's,default=10GiB"`
	Firmware    string `yaml:"firmware" jsonschema:"enum=bios,enum=uefi,enum=direct,default=bios,description=What boots the host; direct starts kernel without a boot loader"`
	Kernel      string `yaml:"kernel" jsonschema:"description=Kernel for firmware: direct\\, a path with a slash or a volume of the pool"`
	Initrd      string `yaml:"initrd" jsonschema:"description=Initial RAM disk for firmware: direct"`
	Cmdline     string `yaml:"cmdline" jsonschema:"description=Kernel command line for firmware: direct,example=root=/dev/vda1 console=ttyS0"`
	CmdlineFile string `yaml:"cmdline_file" jsonschema:"description=File that holds the kernel command line\\, instead of cmdline,example=./image/cmdline"`
	Autostart   bool   `yaml:"autostart" jsonschema:"default=true,description=Whether the host starts when its hypervisor does"`
	MAC         string `yaml:"mac" jsonschema:"description=MAC address\\, for one host in a network that muster does not make,example=52:54:00:12:34:56"`
}

// The values of Settings.Firmware.
const (
	firmwareBIOS   = "bios"
	firmwareUEFI   = "uefi"
	firmwareDirect = "direct"
)

// NewSettings returns the defaults.
func NewSettings() *Settings {
	return &Settings{Memory: 1 << 30, CPUs: 1, Disk: 10 << 30, Firmware: firmwareBIOS, Autostart: true}
}

const (
	minMemory = 32 << 20
	maxMemory = 64 << 40
	minDisk   = 1 << 20
	maxDisk   = 1 << 50
)

var sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Validate reports what cannot be.
func (s *Settings) Validate() []providers.Problem {
	var problems []providers.Problem
	add := func(field, hint, format string, args ...any) {
		problems = append(problems, providers.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if s.Image == "" {
		add("image", "set `image:` to a file, such as ./images/debian.qcow2", "no image is given")
	}
	for field, value := range map[string]string{"image": s.Image, "kernel": s.Kernel, "initrd": s.Initrd} {
		if value != "" && !isPath(value) && !nameForm.MatchString(value) {
			add(field, "", "%q is neither a path with a slash nor the name of a volume", value)
		}
	}
	switch {
	case s.SHA256 == "":
	case !sha256Form.MatchString(s.SHA256):
		add("sha256", "", "not 64 hexadecimal digits in lower case")
	case !isPath(s.Image):
		add("sha256", "remove it", "only the sum of a file is verified, and `image` is a volume")
	}
	if s.Memory < minMemory || s.Memory > maxMemory {
		add("memory", "", "%s is not between %s and %s", s.Memory, Size(minMemory), Size(maxMemory))
	}
	if s.CPUs < 1 || s.CPUs > 512 {
		add("cpus", "", "%d is not between 1 and 512", s.CPUs)
	}
	if s.Disk < minDisk || s.Disk > maxDisk {
		add("disk", "", "%s is not between %s and %s", s.Disk, Size(minDisk), Size(maxDisk))
	}
	if mac, err := net.ParseMAC(s.MAC); s.MAC != "" && (err != nil || len(mac) != 6 || mac[0]&1 != 0) {
		add("mac", "", "%q is not the MAC address of one interface", s.MAC)
	}
	return append(problems, s.validateFirmware()...)
}

func (s *Settings) validateFirmware() []providers.Problem {
	switch s.Firmware {
	case firmwareBIOS, firmwareUEFI:
		var problems []providers.Problem
		for _, field := range []struct{ name, value string }{{"kernel", s.Kernel}, {"initrd", s.Initrd}, {"cmdline", s.Cmdline}, {"cmdline_file", s.CmdlineFile}} {
			if field.value != "" {
				problems = append(problems, providers.Problem{
					Field: field.name, Message: "has no effect with `firmware: " + s.Firmware + "`", Hint: "set `firmware: direct`",
				})
			}
		}
		return problems
	case firmwareDirect:
		if s.Kernel == "" {
			return []providers.Problem{{Field: "kernel", Message: "`firmware: direct` needs a kernel"}}
		}
		if s.Cmdline != "" && s.CmdlineFile != "" {
			return []providers.Problem{{Field: "cmdline_file", Message: "`cmdline` is given too", Hint: "keep one"}}
		}
		return nil
	default:
		return []providers.Problem{{Field: "firmware", Message: fmt.Sprintf("%q is none of bios, uefi and direct", s.Firmware)}}
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

// isPath tells a file from a volume.
func isPath(image string) bool { return strings.Contains(image, "/") }

// Size is a number of bytes, written with a unit: 512MiB, 10GiB.
type Size uint64

var units = []struct {
	name  string
	bytes Size
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
}

// UnmarshalText reads a whole number and KiB, MiB, GiB or TiB.
func (s *Size) UnmarshalText(text []byte) error {
	for _, unit := range units {
		number, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
		if err != nil || n > math.MaxUint64/uint64(unit.bytes) {
			break
		}
		*s = Size(n) * unit.bytes
		return nil
	}
	return fmt.Errorf("%q is not a size such as 512MiB or 10GiB", text)
}

// String renders the size in the largest unit that divides it.
func (s Size) String() string {
	for _, unit := range units {
		if s >= unit.bytes && s%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", s/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", uint64(s))
}
