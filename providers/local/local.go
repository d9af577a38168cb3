package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/providers"
)

// Config configures one provider: one "cloud" on this machine. Relative paths begin at the cluster file's directory.
type Config struct {
	Root    string       `yaml:"root" jsonschema:"description=Directory that holds the hosts' directories; by default one in muster's state directory"`
	Musterd string       `yaml:"musterd" jsonschema:"description=The musterd binary; by default the one beside muster"`
	Path    []string     `yaml:"path" jsonschema:"description=Directories where units find their programs before they look in the system's"`
	Boot    string       `yaml:"boot" jsonschema:"enum=process,enum=nspawn,default=process,description=What a host is: a process\\, or a systemd-nspawn container of an image\\, which takes root on Linux"`
	Image   string       `yaml:"image" jsonschema:"description=What containers boot: a directory with the root of muster's host image\\, or its squashfs file,example=image/tree"`
	Network netip.Prefix `yaml:"network" jsonschema:"description=Network of containers; muster makes a bridge and removes it,default=10.93.0.0/24"`
	NAT     bool         `yaml:"nat" jsonschema:"description=Let containers reach what this machine reaches"`
}

// NewConfig returns the defaults.
func NewConfig() *Config {
	return &Config{Boot: bootProcess, Network: netip.MustParsePrefix("10.93.0.0/24")}
}

// Settings are the settings of one host.
type Settings struct {
	Env map[string]string `yaml:"env" jsonschema:"description=Environment variables of every process of the host"`
}

// Driver describes the driver.
func Driver() providers.Driver {
	return providers.Driver{
		Name:          "local",
		Summary:       "hosts as processes on this machine, nothing to install",
		BringsMusterd: true,
		NewConfig:     func() any { return new(Config) },
		NewSettings:   func() any { return new(Settings) },
		Open: func(name string, config any, env providers.Environment) (providers.Provider, error) {
			c, ok := config.(*Config)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T: %w", config, providers.ErrInvalid)
			}
			return New(name, *c, env)
		},
	}
}

// Validate reports empty entries, and fields that do not go together.
func (c *Config) Validate() []providers.Problem {
	var problems []providers.Problem
	c.validateContainer(func(field, message, hint string) {
		problems = append(problems, providers.Problem{Field: field, Message: message, Hint: hint})
	})
	for i, dir := range c.Path {
		if dir == "" || strings.Contains(dir, string(os.PathListSeparator)) {
			problems = append(problems, providers.Problem{
				Field: fmt.Sprintf("path[%d]", i), Message: fmt.Sprintf("%q is not one directory", dir),
			})
		}
	}
	return problems
}

var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Validate reports variables that cannot be, or that the provider sets itself.
func (s *Settings) Validate() []providers.Problem {
	var problems []providers.Problem
	for name, value := range s.Env {
		problem := providers.Problem{Field: "env." + name}
		switch {
		case !variableForm.MatchString(name):
			problem.Message = fmt.Sprintf("%q is not the name of a variable", name)
		case name == "PATH":
			problem.Message, problem.Hint = "PATH is set by the provider", "use the provider's `path:`"
		case name == "HOME" || strings.HasPrefix(name, "MUSTER_"):
			problem.Message = name + " is set by the provider"
		case strings.ContainsRune(value, 0):
			problem.Message = "the value holds a NUL"
		default:
			continue
		}
		problems = append(problems, problem)
	}
	slices.SortFunc(problems, func(a, b providers.Problem) int { return cmp.Compare(a.Field, b.Field) })
	return problems
}

// Provider is one "cloud" on this machine.
type Provider struct {
	name      string
	root      string // absolute
	ownRoot   bool   // root is below muster's state directory and nobody else's
	musterd   string // absolute, "" when unknown
	path      []string
	container *container // what new hosts are, nil for processes
	log       *slog.Logger
	now       func() time.Time
	processes table
	leases    leaseDir
	grace     time.Duration // between asking musterd, and then units, to end and ending them
	interrupt func(step string) error
}

// defaultGrace is how long a destroyed host's processes may take to end by themselves. Nothing that they would write
// in that time is kept.
const defaultGrace = 2 * time.Second

// New opens a provider. It makes nothing.
func New(name string, config Config, env providers.Environment) (*Provider, error) {
	p := &Provider{
		name: name, log: cmp.Or(env.Log, slog.New(slog.DiscardHandler)), now: env.Now, processes: thisMachine(),
		leases: machineLeases(), grace: defaultGrace,
	}
	if p.now == nil {
		p.now = time.Now
	}
	if config.Root == "" && env.StateDir == "" {
		return nil, fmt.Errorf("no `root:` and no state directory: %w", providers.ErrInvalid)
	}
	p.ownRoot = config.Root == ""
	if p.ownRoot {
		config.Root = filepath.Join(env.StateDir, "providers", name)
	}
	var err error
	absolute := func(path string) string {
		if !filepath.IsAbs(path) {
			path = filepath.Join(env.Dir, path)
		}
		made, absErr := filepath.Abs(path)
		err = errors.Join(err, absErr)
		return made
	}
	p.root = absolute(config.Root)
	if musterd := cmp.Or(config.Musterd, env.Musterd); musterd != "" {
		p.musterd = absolute(musterd)
	}
	for _, dir := range config.Path {
		p.path = append(p.path, absolute(dir))
	}
	if config.Boot == bootNspawn {
		p.container = &container{Image: absolute(config.Image), Network: config.Network, NAT: config.NAT}
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Check looks whether there is a musterd to start, whether the hosts' directories can be made, whether the directories of
// `path:` exist, and whether this machine has what containers need.
func (p *Provider) Check(ctx context.Context, settings []any) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	errs := []error{p.checkMusterd(), p.checkRoot()}
	if p.container != nil {
		errs = append(errs, p.checkContainers())
	}
	for _, each := range settings {
		_, err := p.settingsOf(each)
		errs = append(errs, err)
	}
	for _, dir := range p.path {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			errs = append(errs, fmt.Errorf("`path:` names %s, which is not a directory: %w", dir, providers.ErrNotFound))
		}
	}
	return errors.Join(errs...)
}

func (p *Provider) checkMusterd() error {
	if p.musterd == "" {
		return fmt.Errorf("no musterd binary is known: run `make build` or set `musterd:`: %w", providers.ErrNotFound)
	}
	info, err := os.Stat(p.musterd)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("there is no musterd binary at %s: run `make build` or set `musterd:`: %w", p.musterd, providers.ErrNotFound)
	}
	return nil
}

// checkRoot looks whether the nearest directory that exists may be written to.
func (p *Provider) checkRoot() error {
	for dir := p.root; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			continue
		}
		if err == nil && !info.IsDir() {
			err = errors.New("it is not a directory")
		}
		if err == nil {
			err = unix.Access(dir, unix.W_OK)
		}
		if err != nil {
			return fmt.Errorf("no host can be made in %s: %s: %w: %w", p.root, dir, err, providers.ErrInvalid)
		}
		return nil
	}
}

func (p *Provider) settingsOf(settings any) (*Settings, error) {
	switch s := settings.(type) {
	case nil:
		return new(Settings), nil
	case *Settings:
		if p.container != nil && len(s.Env) > 0 {
			return nil, fmt.Errorf("`env:` is for hosts that are processes; say it in the units, or in a cloud-config: %w", providers.ErrInvalid)
		}
		return s, nil
	default:
		return nil, fmt.Errorf("settings are a %T: %w", settings, providers.ErrInvalid)
	}
}
