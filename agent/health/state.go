package health

import (
	"time"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// State is what is known of a unit. The zero State is that of one that nobody has asked yet.
type State struct {
	Word     string // starting, healthy, unhealthy (cluster/store); "" counts as starting
	Reason   string // why it is not healthy: what the last failure said
	Failures int    // in a row
}

// Next is the state after a check that began so long after the start of the unit. reason is why it failed, "" if it
// succeeded.
func Next(c unitfile.HealthCheck, s State, reason string, age time.Duration) State {
	if reason == "" {
		return State{Word: store.HealthHealthy}
	}
	waiting := s.Word == "" || s.Word == store.HealthStarting
	if waiting && age < c.StartPeriod {
		return State{Word: store.HealthStarting, Reason: reason}
	}
	s.Failures = min(s.Failures+1, c.Retries)
	switch {
	case s.Failures >= c.Retries || s.Word == store.HealthUnhealthy:
		return State{Word: store.HealthUnhealthy, Reason: reason, Failures: s.Failures}
	case waiting:
		return State{Word: store.HealthStarting, Reason: reason, Failures: s.Failures}
	}
	return State{Word: s.Word, Failures: s.Failures}
}

// soon is how often a unit is asked that has not answered yet.
const soon = time.Second

// spread is by which part an interval may be off.
const spread = 0.1

// wait is how long to wait until the next check. random is from 0 to 1.
func wait(c unitfile.HealthCheck, s State, random float64) time.Duration {
	mean := c.Interval
	if s.Word == "" || s.Word == store.HealthStarting {
		mean = min(mean, soon)
	}
	return time.Duration(float64(mean) * (1 - spread + 2*spread*random))
}

// first is how long to wait until the first check, likewise.
func first(c unitfile.HealthCheck, random float64) time.Duration {
	return time.Duration(random * float64(min(c.Interval, soon)))
}
