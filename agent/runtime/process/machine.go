package process

import (
	"fmt"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/unitfile"
)

// event is what happens to a unit.
type event struct {
	kind    eventKind
	proc    *proc // spawned
	control bool  // spawned, ended: the control process, not the main one
	exit    exit  // ended
	text    string
}

type eventKind int

const (
	asked    eventKind = iota // Start was called
	refused                   // Stop was called
	reloaded                  // Reload was called
	spawned                   // a process was forked; it runs once the record is on disk
	ended                     // a process has ended
	ready                     // the service says that it is up
	said                      // the service says how it is
	expired                   // the deadline has passed
	gone                      // the processes that were to be killed are gone
)

// machine decides what becomes of a unit: the states and transitions of systemd's services (systemd.service(5)). It is
// pure; the record holds everything that it knows, and wants says what is to be in progress.
type machine struct {
	now     time.Time
	current unitfile.Service // what the unit was started with
	next    definition       // what it will be started with
}

// step returns the record after an event. An event that means nothing in the present phase changes nothing.
func (m machine) step(r record, e event) record {
	switch e.kind {
	case asked:
		return m.asked(r)
	case refused:
		return m.refused(r)
	case reloaded:
		if r.Phase == running && len(m.current.Exec.Reload) > 0 {
			return m.enter(r, reload, m.current.Timeout.Start)
		}
	case spawned:
		return m.spawned(r, e)
	case ended:
		if e.control {
			return m.controlEnded(r, e.exit)
		}
		return m.mainEnded(r, e.exit)
	case ready:
		if r.Phase == start && m.current.Type == "notify" {
			return m.startPost(r)
		}
	case said:
		r.Text = e.text
	case expired:
		return m.expired(r)
	case gone:
		return m.gone(r)
	}
	return r
}

// enter begins a phase that may last for a time.
func (m machine) enter(r record, p phase, limit time.Duration) record {
	r.Phase, r.Index, r.Since, r.Deadline, r.Expired = p, 0, m.now, time.Time{}, false
	return m.within(r, limit)
}

// within lets the phase last for a time from now on.
func (m machine) within(r record, limit time.Duration) record {
	r.Deadline = time.Time{}
	if limit != unitfile.Infinity {
		r.Deadline = m.now.Add(limit)
	}
	return r
}

func (m machine) asked(r record) record {
	switch active[r.Phase] {
	case "inactive", "failed":
		r.Restarts = 0
		return m.begin(r)
	case "deactivating":
		r.StartWanted = true
	case "activating":
		if r.Phase == autoRestart {
			return m.begin(r)
		}
	}
	return r
}

// begin starts a unit that is at rest.
func (m machine) begin(r record) record {
	before := r.Result.Text
	r.Result, r.MainExit, r.StopWanted, r.StartWanted, r.GaveUp, r.Text = result{}, nil, false, false, false, ""
	if m.next.problem != "" {
		return m.fail(r, result{Kind: resources, Text: m.next.problem})
	}
	limit := m.next.service.Limit
	r.Starts = slices.DeleteFunc(slices.Clone(r.Starts), func(t time.Time) bool {
		return m.now.Sub(t) >= limit.Interval || t.After(m.now)
	})
	if limit.Burst > 0 && len(r.Starts) >= limit.Burst {
		text := fmt.Sprintf("start limit hit: %d starts in %s", limit.Burst, limit.Interval)
		if before != "" {
			text += ", the last one ended with " + before
		}
		return m.fail(r, result{Kind: startLimit, Text: text})
	}
	if limit.Burst > 0 && limit.Interval > 0 {
		r.Starts = append(r.Starts, m.now)
	}
	r.Running = &m.next.contents
	m.current = m.next.service
	if len(m.current.Exec.StartPre) > 0 {
		return m.enter(r, startPre, m.current.Timeout.Start)
	}
	return m.start(r)
}

func (m machine) fail(r record, why result) record {
	r = m.enter(r, failed, unitfile.Infinity)
	r.Result = why
	r.Ends++
	return r
}

func (m machine) start(r record) record {
	if len(m.current.Exec.Start) == 0 {
		return m.startPost(r)
	}
	return m.enter(r, start, m.current.Timeout.Start)
}

