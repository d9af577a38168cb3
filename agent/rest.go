package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// restTime is how long units may take to stop before a host reboots, which ends them in its own way.
const restTime = 90 * time.Second

// Rest implements update.Host. Units stop while the agent and the gateway to the keys are still there for what they do last,
// as to take themselves off a list of servers. They stay the host's, and so are back as soon as it is.
func (h *updateHost) Rest(ctx context.Context) (wake func()) {
	a, err := h.at()
	if err != nil {
		return func() {} // the reboot ends them
	}
	e := a.managers.executor
	e.rest(true)
	resting, cancel := context.WithTimeout(ctx, restTime)
	defer cancel()
	if err := e.down(resting); err != nil {
		h.log.Warn("the reboot ends units that have not stopped", "err", err)
	}
	return func() {
		if !errors.Is(context.Cause(ctx), ErrRestart) {
			e.rest(false)
		}
	}
}

// rest says whether units are to be stopped, although they are scheduled, since the host is about to reboot.
func (e *executor) rest(is bool) {
	e.mu.Lock()
	e.resting = is
	e.mu.Unlock()
	e.look.raise()
}

// restIfResting leaves units that shall run loaded and no more while the host rests. mu is held.
func (e *executor) restIfResting(units []store.ScheduledUnit) {
	for i := range units {
		if u := &units[i]; e.resting && u.Desired == store.DesiredLaunched {
			u.Desired = store.DesiredLoaded
		}
	}
}

// down returns when nothing that the schedule has launched runs any more.
func (e *executor) down(ctx context.Context) error {
	for {
		left, err := e.up(ctx)
		if err == nil && len(left) == 0 {
			return nil
		}
		if pause.For(ctx, drainEvery/5) != nil {
			return errors.Join(err, fmt.Errorf("still there: %s", strings.Join(left, " ")))
		}
	}
}

// up are the units that the schedule has launched and that run.
func (e *executor) up(ctx context.Context) ([]string, error) {
	observed, err := e.runtime.List(ctx)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	launched := map[string]bool{}
	if e.desired != nil {
		for _, u := range e.desired.Units {
			launched[u.Name] = u.Desired == store.DesiredLaunched
		}
	}
	var left []string
	for _, s := range observed {
		if launched[s.Name] && s.Active != "inactive" && s.Active != "failed" {
			left = append(left, s.Name)
		}
	}
	return left, nil
}
