package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/cluster/store"
)

func want(name, file string, desired store.Desired) store.ScheduledUnit {
	return store.ScheduledUnit{Name: name, File: file, Desired: desired}
}

func have(name, file, active string) runtime.Status {
	return runtime.Status{Name: name, Hash: file, Load: "loaded", Active: active}
}

const (
	launched = store.DesiredLaunched
	loaded   = store.DesiredLoaded
	inactive = store.DesiredInactive
)

func TestPlan(t *testing.T) {
	withLoad := func(s runtime.Status, load string) runtime.Status { s.Load = load; return s }
	for name, c := range map[string]struct {
		desired []store.ScheduledUnit
		actual  []runtime.Status
		started Started
		want    []string
		still   Started
	}{
		"nothing": {},
		"new, to run": {
			desired: []store.ScheduledUnit{want("a", "1", launched)},
			want:    []string{"load a 1: it is new here", "start a 1: it is new here"},
		},
		"new, to be loaded": {
			desired: []store.ScheduledUnit{want("a", "1", loaded)},
			want:    []string{"load a 1: it is new here"},
		},
		"runs already, adopted after the agent came back": {
			desired: []store.ScheduledUnit{want("a", "1", launched), want("b", "1", launched), want("c", "1", launched)},
			actual:  []runtime.Status{have("a", "1", "active"), have("b", "1", "activating"), have("c", "1", "reloading")},
			still:   Started{"a": "1", "b": "1", "c": "1"},
		},
		"loaded, to run": {
			desired: []store.ScheduledUnit{want("a", "1", launched)},
			actual:  []runtime.Status{have("a", "1", "inactive")},
			want:    []string{"start a 1: it is to run"},
		},
		"failed after it was started": {
			desired: []store.ScheduledUnit{want("a", "1", launched), want("b", "1", launched)},
			actual:  []runtime.Status{have("a", "1", "failed"), have("b", "1", "inactive")},
			started: Started{"a": "1", "b": "1"},
			still:   Started{"a": "1", "b": "1"},
		},
		"failed, and nobody remembers that it was started": {
			desired: []store.ScheduledUnit{want("a", "1", launched)},
			actual:  []runtime.Status{have("a", "1", "failed")},
			want:    []string{"start a 1: it is to run"},
		},
		"failed, new content": {
			desired: []store.ScheduledUnit{want("a", "2", launched)},
			actual:  []runtime.Status{have("a", "1", "failed")},
			started: Started{"a": "1"},
			want:    []string{"load a 2: its content has changed", "start a 2: its content has changed"},
		},
		"failed, not to run for a while: forgotten": {
			desired: []store.ScheduledUnit{want("a", "1", loaded)},
			actual:  []runtime.Status{have("a", "1", "failed")},
			started: Started{"a": "1"},
		},
		"on its way down, and was started": {
			desired: []store.ScheduledUnit{want("a", "1", launched)},
			actual:  []runtime.Status{have("a", "1", "deactivating")},
			started: Started{"a": "1"},
			still:   Started{"a": "1"},
		},
		"running with other content": {
			desired: []store.ScheduledUnit{want("a", "2", launched), want("b", "2", loaded)},
			actual:  []runtime.Status{have("a", "1", "active"), have("b", "1", "active")},
			started: Started{"a": "1"},
			want: []string{
				"stop a: its content has changed", "stop b: its content has changed",
				"load a 2: its content has changed", "load b 2: its content has changed",
				"start a 2: its content has changed",
			},
		},
		"running, to be loaded only": {
			desired: []store.ScheduledUnit{want("a", "1", loaded), want("b", "1", loaded), want("c", "1", loaded)},
			actual:  []runtime.Status{have("a", "1", "active"), have("b", "1", "activating"), have("c", "1", "inactive")},
			started: Started{"a": "1", "b": "1", "c": "1"},
			want:    []string{"stop a: it is to be loaded only", "stop b: it is to be loaded only"},
			still:   Started{"a": "1", "b": "1"},
		},
		"running, to be loaded, started by a timer or a unit that requires it": {
			desired: []store.ScheduledUnit{want("a", "1", loaded), want("b", "1", loaded)},
			actual:  []runtime.Status{have("a", "1", "active"), have("b", "1", "activating")},
		},
		"no longer scheduled": {
			desired: []store.ScheduledUnit{want("c", "1", inactive), want("d", "1", inactive)},
			actual: []runtime.Status{
				have("a", "1", "active"), have("b", "1", "failed"), have("c", "1", "deactivating"),
			},
			want: []string{
				"stop a: it is no longer scheduled here", "stop c: it is no longer scheduled here",
				"unload a: it is no longer scheduled here", "unload b: it is no longer scheduled here",
				"unload c: it is no longer scheduled here",
			},
		},
		"room is made before it is taken": {
			desired: []store.ScheduledUnit{want("a", "1", launched)},
			actual:  []runtime.Status{have("z", "1", "active")},
			want: []string{
				"stop z: it is no longer scheduled here", "unload z: it is no longer scheduled here",
				"load a 1: it is new here", "start a 1: it is new here",
			},
		},
		"the runtime has lost the file": {
			desired: []store.ScheduledUnit{want("a", "1", launched)},
			actual:  []runtime.Status{withLoad(have("a", "1", "inactive"), "not-found")},
			want:    []string{"load a 1: its file is gone from the host", "start a 1: its file is gone from the host"},
		},
		"the runtime has lost the files of units that run or did": {
			desired: []store.ScheduledUnit{want("a", "1", launched), want("b", "1", launched), want("c", "1", loaded)},
			actual: []runtime.Status{
				withLoad(have("a", "1", "active"), "not-found"), withLoad(have("b", "1", "failed"), "not-found"),
				withLoad(have("c", "1", "active"), "not-found"),
			},
			started: Started{"b": "1"},
			want: []string{
				"load a 1: its file is gone from the host", "load b 1: its file is gone from the host",
				"load c 1: its file is gone from the host",
			},
			still: Started{"a": "1", "b": "1"},
		},
		"the runtime has lost a file that others take the place of": {
			desired: []store.ScheduledUnit{want("a", "2", launched)},
			actual:  []runtime.Status{withLoad(have("a", "1", "active"), "not-found")},
			want: []string{
				"stop a: its content has changed", "load a 2: its content has changed", "start a 2: its content has changed",
			},
		},
		"the runtime cannot read the file": {
			desired: []store.ScheduledUnit{want("a", "1", launched)},
			actual:  []runtime.Status{withLoad(have("a", "1", "inactive"), "error")},
		},
		"a word that only a later muster knows": {
			desired: []store.ScheduledUnit{want("a", "2", "paused"), want("b", "1", "paused")},
			actual:  []runtime.Status{have("a", "1", "active")},
			started: Started{"a": "1"},
			still:   Started{"a": "1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := maps.Clone(c.started)
			tasks, still := Plan(c.desired, c.actual, c.started)
			if d := cmp.Diff(c.want, render(tasks)); d != "" {
				t.Error(d)
			}
			if !maps.Equal(c.still, still) {
				t.Errorf("remembers %v, want %v", still, c.still)
			}
			if !maps.Equal(before, c.started) {
				t.Errorf("changed its argument from %v to %v", before, c.started)
			}
		})
	}
}

