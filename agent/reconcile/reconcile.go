// Package reconcile computes what an agent has to do so that its host has what its schedule says: the difference between
// the units that are wanted and those that the runtime has, as tasks in the order in which they are safe. It is pure. It
// guarantees that a host that is already right gets no task, and that carrying out the tasks makes it right.
//
// It does not keep units running: that is the runtime's (Restart=). A unit that was started and has failed or exited
// since is left alone until it is wanted anew, with other content or after it was not to run. So a plan needs to know
// what was started (Started). A unit that shall be loaded only is stopped if it was started from here: what a timer, a
// socket or a unit that requires it has started is what it was loaded for.
//
// It does not know files, the store, or whether a schedule may be believed: whoever has no
// schedule must not plan with an empty one, for that stops everything.
package reconcile

import (
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/cluster/store"
)

// Kind is what a task asks of the runtime.
type Kind int

// The kinds of tasks, in the order in which a plan has them: room is made before it is taken.
const (
	Stop Kind = iota
	Unload
	Load
	Start
)

// String is the kind as a word.
func (k Kind) String() string {
	return [...]string{"stop", "unload", "load", "start"}[k]
}

// Task is one call of the runtime.
type Task struct {
	Kind   Kind
	Unit   string
	File   string // SHA-256 of the contents to load or start, "" for Stop and Unload
	Reason string
}

// Started remembers which contents (SHA-256) of each unit were started and not stopped since. It may be kept over a
// restart of the agent, but not over one of the host; without it a unit that has exited is started once more.
type Started map[string]string

// Done notes a task that the runtime has carried out.
func (s Started) Done(t Task) {
	switch {
	case t.Kind == Start:
		s[t.Unit] = t.File
	case t.Kind == Load && s[t.Unit] == t.File: // only the file was gone
	default:
		delete(s, t.Unit)
	}
}

// Plan returns the tasks that make actual into desired, sorted by kind and then by unit, and what is still to be
// remembered as started while they are carried out: pass each to its Done. A plan is of use once; after a failed task
// list the runtime's units again and make another.
func Plan(desired []store.ScheduledUnit, actual []runtime.Status, started Started) ([]Task, Started) {
	p := plan{started: started, still: Started{}}
	have := make(map[string]runtime.Status, len(actual))
	for _, status := range actual {
		have[status.Name] = status
	}
	for _, want := range desired {
		status, ok := have[want.Name]
		delete(have, want.Name)
		switch want.Desired {
		case store.DesiredLaunched:
			p.launch(want, status, ok)
		case store.DesiredLoaded:
			p.load(want, status, ok)
		case store.DesiredInactive:
			p.drop(status, ok)
		default:
			// A word of a later muster: whatever it means, this one must not stop the unit for it.
			if file, ok := started[want.Name]; ok {
				p.still[want.Name] = file
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		p.drop(have[name], true)
	}
	var tasks []Task
	for _, some := range p.tasks {
		slices.SortFunc(some, func(a, b Task) int { return strings.Compare(a.Unit, b.Unit) })
		tasks = append(tasks, some...)
	}
	return tasks, p.still
}

type plan struct {
	tasks   [Start + 1][]Task // by kind
	started Started
	still   Started
}

func (p *plan) add(kind Kind, unit, file, reason string) {
	p.tasks[kind] = append(p.tasks[kind], Task{Kind: kind, Unit: unit, File: file, Reason: reason})
}

// launch plans for a unit that shall run.
func (p *plan) launch(want store.ScheduledUnit, status runtime.Status, known bool) {
	reason := p.replace(want, status, known)
	switch {
	case reason == reasonGone && (isUp(status) || p.started[want.Name] == want.File):
		p.still[want.Name] = want.File
	case reason != "":
		p.add(Start, want.Name, want.File, reason)
	case status.Load == loadError:
		// Nothing but other content helps.
	case isUp(status) || p.started[want.Name] == want.File:
		p.still[want.Name] = want.File
	default:
		p.add(Start, want.Name, want.File, "it is to run")
	}
}

// load plans for a unit that shall be there, for others to start. That it was started is remembered until it is stopped.
func (p *plan) load(want store.ScheduledUnit, status runtime.Status, known bool) {
	reason := p.replace(want, status, known)
	file, ours := p.started[want.Name]
	if !ours || isDown(status) || reason != "" && reason != reasonGone {
		return
	}
	p.add(Stop, want.Name, "", "it is to be loaded only")
	p.still[want.Name] = file
}

// reasonGone is that somebody removed the file of a unit. It is written once more, and what runs goes on.
const reasonGone = "its file is gone from the host"

// replace plans so that the runtime has the wanted content, and says why it had not.
func (p *plan) replace(want store.ScheduledUnit, status runtime.Status, known bool) (reason string) {
	switch {
	case !known:
		reason = "it is new here"
	case status.Load == loadNotFound && status.Hash == want.File:
		reason = reasonGone
	case status.Hash != want.File:
		reason = "its content has changed"
	default:
		return ""
	}
	if known && !isDown(status) && reason != reasonGone {
		p.add(Stop, want.Name, "", reason)
	}
	p.add(Load, want.Name, want.File, reason)
	return reason
}

// drop plans for a unit that shall not be there.
func (p *plan) drop(status runtime.Status, known bool) {
	if !known {
		return
	}
	const reason = "it is no longer scheduled here"
	if !isDown(status) {
		p.add(Stop, status.Name, "", reason)
	}
	p.add(Unload, status.Name, "", reason)
}

// systemd's words that matter here (org.freedesktop.systemd1: LoadState, ActiveState).
const (
	loadNotFound = "not-found"
	loadError    = "error"
)

// isUp says whether a unit runs or is about to.
func isUp(status runtime.Status) bool {
	return slices.Contains([]string{"active", "activating", "reloading", "refreshing"}, status.Active)
}

// isDown says whether no process of the unit is left. A unit on its way down is neither up nor down.
func isDown(status runtime.Status) bool {
	return status.Active == "inactive" || status.Active == "failed"
}
