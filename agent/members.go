package agent

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// members is the roster as this host knows it, which is how it finds the voters: from the store while that can be
// reached, and from disk before.
type members struct {
	store   store.Store
	self    string // host ID
	save    func(roster.Roster) error
	changed func(voters roster.Roster)
	log     *slog.Logger

	mu   sync.Mutex
	list roster.Roster // guarded by mu
}

// membersPace lets a roster that is being written come to rest.
var membersPace = store.Pace{Settle: 100 * time.Millisecond, Bound: time.Second}

// run follows the roster until ctx ends. An empty one says nothing.
func (m *members) run(ctx context.Context) error {
	failed := func(err error) { m.log.Warn("cannot follow the roster", "err", err) }
	return pause.Until(ctx, longestPause, failed, func() error {
		return store.Follow(ctx, m.store, []string{store.PrefixRoster}, membersPace, func(t *store.Tables) error {
			if list := (fleet.View{Tables: t}).Members(); len(list) > 0 {
				m.set(list)
			}
			return nil
		})
	})
}

func (m *members) set(list roster.Roster) {
	m.mu.Lock()
	same := reflect.DeepEqual(list, m.list)
	m.list = list
	m.mu.Unlock()
	if same {
		return
	}
	if _, member := list.ByID(m.self); !member {
		m.log.Error("this host is not in the cluster any more; its units go on until it is ended")
	}
	if err := m.save(list); err != nil {
		m.log.Error("a restart would go back to an older roster", "err", err)
	}
	if voters := list.Voters(); len(voters) > 0 {
		m.changed(voters)
	}
}

// voters are the members that vote, as last known.
func (m *members) voters() roster.Roster {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list.Voters()
}

// own is this host as the roster has it, as last known.
func (m *members) own() (h roster.Host, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list.ByID(m.self)
}

func clientURLs(voters roster.Roster) []string {
	urls := make([]string, len(voters))
	for i, h := range voters {
		urls[i] = h.ClientURL()
	}
	return urls
}