func render(tasks []Task) []string {
	var lines []string
	for _, task := range tasks {
		line := fmt.Sprintf("%s %s", task.Kind, task.Unit)
		if task.File != "" {
			line += " " + task.File
		}
		lines = append(lines, line+": "+task.Reason)
	}
	return lines
}

// host is a runtime that holds callers to the contract of runtime.Runtime.
type host struct {
	*rapid.T
	units map[string]runtime.Status
	ours  map[string]bool // units that run because this agent started them
}

func (h *host) list() []runtime.Status {
	var all []runtime.Status
	for _, name := range slices.Sorted(maps.Keys(h.units)) {
		all = append(all, h.units[name])
	}
	return all
}

// do carries a task out. What becomes of a unit that is started is drawn.
func (h *host) do(task Task) {
	status, known := h.units[task.Unit]
	if task.Reason == "" {
		h.Fatalf("%+v has no reason", task)
	}
	switch task.Kind {
	case Stop:
		if !known || isDown(status) {
			h.Fatalf("stop of %s, which is %q", task.Unit, status.Active)
		}
		status.Active = "inactive"
		delete(h.ours, task.Unit)
	case Unload:
		if !known || !isDown(status) {
			h.Fatalf("unload of %s, which is %q", task.Unit, status.Active)
		}
		delete(h.units, task.Unit)
		return
	case Load:
		if known && !isDown(status) {
			h.Fatalf("load of %s, which is %q", task.Unit, status.Active)
		}
		status = runtime.Status{Name: task.Unit, Hash: task.File, Load: "loaded", Active: "inactive"}
		if h.chance("unreadable", 8) {
			status.Load = "error"
		}
	case Start:
		if !known || status.Hash != task.File || isUp(status) {
			h.Fatalf("start of %s %s, which is %+v", task.Unit, task.File, status)
		}
		if status.Load != "error" {
			status.Active = rapid.SampledFrom([]string{"active", "activating", "failed", "inactive"}).Draw(h.T, "becomes")
			h.ours[task.Unit] = true
		}
	}
	h.units[task.Unit] = status
}

