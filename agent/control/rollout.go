package control

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/rollout"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// How long a member of a rollout must have run to count as well where no health check says so, and how much longer than
// its own time-outs it may take, for what is between a decision and its report. A unit without a time-out has noTimeout.
const (
	holdFor   = 5 * time.Second
	slack     = 15 * time.Second
	noTimeout = 15 * time.Minute
)

// withRollout is the record of a unit whose contents change from one file to another, with the rollout that this begins, or
// without one if all of them may change at once.
func (a *Admin) withRollout(ctx context.Context, name, content string, was, want store.UnitRecord) (store.UnitRecord, error) {
	want.Rollout = nil
	if was.File == "" {
		return want, nil
	}
	item, err := a.Store.Get(ctx, store.FileKey(was.File))
	if err != nil {
		return want, err
	}
	is, _, err := unitfile.Parse(name, []byte(content))
	if err != nil {
		return want, err
	}
	before, _, err := unitfile.Parse(name, item.Value)
	if err != nil { // it was another muster's, or is gone
		before = unitfile.File{}
	}
	alike := was.Replicated && want.Replicated && fleet.RunsOf(before) == fleet.RunsOf(is)
	if alike && was.Rollout != nil {
		want.Rollout = refiled(*was.Rollout, was.File, want.File)
		return want, nil
	}
	if was.Rollout.Active() {
		return want, api.Errorf(http.StatusConflict, "wait until it is over, or end it: `muster rollout undo "+name+"`",
			"a rollout of other contents of %s is %s", name, was.Rollout.Phase)
	}
	if alike || is.Muster(name).UpdateParallel == (unitfile.Share{}) {
		return want, nil
	}
	kind, err := a.kindOf(ctx, name, was, want, before, is)
	if err != nil || kind == "" {
		return want, err
	}
	want.Rollout = newRollout(name, kind, was, want, is, a.Now())
	return want, nil
}

// refiled is a rollout one of whose contents were replaced by some that run alike.
func refiled(r store.Rollout, was, is string) *store.Rollout {
	switch was {
	case r.To:
		r.To = is
	case r.From:
		r.From = is
	}
	return &r
}

// kindOf says whose contents change, "" if nobody runs them.
func (a *Admin) kindOf(ctx context.Context, name string, was, want store.UnitRecord, before, is unitfile.File) (store.RolloutKind, error) {
	runs := was.Desired == store.DesiredLaunched && want.Desired == store.DesiredLaunched
	switch {
	case was.Replicated && want.Replicated && runs:
		return store.RollReplicas, nil
	case was.Replicated || want.Replicated:
		return "", nil
	case unitfile.IsTemplate(name):
		has, err := a.hasFamily(ctx, name, was.File)
		if err != nil || !has {
			return "", err
		}
		return store.RollFamily, nil
	case !runs:
		return "", nil
	}
	from, _ := before.Requirements(name)
	to, _ := is.Requirements(name)
	switch {
	case from.Global && to.Global:
		return store.RollHosts, nil
	case from.Global || to.Global:
		return "", nil
	}
	return store.RollUnit, nil
}

// hasFamily says whether some instance of a template has its contents.
func (a *Admin) hasFamily(ctx context.Context, template, file string) (bool, error) {
	before, _, _ := strings.Cut(template, "@")
	v, err := fleet.Load(ctx, a.Store, []string{store.UnitKey(before + "@")}, false)
	if err != nil {
		return false, err
	}
	for name, u := range v.Units {
		if of, ok := unitfile.Template(name); ok && of == template && u.Record.File == file {
			return true, nil
		}
	}
	return false, nil
}

