package agent

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// Why explains where a unit is, and for each host why it is there or could not be. Of a template with replicas it tells
// where some are, and where another one might go.
func (s *service) Why(ctx context.Context, name string) (api.Why, error) {
	v, _, stale, err := s.read(ctx, fleet.StatusPrefixes)
	if err != nil {
		return api.Why{}, err
	}
	u, known := v.RecordOf(name)
	switch {
	case !known:
		return api.Why{}, errNoUnit(name)
	case unitfile.IsTemplate(name) && !u.Replicated:
		return api.Why{}, api.Errorf(http.StatusBadRequest, "ask for one of its instances: "+unitfile.Instance(name, "1"),
			"%s is a template and is on no host", name)
	}
	why := inShort(name, s.describe(ctx, v, stale).Units)
	if why.State == "" { // one of more replicas than a status lists
		for _, h := range v.HostsOf(name) {
			why.Host = h.Name
		}
	}
	why.Rollout = v.TellRollout(name)
	if u.Desired == store.DesiredInactive {
		why.Reason = cmp.Or(why.Reason, "it was submitted and not started; `muster units start "+name+"` starts it")
		return why, nil
	}
	snapshot, err := s.snapshot(ctx, v)
	if err != nil {
		return api.Why{}, err
	}
	for _, r := range schedule.Explain(snapshot, name) {
		why.Hosts = append(why.Hosts, api.HostReason{Host: r.Host, Fits: r.Fits, Reason: r.Reason})
	}
	for _, h := range v.Members() {
		if !v.Seen(h.ID) {
			why.Hosts = append(why.Hosts, api.HostReason{Host: h.Name, Reason: "is joining and was not seen yet"})
		}
	}
	slices.SortFunc(why.Hosts, func(a, b api.HostReason) int { return cmp.Compare(a.Host, b.Host) })
	why.Reason = cmp.Or(why.Reason, "every rule holds there")
	s.addOrders(v, name, &why)
	return why, nil
}

// inShort takes from the status what it says of one unit, which may be on several hosts.
func inShort(name string, units []api.UnitStatus) api.Why {
	why := api.Why{Unit: name, Hosts: []api.HostReason{}}
	var hosts []string
	for _, u := range units {
		if u.Name != name {
			continue
		}
		if u.Host != "" {
			hosts = append(hosts, u.Host)
		}
		why.State, why.Reason = cmp.Or(why.State, u.State), cmp.Or(why.Reason, u.Reason)
	}
	why.Host = strings.Join(hosts, ", ")
	return why
}
