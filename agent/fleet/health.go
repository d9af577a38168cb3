package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// maxNamed is how many units a warning names.
const maxNamed = 3

// unhealthy warns of units that run and whose health checks fail, or gives no line at all.
func (v View) unhealthy() []string {
	var named []string
	count := 0
	for _, id := range slices.Sorted(maps.Keys(v.States)) {
		if !v.Ready(id) {
			continue
		}
		for _, s := range v.States[id].Record.Units {
			if s.Health != store.HealthUnhealthy {
				continue
			}
			name, n := s.Name, 1
			if s.Instances != nil {
				name, n = instances.Name(s.Name, s.Instances[0].First), s.Instances.Len()
			}
			if count += n; len(named) < maxNamed {
				named = append(named, fmt.Sprintf("%s on %s (%s)", name, v.Roster[id].Record.Name, s.HealthReason))
			}
		}
	}
	if count == 0 {
		return nil
	}
	text, more := "a unit is unhealthy: ", ""
	if count > 1 {
		text = fmt.Sprintf("%d units are unhealthy: ", count)
	}
	if rest := count - len(named); rest > 0 {
		more = fmt.Sprintf(" and %d more", rest)
	}
	return []string{text + strings.Join(named, ", ") + more}
}

// unhealthyReplicas counts those of a template.
func (v View) unhealthyReplicas(template string) int {
	count := 0
	for id, host := range v.States {
		if !v.Ready(id) {
			continue
		}
		for _, s := range host.Record.Units {
			if s.Health == store.HealthUnhealthy {
				count += v.replicasIn(template, s.Name, s.Instances).Len()
			}
		}
	}
	return count
}
