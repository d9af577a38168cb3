package spec_test

import (
	"fmt"
	"strings"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
)

// Two drivers stand for all: `local`, where everything has a default, and `remote`, where little has.

type localConfig struct {
	Root  string `yaml:"root" jsonschema:"description=Directory of the hosts."`
	Slots int    `yaml:"slots"`
}

func (c *localConfig) Validate() []providers.Problem {
	if !strings.HasPrefix(c.Root, "/") {
		return []providers.Problem{{Field: "root", Message: "must be absolute", Hint: "write /" + c.Root}}
	}
	return nil
}

type localSettings struct {
	Image string `yaml:"image"`
}

type network struct {
	Name string `yaml:"name"`
	MTU  int    `yaml:"mtu"`
}

type remoteConfig struct {
	Region  string        `yaml:"region" jsonschema:"required,description=Where."`
	Token   secret.Secret `yaml:"token" jsonschema:"description=Credential."`
	Network network       `yaml:"network"`
}

func (c *remoteConfig) Validate() (problems []providers.Problem) {
	if c.Region == "" {
		problems = append(problems, providers.Problem{Field: "region", Message: "is missing"})
	}
	if c.Token.IsZero() {
		problems = append(problems, providers.Problem{Field: "token", Message: "is missing", Hint: "write {env: NAME}"})
	}
	if strings.Contains(c.Network.Name, " ") {
		problems = append(problems, providers.Problem{Field: "network.name", Message: "must be one word"})
	}
	if c.Network.MTU < 68 {
		problems = append(problems, providers.Problem{Field: "network.mtu", Message: "must be 68 or more"})
	}
	return problems
}

type disk struct {
	Size int `yaml:"size"`
}

type remoteSettings struct {
	Image string `yaml:"image"`
	Size  int    `yaml:"size"`
	Disks []disk `yaml:"disks"`
}

func (s *remoteSettings) Validate() (problems []providers.Problem) {
	if s.Image == "" {
		problems = append(problems, providers.Problem{Field: "image", Message: "is missing", Hint: "see `remote images`"})
	}
	for i, d := range s.Disks {
		if d.Size < 0 {
			problems = append(problems, providers.Problem{Field: fmt.Sprintf("disks[%d].size", i), Message: "must not be negative"})
		}
	}
	return problems
}

func registry() *providers.Registry {
	return providers.NewRegistry(
		providers.Driver{
			Name:          "local",
			BringsMusterd: true,
			NewConfig:     func() any { return &localConfig{Root: "/var/lib/muster", Slots: 10} },
			NewSettings:   func() any { return &localSettings{Image: "default"} },
		},
		providers.Driver{
			Name:        "remote",
			NewConfig:   func() any { return &remoteConfig{Network: network{MTU: 1500}} },
			NewSettings: func() any { return &remoteSettings{Size: 1} },
		},
		providers.Driver{Name: "bare"},
	)
}