func (m machine) startPost(r record) record {
	if len(m.current.Exec.StartPost) > 0 {
		return m.enter(r, startPost, m.current.Timeout.Start)
	}
	return m.running(r)
}

// running is where a start arrives, and where the main process may already be gone.
func (m machine) running(r record) record {
	switch {
	case r.mainRuns():
		return m.enter(r, running, unitfile.Infinity)
	case m.current.RemainAfterExit && r.Result.Kind == success:
		r.Main = nil
		return m.enter(r, exited, unitfile.Infinity)
	}
	return m.stop(r)
}

func (m machine) spawned(r record, e event) record {
	if e.control {
		r.Control = e.proc
		return r
	}
	r.Main, r.MainExit = e.proc, nil
	if m.current.Type == "oneshot" || m.current.Type == "notify" {
		return r
	}
	return m.startPost(r)
}

func (m machine) mainEnded(r record, e exit) record {
	if r.Main == nil && r.Phase != start {
		return r
	}
	if e.Aborted {
		// It never ran: the agent died in between. It is started as if for the first time.
		index := r.Index
		if m.current.Type != "oneshot" {
			index = 0
		}
		r = m.enter(r, start, m.current.Timeout.Start)
		r.Main, r.MainExit, r.Index = nil, nil, index
		return r
	}
	oneshot := m.current.Type == "oneshot"
	r.MainExit = &e
	if !e.clean(!oneshot, m.current.Success) && !m.mainCommand(r).IgnoreFailure && r.Result.Kind == success {
		r.Result = failure(e, "")
	}
	switch {
	case r.Phase == start && m.current.Type == "notify" && r.Result.Kind == success:
		r.Result = result{Kind: protocol, Text: "ended before it said that it is ready"}
		return m.stopSigterm(r)
	case r.Phase == start && r.Result.Kind != success:
		return m.stopSigterm(r)
	case r.Phase == start && r.Index+1 < len(m.current.Exec.Start):
		r.Main, r.MainExit = nil, nil
		r.Index++
		return m.within(r, m.current.Timeout.Start)
	case r.Phase == start:
		return m.startPost(r)
	case r.Phase == running:
		return m.running(r)
	}
	return r
}

// mainCommand is the ExecStart line of the main process.
func (m machine) mainCommand(r record) unitfile.Command {
	if lines := m.current.Exec.Start; r.Phase == start && r.Index < len(lines) {
		return lines[r.Index]
	} else if len(lines) > 0 {
		return lines[len(lines)-1]
	}
	return unitfile.Command{}
}

func (m machine) controlEnded(r record, e exit) record {
	lines, what := m.commands(r.Phase)
	r.Control = nil
	if e.Aborted || r.Index >= len(lines) {
		return r
	}
	ok := e.clean(false, unitfile.ExitSet{}) || lines[r.Index].IgnoreFailure
	if !ok && r.Result.Kind == success && r.Phase != reload {
		r.Result = failure(e, what)
	}
	if ok && r.Index+1 < len(lines) && !r.Expired {
		r.Index++
		return m.within(r, r.limit(m.current))
	}
	switch {
	case r.Phase == startPre && ok:
		return m.start(r)
	case r.Phase == startPre:
		return m.stopSigterm(r)
	case r.Phase == startPost && !ok:
		return m.stop(r)
	case r.Phase == startPost, r.Phase == reload:
		return m.running(r)
	case r.Phase == stop:
		return m.stopSigterm(r)
	case r.Phase == stopPost:
		return m.enter(r, finalSigterm, m.current.Timeout.Stop)
	}
	return r
}

// commands are the lines that a phase runs as control processes, and the name of their setting.
func (m machine) commands(p phase) ([]unitfile.Command, string) {
	e := m.current.Exec
	switch p {
	case startPre:
		return e.StartPre, "ExecStartPre"
	case startPost:
		return e.StartPost, "ExecStartPost"
	case reload:
		return e.Reload, "ExecReload"
	case stop:
		return e.Stop, "ExecStop"
	case stopPost:
		return e.StopPost, "ExecStopPost"
	}
	return nil, ""
}

// limit is how long one command of the phase may take.
func (r record) limit(s unitfile.Service) time.Duration {
	if active[r.Phase] == "deactivating" {
		return s.Timeout.Stop
	}
	return s.Timeout.Start
}