// newRollout is one that has changed nothing yet, with what the new contents say of it.
func newRollout(name string, kind store.RolloutKind, was, want store.UnitRecord, is unitfile.File, now time.Time) *store.Rollout {
	m := is.Muster(name)
	r := &store.Rollout{
		From: was.File, To: want.File, Kind: kind, Replicas: was.Replicas, Partition: was.Partition,
		Parallel: m.UpdateParallel.Count, Percent: m.UpdateParallel.Percent, Delay: m.UpdateDelay,
		Patience: slack, Health: m.HealthCheck.Kind != "", Phase: store.PhaseForward, Started: now,
	}
	if s, err := is.Service(name); err == nil {
		for _, t := range []time.Duration{s.Timeout.Start, s.Timeout.Stop} {
			if t == math.MaxInt64 {
				t = noTimeout
			}
			r.Patience += t
		}
	} else {
		r.Patience += noTimeout
	}
	if r.Health {
		r.Patience += m.HealthCheck.Patience()
	}
	return r
}

// ChangeRollout pauses or resumes the rollout of a unit, or has it go back; one that is over goes back as another one.
func (a *Admin) ChangeRollout(ctx context.Context, name, verb string) error {
	if err := unitfile.CheckName(name); err != nil {
		return badRequest("see `muster rollout --help`", "%v", err)
	}
	err := retry(func() error { return a.changeRollout(ctx, name, verb) })
	if err != nil {
		return fmt.Errorf("cannot %s the rollout of %s: %w", verb, name, err)
	}
	return nil
}

func (a *Admin) changeRollout(ctx context.Context, name, verb string) error {
	key := store.UnitKey(name)
	item, err := a.Store.Get(ctx, key)
	if err != nil {
		return err
	}
	record, err := decodeUnit(item)
	if err != nil {
		return err
	}
	if record.Rollout == nil {
		return notFound("`muster rollout status` lists what there is; UpdateParallel= below [X-Muster] in a unit's file asks for one",
			"%s has no rollout", name)
	}
	changed, err := turned(record, verb, a.Now())
	if err != nil || changed == record {
		return err
	}
	return a.writeUnit(ctx, store.Commit{Guards: []store.Guard{unmodified(key, item)}}, key, changed)
}

// turned is the record of a unit after a verb, or why it cannot be; the record itself if nothing changes.
func turned(record store.UnitRecord, verb string, now time.Time) (store.UnitRecord, error) {
	r := *record.Rollout
	over := func(hint string) error {
		return api.Errorf(http.StatusConflict, hint, "it is %s already", r.Phase)
	}
	switch verb {
	case api.RolloutPause, api.RolloutResume:
		paused := verb == api.RolloutPause
		switch {
		case !r.Active():
			return record, over("submit the unit's file to begin another")
		case r.Paused == paused:
			return record, nil
		}
		if r.Paused = paused; !paused {
			r.Began, r.Steady, r.Setbacks = now, time.Time{}, 0
		}
	case api.RolloutUndo:
		switch r.Phase {
		case store.PhaseForward:
			r.Undone = true
			r = stored(r, rollout.Back(stateOf(r, instances.Set(nil)), "an operator undid it"))
			r.Batch = store.Members{}
			record.File, record.Replicas, record.Partition = r.From, r.Replicas, r.Partition
		case store.PhaseDone:
			r = reversed(record, now)
			record.File, record.Replicas, record.Partition = r.To, record.Rollout.Replicas, record.Rollout.Partition
		default:
			return record, over("submit the unit's file to begin another")
		}
	default:
		return record, badRequest("use pause, resume or undo", "there is no verb %q", verb)
	}
	record.Rollout = &r
	return record, nil
}

// reversed is a rollout back to what was before one that is done. What the old contents say of health is not known.
func reversed(record store.UnitRecord, now time.Time) store.Rollout {
	r := record.Rollout
	return store.Rollout{
		From: r.To, To: r.From, Kind: r.Kind, Replicas: record.Replicas, Partition: record.Partition, Parallel: r.Parallel, Percent: r.Percent, Delay: r.Delay,
		Patience: r.Patience, Phase: store.PhaseForward, Started: now, Reason: "an operator undid the one before",
	}
}
