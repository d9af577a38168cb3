package agent

import (
	"fmt"
	"time"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cluster/window"
)

// policyOf is what the cluster file and operators say of who takes releases when.
func policyOf(r store.UpdateRecord) (release.Policy, error) {
	s := r.Settings
	p := release.Policy{
		Canaries: s.Canaries, Soak: time.Duration(s.SoakMillis) * time.Millisecond, PerHour: s.PerHour, Budget: s.Budget,
		Paused: r.Paused, Pin: r.Pin,
	}
	for _, text := range s.Windows {
		w, err := window.Parse(text)
		if err != nil {
			return p, err
		}
		p.Windows = append(p.Windows, w)
	}
	return p, nil
}

// admit is what the rules of a group say of a host that is about to take a release, by what the leader has counted.
func admit(r store.UpdateRecord, h release.Candidate, engine, version string, now time.Time) update.Permission {
	p := update.Permission{Resumed: r.Resumed, Again: now.Add(update.DefaultInterval)}
	if r.Hold != nil {
		p.Reason = fmt.Sprintf("the rollout is held since release %s failed; `muster update resume` goes on", r.Hold.Version)
		return p
	}
	policy, err := policyOf(r)
	if err != nil {
		p.Reason = "the rules of updates cannot be followed: " + err.Error()
		return p
	}
	is := r.Rollouts[store.UpdateRollouts(engine, version)]
	if len(policy.Canaries) > 0 && is.Began.IsZero() {
		p.Reason = "the rollout has not begun"
		return p
	}
	ok, why, next := policy.Admits(h, now, release.Rollout{
		Version: version, Began: is.Began, Canaries: is.Canaries, Well: is.Well, Soaked: is.Soaked, Failed: len(is.Failed),
	})
	if ok {
		return update.Permission{May: true, Resumed: r.Resumed}
	}
	p.Reason = why
	if !next.IsZero() && next.Before(p.Again) {
		p.Again = next
	}
	return p
}

// bears reports whether the group goes on although a release failed on a host.
func bears(r store.UpdateRecord, host, engine, version string) bool {
	failed := r.Rollouts[store.UpdateRollouts(engine, version)].Failed
	_, counted := failed[host]
	return counted && r.Hold == nil && len(failed) <= r.Settings.Budget
}
