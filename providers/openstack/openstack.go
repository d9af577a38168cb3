package openstack

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
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

	hosts  locks // by host: Create, Start and Destroy
	shared locks // by what is looked up or made once
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

// locks are locks by name within this process. Between processes the cloud decides.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock waits until nobody holds the name and takes it.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		l.mu.Lock()
		if l.held == nil {
			l.held = map[string]chan struct{}{}
		}
		free, held := l.held[name]
		if !held {
			mine := make(chan struct{})
			l.held[name] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, name)
				l.mu.Unlock()
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pauses are ever longer times between looks at something that takes a while.
type pauses struct{ first, next time.Duration }

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

func (p *Provider) pauses() *pauses { return &pauses{first: p.pace} }

func (p *pauses) wait(ctx context.Context) error {
	p.next = min(max(p.next*3/2, p.first), longestPause)
	return pause(ctx, p.next)
}
