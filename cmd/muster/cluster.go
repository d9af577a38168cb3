package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// connectOperator reads the cluster file, finds the cluster's directory and returns a client that speaks as the operator.
func (c *cli) connectOperator(ctx context.Context) (fleet, error) {
	s, err := c.loadSpec()
	if err != nil {
		return nil, err
	}
	parent, err := stateParent()
	if err != nil {
		return nil, err
	}
	dir, err := state.OpenReader(parent, s.Cluster)
	if errors.Is(err, state.ErrNoCluster) {
		return nil, c.noCluster(s.Cluster)
	}
	if err != nil {
		return nil, failed("", "cannot open the cluster's state: %w", err)
	}
	endpoints, err := c.endpoints(ctx, s, dir)
	if err != nil {
		return nil, err
	}
	if len(endpoints) == 0 {
		return nil, failed(fmt.Sprintf("run `muster up -f %s`", c.file), "the cluster `%s` has no hosts yet", s.Cluster)
	}
	return c.client(dir, endpoints)
}

// loadSpec reads the cluster file. Its warnings go to standard error.
func (c *cli) loadSpec() (spec.Spec, error) {
	s, err := spec.Load(c.file, c.drivers)
	if err != nil {
		return s, usage("", "%w", err)
	}
	for _, w := range s.Warnings {
		writeWarning(c.err, w.Error(), c.color(c.err))
	}
	return s, nil
}

// noCluster is what every verb says that needs a cluster which has not been made, or not here.
func (c *cli) noCluster(name string) error {
	return failed(fmt.Sprintf("run `muster up -f %s`", c.file), "no cluster `%s` on this machine", name)
}

// client makes a client with the operator's certificate, renewed when it is due.
func (c *cli) client(dir *state.Reader, endpoints []api.Endpoint) (*api.Client, error) {
	root, pair, err := dir.Operator(c.now())
	if err != nil {
		return nil, failed("", "cannot make the operator's certificate: %w", err)
	}
	source, err := pki.NewStaticSource(pair)
	if err != nil {
		return nil, failed("", "cannot use the operator's certificate: %w", err)
	}
	return api.NewClient(endpoints, pki.ClientConfig(root, source, "")), nil
}

// endpoints are where the members listen, as last seen; of a cluster that was never seen, what its providers say.
func (c *cli) endpoints(ctx context.Context, s spec.Spec, dir *state.Reader) ([]api.Endpoint, error) {
	members, err := dir.Roster()
	if err != nil {
		return nil, failed("", "cannot read the cluster's state: %w", err)
	}
	if len(members) > 0 {
		return memberEndpoints(members), nil
	}
	opened, err := c.openProviders(s)
	if err != nil {
		return nil, err
	}
	var endpoints []api.Endpoint
	for _, p := range s.Providers {
		instances, err := opened[p.Name].List(ctx, dir.Cluster().ID)
		if err != nil {
			return nil, failed("", "cannot list the hosts at %s: %w", p.Name, err)
		}
		endpoints = append(endpoints, instanceEndpoints(instances)...)
	}
	return endpoints, nil
}

func memberEndpoints(members roster.Roster) []api.Endpoint {
	endpoints := make([]api.Endpoint, len(members))
	for i, h := range members {
		endpoints[i] = api.Endpoint{Name: h.Name, Address: h.APIAddress(), Voter: h.Voter}
	}
	return endpoints
}

func instanceEndpoints(instances []providers.Instance) []api.Endpoint {
	var endpoints []api.Endpoint
	for _, i := range instances {
		if i.State != providers.StateRunning || len(i.Addresses) == 0 {
			continue
		}
		h := roster.Host{Address: i.Addresses[0].String(), Ports: roster.DefaultPorts()}
		if i.Ports.API != 0 {
			h.Ports.API = i.Ports.API
		}
		endpoints = append(endpoints, api.Endpoint{Name: i.Host, Address: h.APIAddress()})
	}
	return endpoints
}

// openProviders opens every provider of the cluster file, with retries and logs.
func (c *cli) openProviders(s spec.Spec) (map[string]providers.Provider, error) {
	env, err := c.environment()
	if err != nil {
		return nil, err
	}
	opened := make(map[string]providers.Provider, len(s.Providers))
	for _, configured := range s.Providers {
		driver, err := c.drivers.Lookup(configured.Driver)
		if err != nil {
			return nil, usage("", "cannot open provider %s: %w", configured.Name, err)
		}
		p, err := driver.Open(configured.Name, configured.Config, env)
		if err != nil {
			return nil, failed("", "cannot open provider %s: %w", configured.Name, err)
		}
		log := env.Log.With(slog.String("provider", configured.Name))
		opened[configured.Name] = providers.Stack(p, providers.StackOptions{Log: log})
	}
	return opened, nil
}

// environment is what drivers may use of this machine.
func (c *cli) environment() (providers.Environment, error) {
	parent, err := stateParent()
	if err != nil {
		return providers.Environment{}, err
	}
	return providers.Environment{
		Log: c.log(), StateDir: parent, Now: c.now, Dir: filepath.Dir(c.file), Musterd: musterdPath(),
	}, nil
}

// musterdPath is where the daemon's binary should be: beside this one. Whether it is there is for the drivers to find
// out that need it.
func musterdPath() string {
	self, err := os.Executable()
	if err != nil {
		return "musterd"
	}
	if resolved, err := filepath.EvalSymlinks(self); err == nil {
		self = resolved
	}
	return filepath.Join(filepath.Dir(self), "musterd")
}

func stateParent() (string, error) {
	parent, err := state.Parent(os.Getenv)
	if err != nil {
		return "", usage("set MUSTER_STATE_DIR to a directory of your own", "%w", err)
	}
	return parent, nil
}
