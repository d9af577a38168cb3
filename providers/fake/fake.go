// Package fake is a driver whose cloud is simulated: it keeps the contract of providers.Provider against a cloud that
// forgets to answer, hides new servers from its list, throttles, runs out of quota and leaves servers half-tagged.
//
// The package has two sides. cloud.go is the cloud: an API with servers, tags and faults, in memory or in a file that
// several processes share and that survives them. driver.go is the client of that API, written as the driver of a real
// cloud would be, in two ways: with client tokens (as EC2 has them) and without (as OpenStack, by looking before and
// after). Nothing runs on its servers, and their addresses answer nobody.
package fake

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/providers"
)

// Config configures one simulated cloud.
type Config struct {
	State        string `yaml:"state" jsonschema:"description=File that keeps the cloud's state; by default one in muster's state directory"`
	ClientTokens bool   `yaml:"client_tokens" jsonschema:"description=Whether the cloud recognises a repeated create by its token,default=true"`
	Faults       Faults `yaml:"faults" jsonschema:"description=What goes wrong in this cloud"`
}

// Faults is what goes wrong in a cloud. The zero value is a cloud in which nothing does. "Every" counts over the life of
// the cloud, whichever process calls; 0 means never.
type Faults struct {
	ThrottleEvery    int           `yaml:"throttle_every" jsonschema:"description=Every nth request is throttled"`
	UnavailableEvery int           `yaml:"unavailable_every" jsonschema:"description=Every nth request fails with a server error"`
	LoseAnswerEvery  int           `yaml:"lose_answer_every" jsonschema:"description=The answer to the making of every nth server is lost"`
	TagFailureEvery  int           `yaml:"tag_failure_every" jsonschema:"description=Every nth tagging fails and leaves the server half-tagged; needs two_step_tags"`
	TwoStepTags      bool          `yaml:"two_step_tags" jsonschema:"description=Whether tags are written by a second request"`
	Unauthorized     bool          `yaml:"unauthorized" jsonschema:"description=Every request is refused"`
	Quota            int           `yaml:"quota" jsonschema:"description=Number of servers that may exist; 0 does not limit"`
	LateListing      time.Duration `yaml:"late_listing" jsonschema:"type=string,description=How long a new server is missing from lists,example=60s"`
	CreateLatency    time.Duration `yaml:"create_latency" jsonschema:"type=string,description=How long making a server takes,example=2s"`
	BootDelay        time.Duration `yaml:"boot_delay" jsonschema:"type=string,description=How long a server is pending and has no address,example=10s"`
}

// Settings are the settings of one host.
type Settings struct {
	Image string `yaml:"image" jsonschema:"description=Image; the one named missing does not exist,default=muster"`
	Size  string `yaml:"size" jsonschema:"description=Size of the server,default=small"`
}

// Driver describes the driver.
func Driver() providers.Driver {
	return providers.Driver{
		Name:        "fake",
		Summary:     "a simulated cloud with faults, for tests and for trying muster out",
		NewConfig:   func() any { return NewConfig() },
		NewSettings: func() any { return NewSettings() },
		Open: func(name string, config any, env providers.Environment) (providers.Provider, error) {
			c, ok := config.(*Config)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T: %w", config, providers.ErrInvalid)
			}
			opened := *c
			if opened.State == "" && env.StateDir != "" {
				opened.State = filepath.Join(env.StateDir, "providers", name, "cloud.json")
			}
			return New(opened, env), nil
		},
	}
}

// NewConfig returns the defaults: a cloud with client tokens in which nothing goes wrong.
func NewConfig() *Config { return &Config{ClientTokens: true} }

// NewSettings returns the defaults.
func NewSettings() *Settings { return &Settings{Image: "muster", Size: "small"} }

