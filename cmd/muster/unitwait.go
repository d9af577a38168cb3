package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// goal is what a verb wants of a unit, judged from the unit's entries in the status: several when it is global, none
// when the cluster does not know it.
type goal struct {
	word    string        // "running", for messages
	desired store.Desired // what the cluster was told, "" if it shall forget the unit
	judge   func(entries []api.UnitStatus) verdict
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
	goalRunning = goal{"running", store.DesiredLaunched, wants(store.DesiredLaunched, api.UnitRunning, api.UnitExited)}
	goalLoaded  = goal{
		"loaded", store.DesiredLoaded,
		wants(store.DesiredLoaded, api.UnitStopped, api.UnitFailed, api.UnitRunning, api.UnitExited),
	}
	goalStopped = goal{"stopped", store.DesiredLoaded, wants(store.DesiredLoaded, api.UnitStopped, api.UnitFailed)}
	goalIdle    = goal{"unloaded", store.DesiredInactive, idle}
	goalGone    = goal{"destroyed", "", func(entries []api.UnitStatus) verdict {
		if len(entries) == 0 {
			return reached
		}
		return onItsWay
	}}
)

// idle judges a unit that no host shall have any more. An inactive template has no entries.
func idle(entries []api.UnitStatus) verdict {
	for _, e := range entries {
		if e.Desired != string(store.DesiredInactive) || e.State != api.UnitInactive {
			return onItsWay
		}
	}
	return reached
}

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

// waiting follows units to their goal and tells the operator how they come along.
type waiting struct {
	goal  goal
	tell  func(change)
	names []string
	last  map[string][]api.UnitStatus
	words map[string]words

	astray    map[string]time.Time // since when the cluster wants something else of a unit than the goal
	overtaken map[string]string    // what somebody else has told the cluster of a unit since
	goingOn   map[string]time.Time // since when a unit that is to stop runs because something on its host started it
	kept      map[string]bool      // units that have gone on so for long
}

// words is what there is to say of a unit.
type words struct {
	text  string
	since time.Time
	told  bool
}

// change is what to tell the operator while units are waited for.
type change struct {
	line           string // of the unit that changed
	verdict        verdict
	reached, total int // units
}

// tellLines tells of changes a line each.
func tellLines(w io.Writer) func(change) { return func(c change) { fmt.Fprintln(w, c.line) } }

const (
	// watchPause is how long to rest before another host is asked for a watch that has ended.
	watchPause = 200 * time.Millisecond
	// dwell is how long a unit must have stayed on its way for the same reason before that is worth telling.
	dwell = 2 * time.Second
	// patience is how long what a host says of a unit may be older than what it has just done with it.
	patience = 3 * dwell
)

