package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// reloader reloads units here, or has other hosts do it. Only voters may ask other hosts.
type reloader struct {
	runtime runtime.Runtime
	host    string      // name of this one
	control *tls.Config // a voter's privileged client; nil on hosts that do not vote
}

// How many hosts are asked to reload at once, and how long one may take: systemd waits for a unit's ExecReload=.
const (
	reloadsAtOnce = 64
	reloadTimeout = 100 * time.Second
)

// Reload is api.Fleet: with the name of this host it is its own affair, and the host that a voter asks is always named.
func (s *service) Reload(ctx context.Context, name, host string) ([]api.Reloaded, error) {
	if err := unitfile.CheckName(name); err != nil {
		return nil, api.Errorf(http.StatusBadRequest, "see `muster units`", "%v", err)
	}
	if host == s.self.Host {
		return s.reloads.local(ctx, name)
	}
	v, _, _, err := s.read(ctx, []string{store.PrefixSchedule, store.PrefixUnits, store.PrefixAlive, store.PrefixRoster})
	if err != nil {
		return nil, err
	}
	hosts := slices.DeleteFunc(havingAny(v, name), func(h roster.Host) bool { return host != "" && h.Name != host })
	if _, known := v.Units[name]; !known && len(hosts) == 0 {
		return nil, errNoUnit(name)
	}
	if len(hosts) == 0 {
		return nil, api.Errorf(http.StatusConflict, "`muster why "+name+"` tells why", "unit %s is on no host", name)
	}
	return s.reloads.everywhere(ctx, v, hosts, name)
}

// havingAny returns the members that have a unit, or replicas of a template.
func havingAny(v fleet.View, name string) []roster.Host {
	hosts := v.HostsOf(name)
	for _, h := range v.Members() {
		ofTemplate := func(u store.ScheduledUnit) bool { return u.Name == name && u.Instances != nil }
		if slices.ContainsFunc(v.Schedule[h.ID].Record.Units, ofTemplate) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// everywhere asks hosts side by side. A host that does not answer has a result of its own.
func (l reloader) everywhere(ctx context.Context, v fleet.View, hosts []roster.Host, name string) ([]api.Reloaded, error) {
	var mu sync.Mutex
	var all []api.Reloaded
	var g errgroup.Group
	g.SetLimit(reloadsAtOnce)
	for _, h := range hosts {
		g.Go(func() error {
			results, err := l.on(ctx, h, v.Ready(h.ID), name)
			var answer *api.Error
			if errors.As(err, &answer) && answer.Status == http.StatusMisdirectedRequest {
				return err // a voter is to be asked
			}
			if err != nil {
				results = []api.Reloaded{{Unit: name, Host: h.Name, Error: err.Error()}}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, results...)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b api.Reloaded) int {
		return cmp.Or(strings.Compare(a.Unit, b.Unit), strings.Compare(a.Host, b.Host))
	})
	return all, nil
}

// on reloads what one host has of a unit.
func (l reloader) on(ctx context.Context, h roster.Host, ready bool, name string) ([]api.Reloaded, error) {
	switch {
	case h.Name == l.host:
		return l.local(ctx, name)
	case l.control == nil:
		return nil, api.Errorf(http.StatusMisdirectedRequest, "ask a voter",
			"unit %s is on host %s, to which this host may say nothing", name, h.Name)
	case !ready:
		return nil, errors.New("the host is lost")
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	c := api.NewClient([]api.Endpoint{{Name: h.Name, Address: h.APIAddress()}}, l.control)
	defer c.Close()
	return c.Reload(ctx, name, h.Name)
}

// local reloads a unit of this host, or all instances of a template that it has.
func (l reloader) local(ctx context.Context, name string) ([]api.Reloaded, error) {
	rt, able := l.runtime.(runtime.Reloader)
	if !able {
		return nil, api.Errorf(http.StatusNotImplemented, "restart it", "the runtime of host %s reloads nothing", l.host)
	}
	units, err := l.runtime.List(ctx)
	if err != nil {
		return nil, err
	}
	var results []api.Reloaded
	for _, u := range units {
		template, _ := unitfile.Template(u.Name)
		if u.Name != name && template != name {
			continue
		}
		result := api.Reloaded{Unit: u.Name, Host: l.host}
		if err := rt.Reload(ctx, u.Name); err != nil {
			result.Error = reason(err, u.Name)
		}
		results = append(results, result)
	}
	if results == nil {
		return nil, api.Errorf(http.StatusNotFound, "`muster status` tells where it is", "unit %s is not on host %s", name, l.host)
	}
	return results, nil
}

// reason says why a unit was not reloaded, and what to do.
func reason(err error, name string) string {
	switch {
	case errors.Is(err, runtime.ErrNoReload):
		return runtime.ErrNoReload.Error() + " below [Service]; `muster units restart " + name + "` restarts it"
	case errors.Is(err, runtime.ErrNotActive):
		return runtime.ErrNotActive.Error() + " there; `muster units status " + name + "` tells what it is"
	}
	return err.Error()
}
