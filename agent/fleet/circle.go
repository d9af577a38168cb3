package fleet

import (
	"context"
	"maps"
	"slices"

	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// Circle tells how Replaces would go in a circle if a unit had a record and these contents, "" if it would not. It reads the
// rules of all units, of those that are not started too: they may be at any time.
func Circle(ctx context.Context, from Reader, name string, record store.UnitRecord, content []byte) (string, error) {
	v, err := Load(ctx, from, []string{store.PrefixUnits}, false)
	if err != nil {
		return "", err
	}
	v.Units[name] = store.Entry[store.UnitRecord]{Record: record}
	for of, u := range v.Units {
		u.Record.Desired, u.Record.Rollout = store.DesiredLaunched, nil
		v.Units[of] = u
	}
	rules := NewRules()
	rules.keep(store.Item{Key: store.FileKey(record.File), Value: content, ModRevision: 1}, map[string]string{record.File: name})
	each, err := rules.Of(ctx, from, v)
	if err != nil {
		return "", err
	}
	units := make([]schedule.Unit, 0, len(each))
	for _, of := range slices.Sorted(maps.Keys(each)) {
		u := schedule.Unit{Name: of, Requirements: each[of]}
		if unitfile.IsTemplate(of) {
			u.Replicas = v.Units[of].Record.Replicas
		}
		units = append(units, u)
	}
	return schedule.Circle(units, name), nil
}
