package agent

import (
	"context"
	"testing"

	"github.com/musterhq/muster/agent/reconcile"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/cluster/store"
)

// listing is a runtime in which one unit runs; meanwhile is what happens while its answer is under way.
type listing struct {
	runtime.Runtime
	meanwhile func()
}

func (l listing) List(context.Context) ([]runtime.Status, error) {
	defer l.meanwhile()
	return []runtime.Status{{Name: "a.service", Load: "loaded", Active: "active", Sub: "running"}}, nil
}

// TestStartedElsewise tells a unit that something else started from one that is stopped, or started, from here while the
// runtime says what runs.
func TestStartedElsewise(t *testing.T) {
	const unit = "a.service"
	for name, c := range map[string]struct {
		begun     bool
		working   bool
		meanwhile func(e *executor)
		want      string
	}{
		"nobody here started it":   {want: store.StartedElsewise},
		"it is still to stop":      {begun: true},
		"it has just been stopped": {begun: true, meanwhile: func(e *executor) { e.begun.Done(reconcile.Task{Kind: reconcile.Stop, Unit: unit}) }},
		"it is just being started": {working: true, meanwhile: func(e *executor) { e.begun[unit] = "file" }},
		"the start is now wanted":  {meanwhile: func(e *executor) { e.desired.Units[0].Desired = store.DesiredLaunched }},
	} {
		t.Run(name, func(t *testing.T) {
			e := &executor{checks: newChecks(files{dir: t.TempDir()}, process.Config{}, quiet()), begun: reconcile.Started{}, custody: newCustody()}
			e.working = map[string]bool{unit: c.working}
			e.desired = &store.ScheduleRecord{Units: []store.ScheduledUnit{{Name: unit, Desired: store.DesiredLoaded}}}
			if c.begun {
				e.begun[unit] = "file"
			}
			e.runtime = listing{meanwhile: func() {
				if c.meanwhile != nil {
					c.meanwhile(e)
				}
			}}
			states, err := e.states(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := states[0].Reason; got != c.want {
				t.Errorf("reason %q, want %q", got, c.want)
			}
		})
	}
}
