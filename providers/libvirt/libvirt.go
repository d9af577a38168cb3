package libvirt

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/musterhq/muster/providers"
)

// Driver describes the driver.
func Driver() providers.Driver {
	return providers.Driver{
		Name:        "libvirt",
		Summary:     "hosts as QEMU virtual machines of a libvirt daemon, here or over TLS or SSH",
		NewConfig:   func() any { return NewConfig() },
		NewSettings: func() any { return NewSettings() },
		Open: func(name string, config any, env providers.Environment) (providers.Provider, error) {
			c, ok := config.(*Config)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T: %w", config, providers.ErrInvalid)
			}
			return New(name, *c, env)
		},
	}
}

// Provider is one libvirt daemon, or a part of one: several providers of different names share a daemon and do not see
// each other's hosts.
type Provider struct {
	name      string
	at        location
	config    Config
	dir       string // where relative paths begin
	log       *slog.Logger
	now       func() time.Time
	hosts     providers.Locks // by host: Create, Start and Destroy
	shared    providers.Locks // by image or network
	changes   chan struct{}   // holds a value for every connection that changes something
	files     fileSums
	machines  machineCache
	interrupt func(step string) error
}

// maxChanges is how many calls that change something run at once. libvirtd starts domains one after the other in large
// part, and sshd refuses connections when more than ten (MaxStartups in sshd_config) log in at the same time.
const maxChanges = 8

// New opens a provider. It connects to nothing.
func New(name string, config Config, env providers.Environment) (*Provider, error) {
	if problems := config.Validate(); len(problems) > 0 {
		return nil, fmt.Errorf("`%s`: %s: %w", problems[0].Field, problems[0].Message, providers.ErrInvalid)
	}
	at, err := parseURI(config.URI)
	if err != nil {
		return nil, fmt.Errorf("`uri`: %w: %w", err, providers.ErrInvalid)
	}
	p := &Provider{
		name: name, at: at, config: config, dir: env.Dir, log: cmp.Or(env.Log, slog.New(slog.DiscardHandler)), now: env.Now,
		changes: make(chan struct{}, maxChanges),
	}
	if p.now == nil {
		p.now = time.Now
	}
	for _, path := range []*string{&p.config.TLS.Dir, &p.config.SSH.Key, &p.config.SSH.KnownHosts} {
		if *path != "" {
			*path = p.file(*path)
		}
	}
	return p, nil
}

// file is a path of the configuration or the settings, made absolute.
func (p *Provider) file(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.dir, path)
}

func (p *Provider) owner(cluster string) owner { return owner{cluster: cluster, provider: p.name} }

// step tells a test where a crash may happen.
func (p *Provider) step(name string) error {
	if p.interrupt == nil {
		return nil
	}
	return p.interrupt(name)
}

// change is a session that changes something, of which there are not too many at once.
func (p *Provider) change(ctx context.Context, do func(context.Context, *client) error) error {
	select {
	case p.changes <- struct{}{}:
		defer func() { <-p.changes }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return p.session(ctx, do)
}

// isOurs tells whether a name is one that only muster gives.
func isOurs(name string) bool { return strings.HasPrefix(name, "muster-") }
