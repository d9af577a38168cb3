package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/cluster/store"
)

// keptRollouts is how many releases' rollouts a group remembers that no host is about to take.
const keptRollouts = 8

// count writes down how far releases are, by which hosts find out for themselves whether they may go on.
func (s *Steward) count(ctx context.Context, t *store.Tables, fence store.Guard) error {
	g := t.Updates[store.UpdateGroup]
	if g.Revision == 0 {
		return nil
	}
	after := g.Record
	if after.Rollouts = rollouts(t, s.Now().UTC()); reflect.DeepEqual(after.Rollouts, g.Record.Rollouts) {
		return nil
	}
	data, err := store.Marshal(after)
	if err != nil {
		return err
	}
	key := store.UpdateKey(store.UpdateGroup)
	guard := store.Guard{Key: key, Kind: store.GuardModRevision, Revision: g.Revision}
	if _, err := s.Store.Commit(ctx, store.Commit{Guards: []store.Guard{fence, guard}, Ops: []store.Op{store.Put(key, data)}}); err != nil {
		return fmt.Errorf("cannot count how far releases are: %w", err)
	}
	return nil
}

// rollouts is how far each release is that a host is about to take, or was of late; nil where hosts need not know.
func rollouts(t *store.Tables, now time.Time) map[string]store.UpdateRollout {
	g := t.Updates[store.UpdateGroup].Record
	if !g.Settings.Ruled() {
		return nil
	}
	wanted := map[string]bool{}
	for id, h := range t.HostUpdates {
		if _, member := t.Roster[id]; member && h.Record.Target != "" {
			wanted[store.UpdateRollouts(h.Record.Engine, h.Record.Target)] = true
		}
		if _, member := t.Roster[id]; member && h.Record.Failed != "" {
			wanted[store.UpdateRollouts(h.Record.Engine, h.Record.Failed)] = true
		}
	}
	after := map[string]store.UpdateRollout{}
	for key := range wanted {
		after[key] = g.Rollouts[key]
	}
	maps.Copy(after, latest(g.Rollouts, wanted))
	for key, r := range after {
		after[key] = counted(t, key, r, now)
	}
	if len(after) == 0 {
		return nil
	}
	return after
}

// latest are the last rollouts to have begun that are not wanted any more: their hosts may want them again in a moment.
func latest(all map[string]store.UpdateRollout, wanted map[string]bool) map[string]store.UpdateRollout {
	kept := maps.Clone(all)
	maps.DeleteFunc(kept, func(key string, _ store.UpdateRollout) bool { return wanted[key] })
	keys := slices.SortedFunc(maps.Keys(kept), func(a, b string) int {
		return cmp.Or(kept[b].Began.Compare(kept[a].Began), cmp.Compare(a, b))
	})
	for _, key := range keys[min(len(keys), keptRollouts):] {
		delete(kept, key)
	}
	return kept
}

// counted is one rollout as hosts tell of it now.
func counted(t *store.Tables, key string, r store.UpdateRollout, now time.Time) store.UpdateRollout {
	engine, version, _ := strings.Cut(key, "/")
	g := t.Updates[store.UpdateGroup].Record
	canaries := release.Policy{Canaries: g.Settings.Canaries}
	if r.Began.IsZero() {
		r.Began = now
	}
	r.Canaries, r.Well, r.Failed = 0, 0, maps.Clone(r.Failed)
	for id, member := range t.Roster {
		h := t.HostUpdates[id].Record
		if h.Engine != "" && h.Engine != engine {
			continue
		}
		if h.Failed == version && h.Resumed >= g.Resumed {
			if r.Failed == nil {
				r.Failed = map[string]time.Time{}
			}
			r.Failed[id] = h.Since
		}
		if canaries.Canary(member.Record.Labels) {
			r.Canaries++
			if _, alive := t.Alive[id]; alive && tookOver(h, version) {
				r.Well++
			}
		}
	}
	switch {
	case r.Canaries == 0 || r.Well < r.Canaries:
		r.Soaked = time.Time{}
	case r.Soaked.IsZero():
		r.Soaked = now
	}
	return r
}

// tookOver reports whether a host runs a release, or a newer one, and found it good.
func tookOver(h store.UpdateHostRecord, version string) bool {
	switch update.Phase(h.Phase) {
	case update.Idle, update.Fetching, update.Verifying, update.Staging, update.Staged:
		return h.Version != "" && update.Compare(h.Version, version) >= 0
	}
	return false
}

// borne reports whether nobody need stop because a release failed on a host: it is counted, and not too many are.
func borne(g store.UpdateRecord, id string, h store.UpdateHostRecord) bool {
	if !g.Settings.Ruled() {
		return false
	}
	r := g.Rollouts[store.UpdateRollouts(h.Engine, h.Failed)]
	_, counted := r.Failed[id]
	return !counted || len(r.Failed) <= g.Settings.Budget
}
