package update

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/musterhq/muster/agent/pause"
)

// Source knows releases.
type Source interface {
	// Offer is what this host is offered now, and since when an operator wants releases tried again that have failed here (the
	// zero time: not at all). No release is an Offer without a version. Metadata that is not what it should be is an error.
	Offer(ctx context.Context) (o Offer, retry time.Time, err error)
	// Fetch brings the files of an offer into a directory, which it may have begun to fill before.
	Fetch(ctx context.Context, o Offer, dir string) ([]File, error)
}

// Permission is what a rollout's rules say.
type Permission struct {
	May     bool
	Reason  string // why not
	Resumed int64  // how often operators have resumed the rollout
	// Again is when to ask again after a no, unless something wakes the driver before; zero is soon.
	Again time.Time
}

// Host is what the driver needs of the host and its cluster. Every call but Report and Boot waits for as long as it takes.
type Host interface {
	Boot() string // ID

	// May asks the rules of the rollout whether the host may take a version now.
	May(ctx context.Context, version string) (Permission, error)
	// Resumed waits until operators have resumed the rollout more often than that.
	Resumed(ctx context.Context, since int64) error

	// Lock asks for the reboot lock and waits until the host has it. Held reports whether it still does, as the store knows
	// it now. Unlock gives it back or asks no more, and has units come. Unwell keeps it and says why.
	Lock(ctx context.Context, reason string) error
	Held(ctx context.Context) (bool, error)
	Unlock(ctx context.Context, reason string) error
	Unwell(ctx context.Context, reason string) error

	// Drain returns when the units that could move have.
	Drain(ctx context.Context, deadline time.Time) error
	// Rest stops what still runs before the host is rebooted, and returns when that has ended or had its time. What it
	// returns has it run again, if there is no reboot after all.
	Rest(ctx context.Context) (wake func())
	// Probe looks once whether the host is as it should be; the error says what is missing.
	Probe(ctx context.Context) error
	// Report tells the cluster how far the host is. It does not wait.
	Report(s State)
}

// UnitKeeper is an Engine that may reboot without any unit being stopped, as one that replaces musterd alone: such a host is
// not drained.
type UnitKeeper interface{ KeepsUnits() bool }

func keepsUnits(e Engine) bool {
	keeper, ok := e.(UnitKeeper)
	return ok && keeper.KeepsUnits()
}

// Driver does what Next says, for as long as the host runs.
type Driver struct {
	Engine Engine
	Source Source
	Host   Host
	Limits Limits
	File   string // of the State
	Dir    string // for files of releases
	Now    func() time.Time
	Wake   <-chan struct{} // look at everything now
	Log    *slog.Logger

	state  State
	events chan Event
	cancel context.CancelFunc
	ended  chan struct{} // the running action has
}

// longestPause is how long the driver waits at most until it tries again what must succeed before it goes on.
const longestPause = 30 * time.Second

// Run ends with ctx. What was begun is gone on with by the next Run.
func (d *Driver) Run(ctx context.Context) error {
	d.events = make(chan Event)
	var err error
	if d.state, err = stateFile(d.File).load(); err != nil {
		d.Log.Error("updates begin anew", "err", err)
	}
	defer d.stop()
	if err := d.handle(ctx, Event{Kind: Configured, Limits: d.Limits, Engine: d.Engine.Name()}); err != nil {
		return err
	}
	var slots Slots
	failed := func(err error) {
		d.Log.Warn("cannot see what this host's slots hold", "engine", d.Engine.Name(), "err", err)
	}
	if err := pause.Until(ctx, longestPause, failed, func() (err error) {
		slots, err = d.Engine.Slots(ctx)
		return err
	}); err != nil {
		return err
	}
	if err := d.handle(ctx, Event{Kind: Started, Boot: d.Host.Boot(), Slots: slots}); err != nil {
		return err
	}
	for {
		e, err := d.await(ctx)
		if err == nil {
			err = d.handle(ctx, e)
		}
		if err != nil {
			return err
		}
	}
}

// await is the next event.
func (d *Driver) await(ctx context.Context) (Event, error) {
	var due <-chan time.Time
	if !d.state.Until.IsZero() {
		timer := time.NewTimer(d.state.Until.Sub(d.Now()))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return Event{}, ctx.Err()
	case e := <-d.events:
		return e, nil
	case <-due:
	case <-d.Wake:
	}
	return Event{Kind: Tick}, nil
}

// handle decides, keeps what it decided, and begins to do it.
func (d *Driver) handle(ctx context.Context, e Event) error {
	e.At = d.Now()
	state, actions := Next(d.state, e)
	failed := func(err error) { d.Log.Error("updates wait", "err", err) }
	if err := pause.Until(ctx, longestPause, failed, func() error { return stateFile(d.File).save(state) }); err != nil {
		return err
	}
	if d.state.Phase != state.Phase || d.state.Reason != state.Reason {
		d.Log.Info("update", "phase", state.Phase, "target", state.Target.Version, "reason", state.Reason)
	}
	d.state = state
	d.Host.Report(state)
	for _, a := range actions {
		d.begin(ctx, a)
	}
	return nil
}

