package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/providers"
)

func TestParseURI(t *testing.T) {
	for text, want := range map[string]location{
		"qemu:///system":                            {transport: overUnix},
		"qemu+unix:///system?socket=/run/x":         {transport: overUnix, socket: "/run/x"},
		"qemu+tls://lab.example/system":             {transport: overTLS, host: "lab.example"},
		"qemu://lab.example:16514/system":           {transport: overTLS, host: "lab.example", port: "16514"},
		"qemu+ssh://me@[fd00::1]:22/system":         {transport: overSSH, host: "fd00::1", port: "22", user: "me"},
		"qemu+ssh://lab.example/system?socket=/r/x": {transport: overSSH, host: "lab.example", socket: "/r/x"},
	} {
		if got, err := parseURI(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                                    "not a URI of QEMU",
		"xen:///system":                       "not a URI of QEMU",
		"qemu:///session":                     "a session has no networks",
		"qemu+tcp://lab/system":               "does not encrypt",
		"qemu+smoke://lab/system":             "transport `smoke`",
		"qemu+ssh:///system":                  "needs a host",
		"qemu+unix://lab/system":              "needs a host",
		"qemu+ssh://me:secret@lab/system":     "no place for a password",
		"qemu+tls://lab/system?no_verify=1":   "`no_verify`",
		"qemu+ssh://lab/system?known_hosts=x": "`known_hosts`",
	} {
		if _, err := parseURI(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func fields(problems []providers.Problem) []string {
	var all []string
	for _, p := range problems {
		all = append(all, p.Field)
	}
	slices.Sort(all)
	return all
}

func TestValidate(t *testing.T) {
	if problems := NewConfig().Validate(); len(problems) > 0 {
		t.Errorf("the defaults have %v", problems)
	}
	for _, tt := range []struct {
		change func(*Config)
		want   []string
	}{
		{func(c *Config) { c.Pool, c.Network.Bridge, c.DomainType = "default", "br0", typeKVM }, nil},
		{func(c *Config) { c.URI, c.Pool, c.DomainType, c.Grace = "x", "a/b", "vbox", -1 }, []string{"domain_type", "grace", "pool", "uri"}},
		{func(c *Config) { c.Pool = "/a/../b" }, []string{"pool"}},
		{func(c *Config) { c.SSH.HostKeys = []string{"nonsense"} }, []string{"ssh.host_keys[0]"}},
		{func(c *Config) { c.Network = Network{Name: "default", Bridge: "br0"} }, []string{"network"}},
		{func(c *Config) { c.Network.Subnet = "10.70.1.1/24" }, []string{"network.subnet"}},
		{func(c *Config) { c.Network.Subnet = "10.70.1.0/30" }, []string{"network.subnet"}},
		{func(c *Config) { c.Network.Name = "<x>" }, []string{"network.name"}},
	} {
		config := NewConfig()
		tt.change(config)
		if got := fields(config.Validate()); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: problems in %v, want %v", config, got, tt.want)
		}
	}
}

func TestValidateSettings(t *testing.T) {
	for _, tt := range []struct {
		change func(*Settings)
		want   []string
	}{
		{func(*Settings) {}, nil},
		{func(s *Settings) { s.Image = "" }, []string{"image"}},
		{func(s *Settings) { s.Image, s.SHA256 = "debian", strings.Repeat("a", 64) }, []string{"sha256"}},
		{func(s *Settings) { s.SHA256 = "ABC" }, []string{"sha256"}},
		{func(s *Settings) { s.Memory, s.CPUs, s.Disk = 1, 0, 1 }, []string{"cpus", "disk", "memory"}},
		{func(s *Settings) { s.Firmware = firmwareDirect }, []string{"kernel"}},
		{func(s *Settings) { s.Kernel, s.Cmdline = "./k", "x" }, []string{"cmdline", "kernel"}},
		{func(s *Settings) { s.Firmware, s.Kernel, s.Cmdline, s.CmdlineFile = "direct", "./k", "x", "./c" }, []string{"cmdline_file"}},
		{func(s *Settings) { s.Firmware = "coreboot" }, []string{"firmware"}},
		{func(s *Settings) { s.MAC = "01:00:5e:00:00:01" }, []string{"mac"}},
		{func(s *Settings) { s.Image = "-x" }, []string{"image"}},
	} {
		s := NewSettings()
		s.Image = "./debian.qcow2"
		tt.change(s)
		if got := fields(s.Validate()); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: problems in %v, want %v", s, got, tt.want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"512MiB": 512 << 20, "10 GiB": 10 << 30, "1TiB": 1 << 40, "3KiB": 3072} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "10", "10GB", "-1GiB", "1.5GiB", "99999999999TiB", "GiB"} {
		if err := new(Size).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q passes", text)
		}
	}
	if text := Size(1536 << 20).String(); text != "1536MiB" {
		t.Errorf("rendered %s", text)
	}
}

func TestCmdlineFile(t *testing.T) {
	p := &Provider{dir: t.TempDir()}
	for text, ok := range map[string]bool{
		"root=/dev/vda1 quiet\n": true, "": true, "a\nb": false, strings.Repeat("x", maxCmdline+1): false, "a\x00b": false,
	} {
		if err := os.WriteFile(filepath.Join(p.dir, "cmdline"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := p.cmdline(Settings{CmdlineFile: "cmdline"})
		if ok != (err == nil) || ok && got != strings.TrimSpace(text) {
			t.Errorf("%.20q: %q, %v", text, got, err)
		}
	}
	if _, err := p.cmdline(Settings{CmdlineFile: "none"}); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
}
