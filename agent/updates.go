package agent

import (
	"cmp"
	"context"
	"slices"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

// updatePrefixes are the records that tell how hosts update.
var updatePrefixes = []string{store.PrefixUpdate, store.PrefixRoster, store.PrefixHosts}

// Update tells how hosts update. Without quorum it tells what this host's replica has.
func (s *service) Update(ctx context.Context) (api.Update, error) {
	v, _, _, err := s.read(ctx, updatePrefixes)
	if err != nil {
		return api.Update{}, err
	}
	return describeUpdate(v), nil
}

func describeUpdate(v fleet.View) api.Update {
	g := v.Updates[store.UpdateGroup].Record
	name := func(id string) string { return v.Roster[id].Record.Name }
	u := api.Update{
		Enabled: len(g.Settings.Source) > 0, Channel: g.Settings.Channel, Paused: g.Paused, Pin: g.Pin,
		Hosts: []api.UpdateHost{}, History: []api.UpdateEvent{},
	}
	if h := g.Hold; h != nil {
		u.Hold = &api.UpdateHold{Version: h.Version, Host: cmp.Or(name(h.Host), h.Host), Reason: h.Reason, At: h.At}
	}
	for _, e := range g.History {
		u.History = append(u.History, api.UpdateEvent{At: e.At, What: e.What, By: cmp.Or(name(e.By), e.By), Reason: e.Reason})
	}
	for id, member := range v.Roster {
		h := v.HostUpdates[id].Record
		u.Hosts = append(u.Hosts, api.UpdateHost{
			Host: member.Record.Name, Voter: member.Record.Voter, Engine: h.Engine, Version: cmp.Or(h.Version, v.Hosts[id].Record.Facts.Version),
			Phase: h.Phase, Target: h.Target, Reason: h.Reason, Since: h.Since,
		})
		for _, o := range h.History {
			u.History = append(u.History, api.UpdateEvent{
				At: o.At, What: o.What, Host: member.Record.Name, From: o.From, To: o.To, Reason: o.Reason,
			})
		}
	}
	slices.SortFunc(u.Hosts, func(a, b api.UpdateHost) int { return cmp.Compare(a.Host, b.Host) })
	slices.SortStableFunc(u.History, func(a, b api.UpdateEvent) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Host, b.Host)) })
	return u
}