// waitUnits waits until all units have reached the goal or missed it, at most for timeout if that is not 0.
func waitUnits(ctx context.Context, f fleet, tell func(change), names []string, g goal, timeout time.Duration) ([]api.UnitStatus, error) {
	w := &waiting{
		goal: g, tell: tell, names: names, last: map[string][]api.UnitStatus{}, words: map[string]words{},
		astray: map[string]time.Time{}, overtaken: map[string]string{},
		goingOn: map[string]time.Time{}, kept: map[string]bool{},
	}
	bounded, cancel := context.WithCancel(ctx)
	if timeout > 0 {
		bounded, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	statuses := make(chan api.Status)
	watch := make(chan error, 1)
	var following sync.WaitGroup
	following.Go(func() { watch <- follow(bounded, f, statuses) })
	err := w.run(bounded, f, statuses, watch)
	cancel()
	following.Wait()
	switch {
	case ctx.Err() != nil:
		return w.entries(), ctx.Err()
	case err != nil:
		return w.entries(), err
	default:
		return w.entries(), w.result(timeout)
	}
}

// follow delivers the cluster's status until ctx ends or the cluster refuses. A watch ends when the host that answers is
// lost; another one goes on. Voters that do not answer may do so soon, as when they have only just come together; those
// that did not until the end are told.
func follow(ctx context.Context, f fleet, statuses chan<- api.Status) error {
	var silent error
	for ctx.Err() == nil {
		err := f.WatchStatus(ctx, func(s api.Status) bool {
			silent = nil
			select {
			case statuses <- s:
			case <-ctx.Done():
			}
			return ctx.Err() == nil
		})
		if refused := (*api.Error)(nil); errors.As(err, &refused) && ctx.Err() == nil {
			if refused.Status != http.StatusServiceUnavailable {
				return err
			}
			silent = err
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
	return silent
}

// run takes in statuses until there is nothing left to wait for or the watch has ended.
func (w *waiting) run(ctx context.Context, f fleet, statuses <-chan api.Status, watch <-chan error) error {
	remind := time.NewTicker(dwell / 4)
	defer remind.Stop()
	for {
		select {
		case s := <-statuses:
			if w.look(s, time.Now()) {
				return nil
			}
		case now := <-remind.C:
			w.say(now)
			if w.ask(ctx, f, now); w.done() {
				return nil
			}
		case err := <-watch:
			return err
		}
	}
}

// look takes in a status and reports whether there is nothing left to wait for.
func (w *waiting) look(s api.Status, now time.Time) (done bool) {
	entries := entriesOf(s)
	for _, name := range w.names {
		w.last[name] = entries[name]
		w.follow(name, now)
		if text := w.text(name); text != w.words[name].text {
			w.words[name] = words{text: text, since: now}
		}
	}
	w.say(now)
	return w.done()
}

// done says whether there is nothing left to wait for.
func (w *waiting) done() bool {
	return !slices.ContainsFunc(w.names, func(name string) bool { return w.judge(name) == onItsWay })
}

func (w *waiting) judge(name string) verdict {
	if w.overtaken[name] != "" || w.kept[name] {
		return missed
	}
	return w.goal.judge(w.last[name])
}

// follow notes since when the cluster has wanted something else of a unit, or something on its host keeps it running. Who
// answers may only not have heard yet.
func (w *waiting) follow(name string, now time.Time) {
	other := func(e api.UnitStatus) bool { return w.goal.desired != "" && e.Desired != string(w.goal.desired) }
	keepsOn := func(e api.UnitStatus) bool {
		return w.goal.desired == store.DesiredLoaded && e.Desired == string(store.DesiredLoaded) && e.State == api.UnitRunning
	}
	since(w.astray, name, now, slices.ContainsFunc(w.last[name], other))
	since(w.goingOn, name, now, slices.ContainsFunc(w.last[name], keepsOn) && w.goal.judge(w.last[name]) != reached)
}

// since notes when something began, as long as it goes on.
func since(began map[string]time.Time, name string, now time.Time, goesOn bool) {
	if !goesOn {
		delete(began, name)
	} else if _, known := began[name]; !known {
		began[name] = now
	}
}

// ask finds out whether somebody else has told the cluster something else of units that have been astray for a while.
func (w *waiting) ask(ctx context.Context, f fleet, now time.Time) {
	for _, name := range w.names {
		if began, on := w.goingOn[name]; on && now.Sub(began) >= patience {
			w.kept[name] = true
		}
		if since, astray := w.astray[name]; !astray || now.Sub(since) < dwell || w.overtaken[name] != "" {
			continue
		}
		if u, err := f.Unit(ctx, name); err == nil && u.Desired != string(w.goal.desired) {
			w.overtaken[name] = u.Desired
		}
	}
}

// entriesOf is a status by unit. A template without an entry has those of its replicas that hosts are about to give up.
func entriesOf(s api.Status) map[string][]api.UnitStatus {
	entries, leaving := map[string][]api.UnitStatus{}, map[string][]api.UnitStatus{}
	for _, u := range s.Units {
		entries[u.Name] = append(entries[u.Name], u)
		if template, ok := unitfile.Template(u.Name); ok && u.State == api.UnitStopping {
			leaving[template] = append(leaving[template], u)
		}
	}
	for template, list := range leaving {
		if len(entries[template]) == 0 {
			entries[template] = list
		}
	}
	return entries
}

// say tells what was not told yet: at once that a unit is there or has failed, after a while what it waits for.
func (w *waiting) say(now time.Time) {
	there := 0
	for _, name := range w.names {
		if w.judge(name) == reached {
			there++
		}
	}
	for _, name := range w.names {
		v, said := w.judge(name), w.words[name]
		if said.told || said.text == "" || v == onItsWay && now.Sub(said.since) < dwell {
			continue
		}
		said.told = true
		w.words[name] = said
		w.tell(change{line: said.text, verdict: v, reached: there, total: len(w.names)})
	}
}

// text is what there is to say of a unit: that it is there, or why it is not.
func (w *waiting) text(name string) string {
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
	there := w.goal.judge(w.last[name]) == reached
	switch {
	case there && len(hosts) > 0:
		return fmt.Sprintf("%s: %s on %s", name, w.goal.word, strings.Join(hosts, ", "))
	case there:
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
		switch w.judge(name) {
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
		text, hint = w.whyMissed(bad)
	default:
		text = fmt.Sprintf("%s not %s after %v", few(late), w.goal.word, timeout)
		hint = fmt.Sprintf("it goes on without this command; `muster why %s` tells what it waits for", late[0])
	}
	if len(late)+len(bad) < len(w.names) {
		return partial(hint, "%s", text)
	}
	return failed(hint, "%s", text)
}

// whyMissed says why units will not get to their goal, and what to do.
func (w *waiting) whyMissed(bad []string) (text, hint string) {
	first := bad[0]
	switch {
	case w.overtaken[first] != "":
		return fmt.Sprintf("%s is to be %s: somebody else has changed it meanwhile", first, w.overtaken[first]), "agree with them, and run it again"
	case w.kept[first]:
		return fmt.Sprintf("%s goes on: it is only loaded, and something on its host has started it", first),
			"stop the timer, the socket or the unit that starts it, or take it off its host: `muster units unload " + first + "`"
	}
	return fmt.Sprintf("%s failed", few(bad)), fmt.Sprintf("`muster logs %s` shows what it printed", first)
}

// few names at most three.
func few(names []string) string {
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
}
