package control

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// OrderUpdate does one of the verbs of an UpdateOrder to the updates of hosts. Repeating it changes nothing but times.
func (a *Admin) OrderUpdate(ctx context.Context, verb string, order api.UpdateOrder) error {
	members, err := a.roster(ctx)
	if err != nil {
		return err
	}
	err = a.changeUpdate(ctx, func(r store.UpdateRecord) (store.UpdateRecord, error) {
		return updateOrdered(r, members, verb, order, a.Now().UTC())
	})
	if err != nil {
		return fmt.Errorf("cannot %s the updates of hosts: %w", verb, err)
	}
	return nil
}

// updateOrdered is the record after a verb.
func updateOrdered(r store.UpdateRecord, members roster.Roster, verb string, order api.UpdateOrder, now time.Time) (store.UpdateRecord, error) {
	event := store.UpdateEvent{At: now, By: byOperator, Reason: order.Reason}
	switch verb {
	case api.UpdatePause:
		if r.Paused {
			return r, nil
		}
		r.Paused, event.What = true, "paused"
	case api.UpdateResume:
		if !r.Paused && r.Hold == nil {
			return r, nil
		}
		if r.Hold != nil {
			r.Resumed++
			r.Rollouts = forgiven(r.Rollouts)
		}
		r.Paused, r.Hold, event.What = false, nil, "resumed"
	case api.UpdatePin:
		if order.Version != "" && !update.ValidVersion(order.Version) {
			return r, badRequest("write it as 1.4.0 or 2026.11.3", "%q is no version", order.Version)
		}
		if r.Pin == order.Version {
			return r, nil
		}
		if r.Pin, event.What = order.Version, "pinned"; order.Version == "" {
			event.What = "unpinned"
		}
		event.Reason = order.Version + " " + order.Reason
	case api.UpdateNow:
		event.What = "now"
		r.Now = maps.Clone(r.Now)
		if r.Now == nil {
			r.Now = map[string]time.Time{}
		}
		if len(order.Hosts) == 0 {
			r.Now = map[string]time.Time{"": now}
		}
		for _, name := range order.Hosts {
			h, found := hostCalled(members, name)
			if !found {
				return r, notFound("`muster hosts` lists what there is", "there is no host %s", name)
			}
			r.Now[h.ID] = now
			event.Reason = name + " " + event.Reason
		}
	default:
		return r, badRequest("use now, pause, resume or pin", "there is no verb %q of updates", verb)
	}
	return withEvent(r, event), nil
}

// forgiven are rollouts whose failures count no more.
func forgiven(all map[string]store.UpdateRollout) map[string]store.UpdateRollout {
	all = maps.Clone(all)
	for key, r := range all {
		r.Failed = nil
		all[key] = r
	}
	return all
}

// hostCalled finds a host by name or ID; of several generations the last.
func hostCalled(members roster.Roster, name string) (h roster.Host, found bool) {
	for _, m := range members {
		if m.Name == name || m.ID == name {
			h, found = m, true
		}
	}
	return h, found
}

// configureUpdate takes over what the cluster file says of updates.
func (a *Admin) configureUpdate(ctx context.Context, s store.UpdateSettings) (changed bool, err error) {
	err = a.changeUpdate(ctx, func(r store.UpdateRecord) (store.UpdateRecord, error) {
		if changed = !reflect.DeepEqual(r.Settings, s); !changed {
			return r, nil
		}
		r.Settings = s
		return withEvent(r, store.UpdateEvent{At: a.Now().UTC(), What: "configured", By: byOperator}), nil
	})
	return changed, err
}

// changeUpdate replaces the group's record by what change makes of it.
func (a *Admin) changeUpdate(ctx context.Context, change func(store.UpdateRecord) (store.UpdateRecord, error)) error {
	key := store.UpdateKey(store.UpdateGroup)
	return retry(func() error {
		item, err := a.Store.Get(ctx, key)
		if err != nil {
			return err
		}
		var was store.UpdateRecord
		if item.ModRevision != 0 {
			if was, err = store.Unmarshal[store.UpdateRecord](item.Value); err != nil {
				return err
			}
		}
		after, err := change(was)
		if err != nil || reflect.DeepEqual(was, after) {
			return err
		}
		data, err := store.Marshal(after)
		if err != nil {
			return err
		}
		_, err = a.Store.Commit(ctx, store.Commit{Guards: []store.Guard{unmodified(key, item)}, Ops: []store.Op{store.Put(key, data)}})
		return err
	})
}
