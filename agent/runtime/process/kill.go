package process

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The variables that mark every process of a unit, inherited by all that it starts.
const (
	unitMark     = "MUSTER_UNIT"
	instanceMark = "MUSTER_INSTANCE"
)

// job ends processes.
type job struct {
	want
	unit          string
	instance      string
	main, control *proc // nil for none
}

// The pauses between two looks at who is left to end.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// run sends the signal to everybody concerned, those that appear meanwhile too, and returns when all are gone, or with
// an error when ctx ends or the system does not answer.
func (j job) run(ctx context.Context) error {
	told := map[id]bool{}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		targets, err := j.targets()
		if err != nil {
			return err
		}
		if len(targets) == 0 {
			return nil
		}
		var handles []*handle
		for _, t := range targets {
			if h, err := open(t); err == nil {
				j.tell(h, told)
				handles = append(handles, h)
			}
		}
		soon, cancel := context.WithTimeout(ctx, pause)
		err = waitAll(soon, handles)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}

// tell sends the signal, once to those who may have their own way of following it. A stopped process is woken, so that
// it can. Who would die of the signal and lives has not had it: it was a child between fork and exec, where the handler
// of its parent swallowed the signal.
func (j job) tell(h *handle, told map[id]bool) {
	s := signalNumber(j.signal)
	if told[h.id] && !mustDie(h.PID, s) {
		return
	}
	told[h.id] = true
	_ = h.signal(s)
	if s != unix.SIGKILL {
		_ = h.signal(unix.SIGCONT)
	}
}

func waitAll(ctx context.Context, handles []*handle) error {
	var failed error
	for _, h := range handles {
		if failed == nil {
			failed = h.wait(ctx)
		}
		h.Close()
	}
	return failed
}

// targets are the processes concerned that are still alive.
func (j job) targets() ([]id, error) {
	var named []id
	for _, p := range []*proc{j.control, j.main} {
		if p != nil && p.id != none && (p == j.control || j.whom != controlOnly) {
			named = append(named, p.id)
		}
	}
	if j.whom != everybody {
		return slices.DeleteFunc(named, func(i id) bool { return !i.alive() }), nil
	}
	processes, err := all()
	if err != nil {
		return nil, err
	}
	return j.members(processes), nil
}

// members are those of the unit: in the session of one of its keepers, or marked. A keeper itself is none.
func (j job) members(processes []look) []id {
	keepers := map[id]bool{}
	for _, p := range []*proc{j.control, j.main} {
		if p != nil && p.Keeper != none {
			keepers[p.Keeper] = true
		}
	}
	sessions := map[int]bool{}
	for _, l := range processes {
		if keepers[l.id] { // alive, so its number is still that of its session
			sessions[l.PID] = true
		}
	}
	var members []id
	for _, l := range processes {
		if !keepers[l.id] && (sessions[l.Session] || marked(environment(l.PID), j.unit, j.instance)) {
			members = append(members, l.id)
		}
	}
	return members
}

func marked(env [][]byte, unit, instance string) bool {
	return has(env, unitMark+"="+unit) && has(env, instanceMark+"="+instance)
}

func has(env [][]byte, assignment string) bool {
	return slices.ContainsFunc(env, func(e []byte) bool { return bytes.Equal(e, []byte(assignment)) })
}

// strangers are processes of this instance's units that no record knows: their records were lost.
func strangers(instance string, known func(unit string) bool) ([]id, error) {
	processes, err := all()
	if err != nil {
		return nil, err
	}
	var found []id
	for _, l := range processes {
		env := environment(l.PID)
		if l.PID == os.Getpid() || !has(env, instanceMark+"="+instance) {
			continue
		}
		for _, e := range env {
			if unit, ok := bytes.CutPrefix(e, []byte(unitMark+"=")); ok && !known(string(unit)) {
				found = append(found, l.id)
			}
		}
	}
	return found, nil
}