func (h *host) chance(what string, sides int) bool {
	return rapid.IntRange(1, sides).Draw(h.T, what) == sides
}

var names = []string{"a", "b", "c", "d"}

func genSchedule(t *rapid.T) []store.ScheduledUnit {
	var units []store.ScheduledUnit
	for _, name := range names {
		if rapid.Bool().Draw(t, name) {
			units = append(units, want(name, rapid.SampledFrom([]string{"1", "2"}).Draw(t, "file"),
				rapid.SampledFrom([]store.Desired{launched, launched, loaded}).Draw(t, "desired")))
		}
	}
	return units
}

// TestPlanConverges follows a host through schedules, tasks that fail, agents that forget, and units that crash.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &host{T: t, units: map[string]runtime.Status{}, ours: map[string]bool{}}
		for _, name := range names {
			if rapid.Bool().Draw(t, "there") {
				active := rapid.SampledFrom([]string{"active", "activating", "deactivating", "inactive", "failed"}).Draw(t, "is")
				h.units[name] = have(name, rapid.SampledFrom([]string{"1", "2"}).Draw(t, "file"), active)
			}
		}
		started := Started{}
		for range rapid.IntRange(1, 5).Draw(t, "schedules") {
			desired := genSchedule(t)
			if h.chance("the agent restarts", 4) {
				started = Started{}
				clear(h.ours)
			}
			started = h.run(desired, started, true)
			started = h.run(desired, started, false)
			again, _ := Plan(desired, h.list(), started)
			if len(again) > 0 {
				t.Fatalf("carried out everything for %v, and then: %v", desired, render(again))
			}
			h.check(desired)
			h.crash(desired, started)
		}
	})
}

// run makes a plan and carries it out, if it may fail not to its end.
func (h *host) run(desired []store.ScheduledUnit, started Started, mayFail bool) Started {
	right := map[string]bool{}
	for _, w := range desired {
		s := h.units[w.Name]
		right[w.Name] = w.Desired == launched && s.Active == "active" && s.Hash == w.File
	}
	tasks, started := Plan(desired, h.list(), started)
	for i, task := range tasks {
		if i > 0 && tasks[i-1].Kind > task.Kind {
			h.Fatalf("%s after %s", task.Kind, tasks[i-1].Kind)
		}
		if right[task.Unit] {
			h.Fatalf("%s is as it shall be: %s", task.Unit, strings.Join(render(tasks), ", "))
		}
		if mayFail && h.chance("fails", 6) {
			return started
		}
		h.do(task)
		started.Done(task)
	}
	return started
}

// check compares the host with its schedule.
func (h *host) check(desired []store.ScheduledUnit) {
	if len(h.units) != len(desired) {
		h.Fatalf("%d units, scheduled %d", len(h.units), len(desired))
	}
	for _, w := range desired {
		s, ok := h.units[w.Name]
		if !ok || s.Hash != w.File || w.Desired == loaded && !isDown(s) && h.ours[w.Name] {
			h.Fatalf("scheduled %+v, have %+v", w, s)
		}
	}
}

// crash lets units end on their own: that must not be undone.
func (h *host) crash(desired []store.ScheduledUnit, started Started) {
	for name, s := range h.units {
		if isUp(s) {
			s.Active = "failed"
			h.units[name] = s
		}
	}
	if tasks, _ := Plan(desired, h.list(), started); len(tasks) > 0 {
		h.Fatalf("units that failed on their own: %v", render(tasks))
	}
}