// begin does an action in place of the one that is being done.
func (d *Driver) begin(ctx context.Context, a Action) {
	d.stop()
	ctx, d.cancel = context.WithCancel(ctx)
	ended := make(chan struct{})
	d.ended = ended
	go func() {
		defer close(ended)
		e, err := d.do(ctx, a)
		if err != nil {
			e = Event{Kind: Erred, Reason: err.Error()}
		}
		e.Phase = a.Phase
		select {
		case d.events <- e:
		case <-ctx.Done():
		}
	}()
}

// stop ends the action that is being done.
func (d *Driver) stop() {
	if d.cancel != nil {
		d.cancel()
		<-d.ended
		d.cancel = nil
	}
}

// do carries an action out and says with which event it ended.
func (d *Driver) do(ctx context.Context, a Action) (Event, error) {
	done := Event{Kind: Done}
	switch a.Kind {
	case Check:
		o, retry, err := d.Source.Offer(ctx)
		return Event{Kind: Offered, Offer: o, Retry: retry}, err
	case Fetch:
		files, err := d.Source.Fetch(ctx, a.Target, d.Dir)
		return Event{Kind: Fetched, Files: files}, err
	case Verify:
		return done, verify(ctx, a.Target)
	case Stage:
		return done, d.Engine.Stage(ctx, a.Target.Release())
	case Permit:
		return d.permission(ctx, a)
	case Lock:
		if err := d.Host.Lock(ctx, "update to "+a.Target.Version); err != nil {
			return Event{}, err
		}
		return d.permission(ctx, a)
	case Drain:
		if keepsUnits(d.Engine) {
			return done, nil
		}
		return done, d.Host.Drain(ctx, a.Deadline)
	case Confirm:
		return d.confirm(ctx, a)
	case Switch:
		return done, d.Engine.Switch(ctx, a.Target.Version)
	case Reboot:
		return d.reboot(ctx)
	}
	return d.finish(ctx, a)
}

// finish carries out the actions of a host that was rebooted, or that gives a release up.
func (d *Driver) finish(ctx context.Context, a Action) (Event, error) {
	done := Event{Kind: Done}
	switch a.Kind {
	case Probe:
		return d.probe(ctx)
	case Good:
		return done, d.Engine.Good(ctx)
	case GiveBack:
		return done, d.Host.Unlock(ctx, orWord(a.Reason, "the host is healthy"))
	case Forget:
		return done, d.Engine.Forget(ctx, a.Target.Version)
	case Hold:
		if err := d.Host.Unwell(ctx, a.Reason); err != nil {
			return done, err
		}
		return done, d.Host.Resumed(ctx, a.Resumed)
	}
	return Event{}, fmt.Errorf("cannot do %q: no such action", a.Kind)
}

// permission asks source and rules, in this order: what the rules allow is what is offered.
func (d *Driver) permission(ctx context.Context, a Action) (Event, error) {
	o, _, err := d.Source.Offer(ctx)
	if err != nil {
		return Event{}, err
	}
	p, err := d.Host.May(ctx, a.Target.Version)
	return Event{Kind: Permitted, Offer: o, May: p.May, Reason: p.Reason, Resumed: p.Resumed, Again: p.Again}, err
}

func (d *Driver) confirm(ctx context.Context, a Action) (Event, error) {
	e, err := d.permission(ctx, a)
	if err != nil {
		return e, err
	}
	if e.Slots, err = d.Engine.Slots(ctx); err != nil {
		return e, err
	}
	e.Held, err = d.Host.Held(ctx) // last of all
	return e, err
}

// rebootPatience is how long a reboot may be under way until it is ordered again.
const rebootPatience = 5 * time.Minute

func (d *Driver) reboot(ctx context.Context) (Event, error) {
	if !keepsUnits(d.Engine) {
		defer d.Host.Rest(ctx)()
	}
	if err := d.Engine.Reboot(ctx); err != nil {
		return Event{}, err
	}
	if err := pause.For(ctx, rebootPatience); err != nil {
		return Event{}, err
	}
	return Event{}, fmt.Errorf("the host still runs %s after the reboot was ordered", rebootPatience)
}

// probe answers at once when the host is well, and otherwise after a moment.
func (d *Driver) probe(ctx context.Context) (Event, error) {
	err := d.Host.Probe(ctx)
	if err == nil {
		return Event{Kind: Probed, May: true}, nil
	}
	_ = pause.For(ctx, probeEvery)
	return Event{Kind: Probed, Reason: err.Error()}, nil
}
