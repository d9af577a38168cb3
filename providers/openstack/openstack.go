package openstack

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/providers"
)

// Driver describes the driver.
func Driver() providers.Driver {
	return providers.Driver{
		Name:        "openstack",
		Summary:     "hosts as servers of an OpenStack cloud, virtual or bare metal, or as nodes of Ironic directly",
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

// Provider is a project of a cloud, or a part of one: several providers of different names share a project and do not see
// each other's hosts.
type Provider struct {
	name   string
	config Config
	dir    string // where relative paths begin
	log    *slog.Logger
	now    func() time.Time

	pace time.Duration // the first pause between looks at something that takes a while

	hosts  providers.Locks // by host: Create, Start and Destroy
	shared providers.Locks // by what is looked up or made once
	login  *session
	found  lookups
	claims claims
}

// New opens a provider. It makes no call.
func New(name string, config Config, env providers.Environment) (*Provider, error) {
	if problems := config.Validate(); len(problems) > 0 {
		return nil, fmt.Errorf("`%s`: %s: %w", problems[0].Field, problems[0].Message, providers.ErrInvalid)
	}
	p := &Provider{
		name: name, config: config, dir: env.Dir, log: cmp.Or(env.Log, slog.New(slog.DiscardHandler)), now: env.Now,
		pace: firstPause,
	}
	if p.now == nil {
		p.now = time.Now
	}
	return p, nil
}

// maxUserData is how much base64 Nova takes as user-data (MAX_USERDATA_SIZE in nova/api/openstack/compute/schemas).
const maxUserData = 65535

// UserDataLimit is Nova's. Whoever reads user-data on a host knows gzip.
func (p *Provider) UserDataLimit() cloudconfig.Limit {
	return cloudconfig.Limit{Bytes: maxUserData, Base64: true, Gzip: true}
}

// file is a path of the configuration, made absolute.
func (p *Provider) file(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.dir, path)
}

func (p *Provider) owner(cluster string) owner { return owner{cluster: cluster, provider: p.name} }

// pauses are ever longer times between looks at something that takes a while.
type pauses struct{ first, next time.Duration }

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

func (p *Provider) pauses() *pauses { return &pauses{first: p.pace} }

func (p *pauses) wait(ctx context.Context) error {
	p.next = min(max(p.next*3/2, p.first), longestPause)
	return providers.Pause(ctx, p.next)
}
