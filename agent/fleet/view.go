package fleet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// View is the cluster's records with what follows from them.
type View struct{ *store.Tables }

// Reader is what the package needs of a store.
type Reader interface {
	Range(ctx context.Context, prefix string) (store.View, error)
	RangeStale(ctx context.Context, prefix string) (store.View, error)
	Get(ctx context.Context, key string) (store.Item, error)
}

// StatusPrefixes is what the status is made from. The order matters: each is read before those that it refers to, so
// that a host or a unit which appears in one is in the next.
var StatusPrefixes = []string{
	store.PrefixStates, store.PrefixSchedule, store.PrefixUnits, store.PrefixAlive, store.PrefixHosts, store.PrefixRoster,
	store.PrefixOrders, store.KeyRebalance, store.KeyCluster, store.PrefixLeader,
}

// Load reads the records under some prefixes. With stale it asks whatever replica answers.
func Load(ctx context.Context, r Reader, prefixes []string, stale bool) (View, error) {
	read := r.Range
	if stale {
		read = r.RangeStale
	}
	v := View{store.NewTables()}
	for _, prefix := range prefixes {
		records, err := read(ctx, prefix)
		if err != nil {
			return View{}, fmt.Errorf("cannot read the cluster's records: %w", err)
		}
		v.Read(records)
	}
	return v, nil
}

// Members is the roster, sorted by name.
func (v View) Members() roster.Roster {
	members := make(roster.Roster, 0, len(v.Roster))
	for _, r := range v.Roster {
		members = append(members, r.Record.Host)
	}
	slices.SortFunc(members, func(a, b roster.Host) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Generation, b.Generation))
	})
	return members
}

// Ready reports whether a host is a member that lives.
func (v View) Ready(id string) bool {
	_, member := v.Roster[id]
	_, alive := v.Alive[id]
	return member && alive
}

// Seen reports whether a host has ever said anything of itself.
func (v View) Seen(id string) bool {
	_, seen := v.Hosts[id]
	return seen
}

// bad renders Bad in a stable order.
func (v View) bad() []string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(v.Bad)) {
		lines = append(lines, fmt.Sprintf("left out: %v", v.Bad[key]))
	}
	return lines
}
