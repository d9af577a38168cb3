package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/musterhq/muster/providers"
)

// Driver describes the driver.
func Driver() providers.Driver {
	return providers.Driver{
		Name:        "vsphere",
		Summary:     "hosts as virtual machines of VMware vSphere: of a vCenter, or of a standalone ESXi host",
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

// Provider is a datacenter of a vCenter, or an ESXi host. Several providers of different names share one and do not see each
// other's hosts.
type Provider struct {
	name     string
	dir      string // where relative paths begin
	stateDir string // for downloads
	log      *slog.Logger
	now      func() time.Time
	session  *session
	tasks    *tasks
	hosts    providers.Locks // by host: Create, Start and Destroy
	shared   providers.Locks // by folder, image, rule, or "inventory"
	known    inventories
	sources  sources
	files    fileSums
	rules    rules
	folders  refs // of the machines, by cluster
	images   refs // by name
	made     refs // machines of hosts, by the host's ID

	datacenterMu    sync.Mutex
	datacenterKnown object
}

// New opens a provider. It connects to nothing.
func New(name string, config Config, env providers.Environment) (*Provider, error) {
	if problems := config.Validate(); len(problems) > 0 {
		return nil, fmt.Errorf("`%s`: %s: %w", problems[0].Field, problems[0].Message, providers.ErrInvalid)
	}
	at, err := serverOf(config, env.Dir, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	p := &Provider{
		name: name, dir: env.Dir, stateDir: filepath.Join(env.StateDir, "providers", name), now: env.Now,
		log: cmp.Or(env.Log, slog.New(slog.DiscardHandler)), session: newSession(at), tasks: newTasks(),
	}
	if p.now == nil {
		p.now = time.Now
	}
	return p, nil
}

// file is a path of the settings, made absolute.
func (p *Provider) file(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.dir, path)
}

func (p *Provider) owner(cluster string) owner { return owner{cluster: cluster, provider: p.name} }

// with does something with the client. What it answers has a class.
func (p *Provider) with(ctx context.Context, do func(*client) error) error {
	c, err := p.session.connect(ctx)
	if err != nil {
		return err
	}
	return classified(ctx, do(c))
}

// forget lets the next call read the inventory and the templates anew.
func (p *Provider) forget() {
	p.known.set(nil)
	p.sources.forget()
	p.folders.forget()
	p.images.forget()
}
