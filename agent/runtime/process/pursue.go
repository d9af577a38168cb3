package process

import (
	"context"
	"fmt"
	"time"
)

// pursue sees to it that what the record wants is in progress.
func (u *unit) pursue(ctx context.Context) {
	for {
		w := machine{current: u.current.service}.wants(u.record)
		if w.spawn == nil || ctx.Err() != nil {
			u.kill(ctx, w)
			break
		}
		u.spawn(w)
	}
	for _, control := range []bool{true, false} {
		u.watch(ctx, control)
	}
	if u.record.resting() {
		u.hush()
	}
	if d := u.record.Deadline; d.IsZero() {
		u.timer.Stop()
	} else {
		u.timer.Reset(time.Until(d))
	}
}

// spawn runs one command. The process exists before the record says so, and runs only after.
func (u *unit) spawn(w want) {
	fail := func(err error) {
		e := exit{Code: exitExec, Detail: err.Error()}
		u.apply(event{kind: ended, control: w.control, exit: e})
	}
	c, err := u.prepare(*w.spawn, w.control)
	if err == nil && u.current.service.Type == "notify" && !w.control {
		err = u.listen()
	}
	if err != nil {
		fail(err)
		return
	}
	limit, err := u.limit()
	if err != nil {
		fail(err)
		return
	}
	child, err := u.fork(c)
	if err != nil {
		fail(err)
		return
	}
	child.limit = limit
	if c.record {
		child.line = u.startLine(child, u.current.Hash)
	}
	if err := u.take(event{kind: spawned, control: w.control, proc: &child.proc}); err != nil {
		u.abandon(child)
		fail(err)
		return
	}
	if err := child.release(); err != nil {
		u.log.Warn("cannot start a process", "error", err) // its end will tell
	}
}

// limit is when a process that starts now would come too late, in hundredths of a second of /proc/uptime; 0 for never. The
// process looks itself, in the moment before it becomes the command: the agent may be frozen between this and that.
func (u *unit) limit() (int64, error) {
	if !u.current.strict {
		return 0, nil
	}
	until, err := u.rt.guarded()
	if err != nil {
		return 0, err
	}
	return uptime(until)
}

// kill starts, goes on with or stops the job of ending processes.
func (u *unit) kill(ctx context.Context, w want) {
	key := ""
	if w.signal != "" {
		key = fmt.Sprint(u.record.Phase, u.record.Since.UnixNano(), u.record.Expired)
	}
	if key == u.job.key {
		return
	}
	if u.job.cancel != nil {
		u.job.cancel()
	}
	u.job = activity{number: u.job.number + 1, key: key}
	if w.signal == "" {
		return
	}
	ctx, u.job.cancel = context.WithCancel(ctx)
	number := u.job.number
	j := job{
		want: w, unit: u.name, instance: u.rt.config.Instance, main: u.record.Main, control: u.record.Control,
	}
	u.tasks.Go(func() {
		if err := j.run(ctx); err != nil {
			if ctx.Err() == nil {
				u.log.Error("cannot end the processes of a unit", "error", err)
			}
			return
		}
		u.tell(ctx, message{event: event{kind: gone}, job: number})
	})
}

// watch waits for the end of the process in a role.
func (u *unit) watch(ctx context.Context, control bool) {
	var now id
	if p := u.record.process(control); p != nil {
		now = p.id
	}
	old := u.watches[control]
	if old.id == now {
		return
	}
	if old.cancel != nil {
		old.cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	u.watches[control] = watch{id: now, cancel: cancel}
	if now == none {
		cancel()
		return
	}
	u.tasks.Go(func() {
		if h, err := open(now); err == nil {
			err = h.wait(ctx)
			h.Close()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				u.log.Warn("cannot wait for a process", "pid", now.PID, "error", err)
				_ = poll(ctx, now)
			}
		}
		u.tell(ctx, message{event: event{kind: ended, control: control}, of: now})
	})
}

// tell hands news to the loop, unless nobody wants them any more.
func (u *unit) tell(ctx context.Context, m message) {
	select {
	case u.events <- m:
	case <-ctx.Done():
	}
}
