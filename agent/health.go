package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/musterhq/muster/agent/health"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// checks has the units of this host asked whether they are well, as the files say that they run with.
type checks struct {
	*health.Checker
	files     files
	processes process.Config // what commands run with
	log       *slog.Logger

	containers containers

	mu    sync.Mutex
	known map[string]unitfile.File // by SHA-256; without options for one that asks for no check
}

func newChecks(f files, processes process.Config, log *slog.Logger) *checks {
	c := &checks{files: f, processes: processes, log: log, known: map[string]unitfile.File{}}
	c.Checker = health.New(c.execute)
	return c
}

// watch has those units asked that run and whose file says so.
func (c *checks) watch(ctx context.Context, observed []runtime.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make(map[string]unitfile.File, len(c.known))
	var targets []health.Target
	for _, s := range observed {
		if s.RunningHash == "" || s.Active != "active" && s.Active != "reloading" {
			continue
		}
		file, seen := known[s.RunningHash] // by another instance
		if !seen {
			var err error
			if file, err = c.file(s.Name, s.RunningHash); err != nil {
				c.log.Debug("cannot tell whether a unit has a health check", "unit", s.Name, "err", err)
				continue
			}
			known[s.RunningHash] = file
		}
		if len(file.Options) == 0 {
			continue
		}
		if check := file.Muster(s.Name).HealthCheck; check.Kind != "" {
			targets = append(targets, health.Target{Unit: s.Name, File: s.RunningHash, Since: s.Since, Check: check})
		}
	}
	c.known = known
	c.Watch(ctx, targets)
}

// file is the unit file with a hash, if there is a health check in it. What runs here is on disk, and the store is not
// asked: who looks after units must not wait for it. mu is held.
func (c *checks) file(unit, hash string) (unitfile.File, error) {
	if file, ok := c.known[hash]; ok {
		return file, nil
	}
	content, err := c.files.kept(hash)
	if err != nil {
		return unitfile.File{}, err
	}
	file, _, err := unitfile.Parse(unit, content)
	if err != nil || file.Muster(unit).HealthCheck.Kind == "" {
		return unitfile.File{}, err
	}
	return file, nil
}

// tell adds to a state what is known of the unit's health.
func (c *checks) tell(state *store.UnitState) {
	s := c.Of(state.Name)
	if state.Health = s.Word; s.Word != store.HealthHealthy {
		state.HealthReason = s.Reason
	}
}

// execute is health.Exec.
func (c *checks) execute(ctx context.Context, t health.Target, words []string) (string, error) {
	c.mu.Lock()
	file, err := c.file(t.Unit, t.File)
	c.mu.Unlock()
	if err != nil {
		return "", err
	}
	well := ""
	if t.Check.Kind == "container" {
		if words, well, err = c.containers.health(t.Unit, file); err != nil {
			return "", err
		}
		file = unitfile.File{} // the engine is no process of the unit
	}
	cmd, err := c.processes.Beside(ctx, t.Unit, file, words)
	if err != nil {
		return "", err
	}
	var out lastOutput
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return string(out), fmt.Errorf("%s: %w", words[0], err)
	}
	if well != "" && strings.TrimSpace(string(out)) != well {
		return string(out), errors.New("the engine says")
	}
	return string(out), nil
}

// lastOutput keeps the last that was written to it.
type lastOutput []byte

const maxOutput = 1 << 10

func (o *lastOutput) Write(p []byte) (int, error) {
	*o = append(*o, p...)
	if len(*o) > maxOutput {
		*o = append((*o)[:0], (*o)[len(*o)-maxOutput:]...)
	}
	return len(p), nil
}
