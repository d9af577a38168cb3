package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

// goal is what a verb wants of a unit, judged from the unit's entries in the status: several when it is global, none
// when the cluster does not know it.
type goal struct {
	word  string // "running", for messages
	judge func(entries []api.UnitStatus) verdict
}

// verdict is where a unit is on its way to a goal.
type verdict int

const (
	onItsWay verdict = iota
	reached
	missed // and it will not get there by waiting
)

// The goals of the verbs.
var (
	goalRunning = goal{"running", wants(store.DesiredLaunched, api.UnitRunning, api.UnitExited)}
	goalLoaded  = goal{"loaded", wants(store.DesiredLoaded, api.UnitStopped, api.UnitFailed)}
	goalStopped = goal{"stopped", wants(store.DesiredLoaded, api.UnitStopped, api.UnitFailed)}
	goalIdle    = goal{"unloaded", wants(store.DesiredInactive, api.UnitInactive)}
	goalGone    = goal{"destroyed", func(entries []api.UnitStatus) verdict {
		if len(entries) == 0 {
			return reached
		}
		return onItsWay
	}}
)

// wants judges a unit by a desired state, which the answering host may not have heard of yet, and the states in which
// it is fulfilled. A unit that has failed does not run by itself later.
func wants(desired store.Desired, good ...string) func([]api.UnitStatus) verdict {
	return func(entries []api.UnitStatus) verdict {
		if len(entries) == 0 {
			return onItsWay
		}
		all := reached
		for _, e := range entries {
			switch {
			case e.Desired != string(desired):
				return onItsWay
			case slices.Contains(good, e.State):
			case e.State == api.UnitFailed:
				all = missed
			default:
				return onItsWay
			}
		}
		return all
	}
}

// waiting follows units to their goal and tells the operator about every change on the way.
type waiting struct {
	goal  goal
	tell  func(change)
	names []string
	seen  map[string]string // unit → what was last told of it
	last  map[string][]api.UnitStatus
}

// change is what to tell the operator while units are waited for.
type change struct {
	line           string // of the unit that changed
	reached, total int    // units
}

// tellLines tells of changes a line each.
func tellLines(w io.Writer) func(change) { return func(c change) { fmt.Fprintln(w, c.line) } }

// watchPause is how long to rest before another host is asked for a watch that has ended.
const watchPause = 200 * time.Millisecond

// waitUnits waits until all units have reached the goal or missed it, at most for timeout.
func waitUnits(ctx context.Context, f fleet, tell func(change), names []string, g goal, timeout time.Duration) ([]api.UnitStatus, error) {
	w := &waiting{goal: g, tell: tell, names: names, seen: map[string]string{}, last: map[string][]api.UnitStatus{}}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// A watch ends when the host that answers is lost; another one goes on.
	for done := false; ; {
		err := f.WatchStatus(bounded, func(s api.Status) bool {
			done = w.look(s)
			return !done
		})
		if ctx.Err() != nil {
			return w.entries(), ctx.Err()
		}
		if done || bounded.Err() != nil {
			break
		}
		if refused := (*api.Error)(nil); errors.As(err, &refused) {
			return w.entries(), err
		}
		select {
		case <-bounded.Done():
		case <-time.After(watchPause):
		}
	}
	return w.entries(), w.result(timeout)
}

// look takes in a status and reports whether there is nothing left to wait for.
func (w *waiting) look(s api.Status) bool {
	entries := map[string][]api.UnitStatus{}
	for _, u := range s.Units {
		entries[u.Name] = append(entries[u.Name], u)
	}
	done, there := true, 0
	var changed []string
	for _, name := range w.names {
		w.last[name] = entries[name]
		v := w.goal.judge(entries[name])
		done = done && v != onItsWay
		if v == reached {
			there++
		}
		if line := w.line(name, v); line != w.seen[name] && line != "" {
			w.seen[name] = line
			changed = append(changed, line)
		}
	}
	for _, line := range changed {
		w.tell(change{line: line, reached: there, total: len(w.names)})
	}
	return done
}

// line is what to tell of a unit, "" for nothing: that it is there, or why it is not.
func (w *waiting) line(name string, v verdict) string {
	var hosts []string
	reason := ""
	for _, e := range w.last[name] {
		if e.Host != "" {
			hosts = append(hosts, e.Host)
		}
		if reason == "" && e.Reason != "" && e.State != api.UnitRunning {
			reason = e.State + ": " + e.Reason
		}
	}
	switch {
	case v == reached && len(hosts) > 0:
		return fmt.Sprintf("%s: %s on %s", name, w.goal.word, strings.Join(hosts, ", "))
	case v == reached:
		return fmt.Sprintf("%s: %s", name, w.goal.word)
	case reason != "":
		return fmt.Sprintf("%s: %s", name, reason)
	default:
		return ""
	}
}

// entries is the last that was seen of the units, in the order in which they were named.
func (w *waiting) entries() []api.UnitStatus {
	list := []api.UnitStatus{}
	for _, name := range w.names {
		list = append(list, w.last[name]...)
	}
	return list
}

// result is nil when every unit is there.
func (w *waiting) result(timeout time.Duration) error {
	var late, bad []string
	for _, name := range w.names {
		switch w.goal.judge(w.last[name]) {
		case onItsWay:
			late = append(late, name)
		case missed:
			bad = append(bad, name)
		case reached:
		}
	}
	var text, hint string
	switch {
	case len(late)+len(bad) == 0:
		return nil
	case len(bad) > 0:
		text, hint = fmt.Sprintf("%s failed", few(bad)), fmt.Sprintf("`muster logs %s` shows what it printed", bad[0])
	default:
		text = fmt.Sprintf("%s not %s after %v", few(late), w.goal.word, timeout)
		hint = fmt.Sprintf("it goes on without this command; `muster why %s` tells what it waits for", late[0])
	}
	if len(late)+len(bad) < len(w.names) {
		return partial(hint, "%s", text)
	}
	return failed(hint, "%s", text)
}

// few names at most three.
func few(names []string) string {
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
}