// Validate reports negative numbers and faults that cannot happen.
func (c *Config) Validate() []providers.Problem {
	var problems []providers.Problem
	for _, n := range []struct {
		field string
		value int64
	}{
		{"throttle_every", int64(c.Faults.ThrottleEvery)},
		{"unavailable_every", int64(c.Faults.UnavailableEvery)},
		{"lose_answer_every", int64(c.Faults.LoseAnswerEvery)},
		{"tag_failure_every", int64(c.Faults.TagFailureEvery)},
		{"quota", int64(c.Faults.Quota)},
		{"late_listing", int64(c.Faults.LateListing)},
		{"create_latency", int64(c.Faults.CreateLatency)},
		{"boot_delay", int64(c.Faults.BootDelay)},
	} {
		if n.value < 0 {
			problems = append(problems, providers.Problem{Field: "faults." + n.field, Message: "must not be negative"})
		}
	}
	if c.Faults.TagFailureEvery > 0 && !c.Faults.TwoStepTags {
		problems = append(problems, providers.Problem{
			Field:   "faults.tag_failure_every",
			Message: "has no effect while servers are made with their tags",
			Hint:    "set `two_step_tags: true`",
		})
	}
	return problems
}

// Validate reports empty settings.
func (s *Settings) Validate() []providers.Problem {
	var problems []providers.Problem
	if s.Image == "" {
		problems = append(problems, providers.Problem{Field: "image", Message: "must not be empty"})
	}
	if s.Size == "" {
		problems = append(problems, providers.Problem{Field: "size", Message: "must not be empty"})
	}
	return problems
}

// Provider is a client of one simulated cloud.
type Provider struct {
	cloud     *cloud
	tokens    bool
	interrupt func(step string) error
}

// New opens the cloud of a configuration: in memory when it names no state file, and then another one every time. A
// cloud in a file is the same whoever opens it. Without env.Now the cloud has the real clock; one that stands still never shows new servers
// when listing is late.
func New(config Config, env providers.Environment) *Provider {
	now, log := env.Now, env.Log
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var states store = new(memoryStore)
	if config.State != "" {
		path := config.State
		if !filepath.IsAbs(path) {
			path = filepath.Join(env.Dir, path)
		}
		states = fileStore{path: path}
	}
	return &Provider{cloud: &cloud{store: states, faults: config.Faults, now: now, log: log}, tokens: config.ClientTokens}
}

// WithInterrupt returns another client of the same cloud. Its Create calls hook after a server was made ("made") and
// before tags are added to one ("tag"); when hook returns an error, that is what the call answers, and everything stays as it is, as after a crash. A hook may as
// well end the process. A nil hook does nothing.
func (p *Provider) WithInterrupt(hook func(step string) error) *Provider {
	return &Provider{cloud: p.cloud, tokens: p.tokens, interrupt: hook}
}

// Calls returns every call to the cloud's API that could have changed something, in order, made by whatever process.
func (p *Provider) Calls(ctx context.Context) ([]APICall, error) {
	var calls []APICall
	err := p.cloud.store.update(ctx, func(s *state) error {
		calls = append(calls, s.Calls...)
		return nil
	})
	return calls, err
}

// Plant makes a server behind muster's back, as somebody at the cloud's console would, and returns its identifier.
func (p *Provider) Plant(ctx context.Context, name string, tags map[string]string) (string, error) {
	var made Server
	err := p.cloud.store.update(ctx, func(s *state) error {
		made = s.add(Server{Name: name, Tags: tags, Image: "theirs", Power: powerOn, Created: p.cloud.now()})
		return nil
	})
	return made.ID, err
}

// SetState powers a server off or on, or breaks it, behind muster's back. state is running, stopped or failed.
func (p *Provider) SetState(ctx context.Context, id string, to providers.State) error {
	power := map[providers.State]string{
		providers.StateRunning: powerOn, providers.StateStopped: powerOff, providers.StateFailed: powerBroken,
	}[to]
	if power == "" {
		return fmt.Errorf("cannot make server %s %s: %w", id, to, providers.ErrInvalid)
	}
	return p.cloud.store.update(ctx, func(s *state) error {
		server := s.byID(id)
		if server == nil {
			return fmt.Errorf("server %s: %w", id, providers.ErrNotFound)
		}
		server.Power = power
		return nil
	})
}

// Servers returns everything that exists in the cloud, hidden or not, in the order in which it was made.
func (p *Provider) Servers(ctx context.Context) ([]Server, error) {
	var servers []Server
	err := p.cloud.store.update(ctx, func(s *state) error {
		for _, server := range s.Servers {
			servers = append(servers, *server)
		}
		return nil
	})
	return servers, err
}
