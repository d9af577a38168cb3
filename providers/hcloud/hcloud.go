package hcloud

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/providers"
)

// Driver describes the driver.
func Driver() providers.Driver {
	return providers.Driver{
		Name:        "hcloud",
		Summary:     "hosts as servers of the Hetzner Cloud",
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

// Provider is a project, or a part of it.
type Provider struct {
	name   string
	config Config
	log    *slog.Logger
	api    *api.Client
	wire   *http.Transport
	look   time.Duration // the first pause between looks at a server that is ending

	known  memo
	spread spread
}

// New opens a provider. It makes no call.
func New(name string, config Config, env providers.Environment) (*Provider, error) {
	if err := invalid(config.Validate()); err != nil {
		return nil, err
	}
	p := &Provider{
		name: name, config: config, log: cmp.Or(env.Log, slog.New(slog.DiscardHandler)), wire: transport(config.Timeout),
		look: 500 * time.Millisecond,
	}
	p.known.now = env.Now
	if env.Now == nil {
		p.known.now = time.Now
	}
	token := strings.TrimSpace(cmp.Or(config.Token.Reveal(), os.Getenv("HCLOUD_TOKEN")))
	p.api = api.NewClient(
		api.WithToken(token),
		api.WithEndpoint(cmp.Or(config.Endpoint, os.Getenv("HCLOUD_ENDPOINT"), api.Endpoint)),
		api.WithApplication("muster", ""),
		api.WithRetryOpts(api.RetryOpts{MaxRetries: 0}), // providers.Retry repeats
		api.WithHTTPClient(&http.Client{Transport: &pace{next: p.wire, login: token != ""}}),
	)
	return p, nil
}

// transport is how requests travel.
func transport(timeout time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second,
		ResponseHeaderTimeout: timeout, IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 16, ForceAttemptHTTP2: true,
	}
}

// userDataLimit is the API's bound of `user_data`, which is text and so cannot be gzip (API reference, "Create a Server").
var userDataLimit = cloudconfig.Limit{Bytes: 32 << 10}

// UserDataLimit is 32 KiB.
func (p *Provider) UserDataLimit() cloudconfig.Limit { return userDataLimit }

func (p *Provider) owner(cluster string) owner { return owner{cluster: cluster, provider: p.name} }
