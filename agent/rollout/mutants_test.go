package rollout

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/musterhq/muster/cluster/store"
)

// mutants are rollouts with a planted bug.
var mutants = map[string]nexter{
	"does not wait for who is not well": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		o.Ready, o.Bad = o.All, nil
		return Next(p, s, o, now)
	},
	"takes what has failed for what is slow": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		o.Bad = nil
		return Next(p, s, o, now)
	},
	"changes one too many": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		p.Parallel = p.size(o.All.Len()) + 1
		return Next(p, s, o, now)
	},
	"does not hold on": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		p.Hold = 0
		return Next(p, s, o, now)
	},
	"does not delay": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		p.Delay = 0
		return Next(p, s, o, now)
	},
	"has all patience": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		p.Patience = 1000 * time.Hour
		return Next(p, s, o, now)
	},
	"forgets setbacks": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		s.Setbacks = 0
		return Next(p, s, o, now)
	},
	"does not see that members were restarted": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		o.Latest = s.Mark
		return Next(p, s, o, now)
	},
	"waits for who is away": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		o.Absent = nil
		return Next(p, s, o, now)
	},
	"believes a clock that was ahead": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		if s.Steady.After(now) {
			return s, s.Steady
		}
		return Next(p, s, o, now)
	},
	"gives up going back": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		if s.Phase == store.PhaseBack && s.Batch != nil {
			s.Phase = store.PhaseFailed
			return s, time.Time{}
		}
		return Next(p, s, o, now)
	},
	"waits again for who was not well with the old contents": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		next, wake := Next(p, s, o, now)
		if next.Paused {
			next.Batch = s.Batch
		}
		return next, wake
	},
	"goes back without a reason": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		s, wake := Next(p, s, o, now)
		s.Reason = ""
		return s, wake
	},
	"takes an operator's undo for a failure": func(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
		s, wake := Next(p, s, o, now)
		if s.Phase == store.PhaseUndone {
			s.Phase = store.PhaseFailed
		}
		return s, wake
	},
}

// TestMutants drives rollouts with planted bugs. Were one not found, TestRollouts would not be worth much.
func TestMutants(t *testing.T) {
	const most = 2000
	for name, next := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drives := rapid.Custom(func(t *rapid.T) string { return drive(t, next) })
			for seed := range most {
				if why := drives.Example(seed); why != "" {
					t.Logf("seed %d: %.200s", seed, why)
					return
				}
			}
			t.Errorf("nothing was found in %d rollouts", most)
		})
	}
}
