// Package runtime defines what an agent asks of whatever runs units on its host: systemd, or muster's own process
// supervisor, or a simulation. runtimetest holds the conformance suite that every implementation passes.
package runtime

import (
	"context"
	"errors"
	"time"

	"github.com/musterhq/muster/agent/unitfile"
)

// Unit is what a host shall have: a parsed unit file under an instance name.
type Unit struct {
	Name string // with type suffix, templates instantiated
	Hash string // SHA-256 of the contents, hexadecimal
	File unitfile.File
}

// Status is what a runtime knows of a unit. Load, Active and Sub are systemd's words.
type Status struct {
	Name string
	Hash string // of the contents that are loaded
	// RunningHash is of the contents that the unit was started with, "" while it is neither active nor on its way
	// there or back. It differs from Hash when the contents were replaced since: the unit wants a restart.
	RunningHash string
	Load        string // loaded; error: the contents cannot be run here, Reason says why; not-found: somebody removed them
	Active      string // active, reloading, inactive, failed, activating, deactivating
	Sub         string // running, exited, dead, failed, start-pre, auto-restart, ...
	Reason      string // why it is so, when there is something to say: "exit status 3", "start limit hit"
	Since       time.Time
}

// The errors that callers tell apart.
var (
	// ErrNotLoaded is returned for units that were never loaded, or unloaded since.
	ErrNotLoaded = errors.New("unit is not loaded")
	// ErrLoad is returned by Start for a unit whose Load is "error".
	ErrLoad = errors.New("unit cannot be run here")
	// ErrActive is returned by Unload for a unit that is not stopped.
	ErrActive = errors.New("unit is not stopped")
	// ErrStartLimit is returned by Start for a unit that was started too often (StartLimitBurst=).
	ErrStartLimit = errors.New("start limit hit")
	// ErrNotActive is returned by Reload for a unit that does not run.
	ErrNotActive = errors.New("it is not active")
	// ErrNoReload is returned by Reload for a unit that says of no way to be reloaded.
	ErrNoReload = errors.New("it has no ExecReload=")
)

// ErrNotHeld is returned by Start for a unit of Singleton=strict while nobody has said that it may run (Holder).
var ErrNotHeld = errors.New("units of Singleton=strict may not run now")

// Holder is a runtime that can run units of Singleton=strict: only until a moment, and then something outside of this
// process kills them, whatever has become of it. A moment is a reading of the clock of guard.Now.
type Holder interface {
	// Holds says whether that works here. If not, strict units are never started.
	Holds() bool
	// Hold says until when strict units may run. It returns soon. killed says that they were killed since the last call.
	Hold(until time.Duration) (killed bool, err error)
	// Held is what was said last, by an agent before this one too. It is false if nothing was, or the moment has passed and
	// the units were killed.
	Held() (until time.Duration, ok bool)
}

// Reloader is a runtime that can ask a running unit to read its configuration again (ExecReload=).
type Reloader interface {
	// Reload reloads an active unit, or begins to where only the unit's log tells how it went. It returns ErrNotActive and
	// ErrNoReload.
	Reload(ctx context.Context, name string) error
}

// Runtime loads, starts and stops units. It never decides which. Implementations are safe for concurrent use.
//
// A runtime's units outlive the agent: Close leaves them running, and a new Runtime over the same directory adopts
// them, with their state.
type Runtime interface {
	// Load makes the unit known, replacing an older content; a running unit goes on with the old content until it is
	// restarted. Loading the same content again changes nothing. What cannot be run here is loaded nevertheless: its
	// status says so.
	Load(ctx context.Context, u Unit) error
	// Start begins to start a loaded unit and returns without waiting until it is active. Starting a unit that is active
	// or activating changes nothing.
	Start(ctx context.Context, name string) error
	// Stop ends a unit, politely first, and returns when no process of it is left. Stopping one that is not running
	// changes nothing, but that a failed one stays failed until it is started or unloaded.
	Stop(ctx context.Context, name string) error
	// Unload forgets a stopped or failed unit. Unloading what is not loaded changes nothing.
	Unload(ctx context.Context, name string) error
	// List returns every loaded unit, sorted by name.
	List(ctx context.Context) ([]Status, error)
	// Changed delivers a token after any unit's status may have changed. Tokens coalesce.
	Changed() <-chan struct{}
	// Logs hands what the unit printed to yield, oldest first, in batches: what was there to be read at once, some 100 kB
	// at most, valid during the call only. An error of yield ends it and is returned. A yield that takes its time holds up
	// nothing but this call. With q.Follow it goes on until ctx ends, whether or not the unit runs.
	Logs(ctx context.Context, name string, q LogQuery, yield func([]LogEntry) error) error
	// Close stops supervising and leaves units running.
	Close() error
}
