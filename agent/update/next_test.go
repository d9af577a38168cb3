package update_test

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/update"
)

// Whatever fails, and wherever the power is cut: nothing is booted that may not be, the lock is held while the host reboots and
// until it is well, and when nothing fails any more the host runs the newest release.
func TestNextSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		if err := newWorld(update.Next, choose).wander(60); err != nil {
			t.Fatal(err)
		}
	})
}

// seeds is how many lives TestMutants looks at until it believes that a mutant gets through.
const seeds = 2000

func wanderSeed(next machine, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 0))
	return newWorld(next, r.IntN).wander(60)
}

func TestNextSurvivesLong(t *testing.T) {
	for seed := range uint64(seeds) {
		if err := wanderSeed(update.Next, seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// skip makes a mutant that goes to another phase where Next goes to one.
func skip(from, to update.Phase, do update.ActionKind) machine {
	return func(s update.State, e update.Event) (update.State, []update.Action) {
		was := s.Phase
		s, actions := update.Next(s, e)
		if s.Phase != from || was == from && e.Kind != update.Started {
			return s, actions
		}
		s.Phase = to
		return s, []update.Action{{Kind: do, Phase: to, Target: s.Target}}
	}
}

// seen makes a mutant that takes events for others.
func seen(change func(s *update.State, e *update.Event)) machine {
	return func(s update.State, e update.Event) (update.State, []update.Action) {
		change(&s, &e)
		return update.Next(s, e)
	}
}

// Each planted mistake is noticed by the world.
func TestMutants(t *testing.T) {
	mutants := map[string]machine{
		"no verification":             skip(update.Verifying, update.Staging, update.Stage),
		"release before health":       skip(update.Checking, update.Releasing, update.GiveBack),
		"good before health":          skip(update.Checking, update.Marking, update.Good),
		"release at fallback":         skip(update.Failed, update.Releasing, update.GiveBack),
		"release after a power cut":   skip(update.Recovering, update.Releasing, update.GiveBack),
		"no lock":                     skip(update.Locking, update.Draining, update.Drain),
		"nothing confirmed":           skip(update.Confirming, update.Switching, update.Switch),
		"expired metadata":            seen(func(_ *update.State, e *update.Event) { e.Offer.Expires = e.At.AddDate(1, 0, 0) }),
		"no minimum":                  seen(func(_ *update.State, e *update.Event) { e.Offer.Minimum = "" }),
		"failures forgotten":          seen(func(s *update.State, _ *update.Event) { s.Failures = nil }),
		"a held rollout goes on":      seen(func(_ *update.State, e *update.Event) { e.May = e.May || e.Kind == update.Permitted }),
		"a lock that was taken":       seen(func(_ *update.State, e *update.Event) { e.Held = true }),
		"power cuts are not noticed":  seen(func(s *update.State, e *update.Event) { s.Boot = e.Boot }),
		"fallback taken for power":    seen(func(_ *update.State, e *update.Event) { e.Slots.Next, e.Slots.Other.TriesLeft = "", 1 }),
		"any version":                 seen(func(s *update.State, _ *update.Event) { s.Booted, s.Floor = "0", "" }),
		"the source is asked no more": seen(func(s *update.State, e *update.Event) { e.Offer.Version = overruled(*s, *e) }),
	}
	for name, mutant := range mutants {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(seeds) {
				if err := wanderSeed(mutant, seed); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Errorf("%d lives, and nobody noticed", seeds)
		})
	}
}

func overruled(s update.State, e update.Event) string {
	if e.Kind == update.Permitted {
		return s.Target.Version
	}
	return e.Offer.Version
}
