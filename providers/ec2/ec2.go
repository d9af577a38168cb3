package ec2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/providers"
)

// Driver describes the driver.
func Driver() providers.Driver {
	return providers.Driver{
		Name:        "ec2",
		Summary:     "hosts as instances of Amazon EC2",
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

// Provider is an account in a region, or a part of it: several providers of different names share an account and do not
// see each other's hosts.
type Provider struct {
	name      string
	config    Config
	log       *slog.Logger
	now       func() time.Time
	timing    timing
	http      config.HTTPClient // nil: the SDK's own
	interrupt func(step string) error

	clients once[string, *clients]
	pace    pace
	records records
	hosts   providers.Locks // by identity: Create, Start and Destroy
	views   views
	images  once[Image, image]
	nets    once[string, []subnet]
	groups  once[groupKey, string]
	places  once[groupKey, string]
}

// timing is how long things take and are waited for.
type timing struct {
	hidden  time.Duration // how long EC2's lists may hide what was made
	look    time.Duration // between two looks at what is waited for
	console time.Duration // between two looks at a console that is followed
}

// EC2's lists are consistent after seconds in general; a minute is the longest that is allowed for, and a little more for a
// request that was on its way when its sender ended. Console output is renewed about once a minute.
var defaultTiming = timing{hidden: 75 * time.Second, look: 3 * time.Second, console: 10 * time.Second}

// New opens a provider. It makes no call.
func New(name string, config Config, env providers.Environment) (*Provider, error) {
	if err := invalid(config.Validate()); err != nil {
		return nil, err
	}
	p := &Provider{
		name: name, config: config, log: cmp.Or(env.Log, slog.New(slog.DiscardHandler)), now: env.Now, timing: defaultTiming,
		pace: pace{rate: refill},
	}
	if p.now == nil {
		p.now = time.Now
	}
	if env.StateDir != "" {
		p.records.dir = filepath.Join(env.StateDir, "providers", name)
	}
	return p, nil
}

func (p *Provider) owner(cluster string) owner { return owner{cluster: cluster, provider: p.name} }

// userDataLimit is EC2's bound of user-data before it is in base64 (API Reference, RunInstances). Hosts read it through
// cloud-init or musterd, which take gzip.
var userDataLimit = cloudconfig.Limit{Bytes: 16 << 10, Gzip: true}

// UserDataLimit is 16 KiB, compressed if need be.
func (p *Provider) UserDataLimit() cloudconfig.Limit { return userDataLimit }

// step tells a test where a crash may happen.
func (p *Provider) step(name string) error {
	if p.interrupt == nil {
		return nil
	}
	return p.interrupt(name)
}

// errHidden is a thing that EC2 says exists and does not show yet.
var errHidden = errors.New("EC2 does not show it yet")

// hidden says that something cannot be found out now.
func hidden(what string) error {
	return fmt.Errorf("%s: %w: %w", what, errHidden, providers.ErrUnavailable)
}

// await looks until done says so. Looks are shared by all who wait and spaced.
func (p *Provider) await(ctx context.Context, o owner, done func(view) (bool, error)) error {
	for {
		seen, err := p.look(ctx, o, p.timing.look)
		if err != nil {
			return err
		}
		if ok, err := done(seen); ok || err != nil {
			return err
		}
	}
}
