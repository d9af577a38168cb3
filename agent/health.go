package agent

import (
	"context"
	"fmt"
	"log/slog"

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

	// turn has room for who uses known. It may wait for the store, and others for it, until their contexts end.
	turn  chan struct{}
	known map[string]unitfile.File // by SHA-256; without options for one that asks for no check
}

func newChecks(f files, processes process.Config, log *slog.Logger) *checks {
	c := &checks{files: f, processes: processes, log: log, turn: make(chan struct{}, 1), known: map[string]unitfile.File{}}
	c.Checker = health.New(c.execute)
	return c
}

// watch has those units asked that run and whose file says so.
func (c *checks) watch(ctx context.Context, observed []runtime.Status) {
	if c.take(ctx) != nil {
		return
	}
	defer c.give()
	known := make(map[string]unitfile.File, len(c.known))
	var targets []health.Target
	for _, s := range observed {
		if s.RunningHash == "" || s.Active != "active" && s.Active != "reloading" {
			continue
		}
		file, seen := known[s.RunningHash] // by another instance
		if !seen {
			var err error
			if file, err = c.file(ctx, s.Name, s.RunningHash); err != nil {
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

// file is the unit file with a hash, if there is a health check in it. It is the caller's turn.
func (c *checks) file(ctx context.Context, unit, hash string) (unitfile.File, error) {
	if file, ok := c.known[hash]; ok {
		return file, nil
	}
	content, err := c.files.get(ctx, hash)
	if err != nil {
		return unitfile.File{}, err
	}
	file, _, err := unitfile.Parse(unit, content)
	if err != nil || file.Muster(unit).HealthCheck.Kind == "" {
		return unitfile.File{}, err
	}
	return file, nil
}

func (c *checks) take(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *checks) give() { <-c.turn }

// tell adds to a state what is known of the unit's health.
func (c *checks) tell(state *store.UnitState) {
	s := c.Of(state.Name)
	if state.Health = s.Word; s.Word != store.HealthHealthy {
		state.HealthReason = s.Reason
	}
}

// execute is health.Exec.
func (c *checks) execute(ctx context.Context, t health.Target, words []string) (string, error) {
	if err := c.take(ctx); err != nil {
		return "", err
	}
	file, err := c.file(ctx, t.Unit, t.File)
	c.give()
	if err != nil {
		return "", err
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
