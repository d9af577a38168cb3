package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/store"
)

// Where updates keep things, below the host's root directory.
const (
	updatePath      = "/var/lib/muster/update/state.json"
	updateRulesPath = "/var/lib/muster/update/settings.json"
	updateFilesPath = "/var/lib/muster/update/files"
	updateTrustPath = "/var/lib/muster/update/trust"
)

// ErrRestart ends Run: this musterd is to be started anew, in whichever version is to run now.
var ErrRestart = errors.New("musterd is to be started anew")

// updater has this host update. It runs for as long as musterd does, over every change of role, and whether or not the host
// joins: a release that keeps it from joining is one that does not do.
type updater struct {
	host    host
	version string // of this musterd
	restart context.CancelCauseFunc
	log     *slog.Logger
	wake    signal

	mu       sync.Mutex
	agent    *agent             // at work; nil while there is none
	record   store.UpdateRecord // as last seen; the settings of one that was kept on disk
	changed  chan struct{}      // closed and replaced when agent or record are others
	state    update.State       // as the driver reported it last
	engine   string             // its name
	reported signal
}

func newUpdater(h host, version string, restart context.CancelCauseFunc, log *slog.Logger) *updater {
	return &updater{
		host: h, version: version, restart: restart, log: log, wake: newSignal(), reported: newSignal(), changed: make(chan struct{}),
	}
}

// run ends with ctx.
func (u *updater) run(ctx context.Context) error {
	settings, err := u.load()
	if err != nil {
		u.log.Error("updates wait for the cluster's settings", "err", err)
	}
	u.mu.Lock()
	u.record.Settings = settings
	u.mu.Unlock()
	for ctx.Err() == nil {
		settings, changed := u.settings()
		if len(settings.Source) == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		u.update(ctx, settings)
	}
	return ctx.Err()
}

// update has the host update as long as the settings are these.
func (u *updater) update(ctx context.Context, s store.UpdateSettings) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() {
		defer cancel()
		failed := func(err error) { u.log.Error("this host does not update", "err", err) }
		_ = pause.Until(ctx, lastRetry, failed, func() error { return u.drive(ctx, s) })
	})
	defer running.Wait()
	for {
		now, changed := u.settings()
		if !reflect.DeepEqual(now, s) {
			cancel()
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// drive runs the driver.
func (u *updater) drive(ctx context.Context, s store.UpdateSettings) error {
	engine, err := u.newEngine(s)
	if err != nil {
		return err
	}
	source, err := u.newSource(s, engine.Name())
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.engine = engine.Name()
	u.mu.Unlock()
	d := &update.Driver{
		Engine: engine, Source: source, Host: &updateHost{updater: u, checks: s.Checks}, Limits: limitsOf(s),
		File: filepath.Join(u.host.root, updatePath), Dir: filepath.Join(u.host.root, updateFilesPath), Now: time.Now, Wake: u.wake, Log: u.log,
	}
	return d.Run(ctx)
}

func limitsOf(s store.UpdateSettings) update.Limits {
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	return update.Limits{Interval: ms(s.IntervalMillis), Drain: ms(s.DrainMillis), Health: ms(s.HealthMillis)}
}

// settings are those that hold now, and what is closed when they may be others.
func (u *updater) settings() (store.UpdateSettings, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.record.Settings, u.changed
}

// attach tells which agent is at work.
func (u *updater) attach(a *agent) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.agent = a
	u.news()
}

// news wakes who waits for a change. mu is held.
func (u *updater) news() {
	close(u.changed)
	u.changed = make(chan struct{})
}

// follow keeps up with the group's record, and tells the cluster how far this host is. It is a manager of the agent.
func (u *updater) follow(ctx context.Context, a *agent) error {
	u.attach(a)
	defer u.attach(nil)
	u.reported.raise()
	var reporting sync.WaitGroup
	reporting.Go(func() { u.tell(ctx, a) })
	defer reporting.Wait()
	between := pause.New(longestPause)
	for {
		err := store.Follow(ctx, a.store, []string{store.UpdateKey(store.UpdateGroup)}, watchPace, func(t *store.Tables) error {
			between.Reset()
			return u.accept(t.Updates[store.UpdateGroup], a.self.ID)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.log.Warn("cannot follow the settings of updates", "err", err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

// accept takes over the record. A store without one, which may have been emptied, leaves things as they are.
func (u *updater) accept(is store.Entry[store.UpdateRecord], self string) error {
	if is.Revision == 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !reflect.DeepEqual(is.Record.Settings, u.record.Settings) {
		if err := u.save(is.Record.Settings); err != nil {
			return err
		}
	}
	was := u.record
	u.record = is.Record
	if !sameOrders(is.Record, was, self) {
		u.wake.raise()
	}
	u.news()
	return nil
}

// sameOrders reports whether nothing has changed for which a host looks at everything at once.
func sameOrders(is, was store.UpdateRecord, self string) bool {
	return !wanted(is, self).After(wanted(was, self)) && was.Pin == is.Pin && was.Paused == is.Paused && (was.Hold == nil) == (is.Hold == nil) &&
		reflect.DeepEqual(was.Rollouts, is.Rollouts)
}

// wanted is when an operator wanted a host to look for releases last.
func wanted(r store.UpdateRecord, id string) time.Time {
	all, own := r.Now[""], r.Now[id]
	if own.After(all) {
		return own
	}
	return all
}

func (u *updater) load() (s store.UpdateSettings, err error) {
	data, err := os.ReadFile(filepath.Join(u.host.root, updateRulesPath))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return store.UpdateSettings{}, fmt.Errorf("cannot read the settings of updates: %w", err)
	}
	return s, nil
}

func (u *updater) save(s store.UpdateSettings) error {
	data, err := json.MarshalIndent(s, "", "  ")
	path := filepath.Join(u.host.root, updateRulesPath)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = pki.WriteFile(path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot keep the settings of updates: %w", err)
	}
	return nil
}

// tell writes the host's own record whenever the driver has reported, until ctx ends.
func (u *updater) tell(ctx context.Context, a *agent) {
	var written store.UpdateHostRecord
	between := pause.New(longestPause)
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.reported:
		}
		is := u.hostRecord()
		if is.Phase == "" || reflect.DeepEqual(is, written) {
			continue
		}
		data, err := store.Marshal(is)
		if err == nil {
			_, err = a.store.Commit(ctx, store.Commit{Ops: []store.Op{store.Put(store.UpdateHostKey(a.self.ID), data)}})
		}
		if err == nil {
			written = is
			between.Reset()
			continue
		}
		a.log.Warn("cannot tell how far this host's update is", "err", err)
		u.reported.raise()
		if between.Wait(ctx) != nil {
			return
		}
	}
}

// hostRecord is what the cluster is told.
func (u *updater) hostRecord() store.UpdateHostRecord {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.state
	r := store.UpdateHostRecord{
		Engine: u.engine, Version: s.Booted, Phase: string(s.Phase), Target: s.Target.Version, Reason: s.Reason, Since: s.Since,
		Resumed: s.Resumed,
	}
	switch s.Phase {
	case update.Draining, update.Confirming, update.Switching, update.Rebooting:
		r.Drain = u.engine != engineAgent
	case update.Failed:
		if n := len(s.Failures); n > 0 {
			r.Failed = s.Failures[n-1].Version
		}
	}
	for _, o := range s.History {
		r.History = append(r.History, store.UpdateOutcome{At: o.At, What: o.What, From: o.From, To: o.To, Reason: o.Reason})
	}
	return r
}
