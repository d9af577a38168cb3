package update

import (
	"slices"
	"time"
)

// Phase is how far a host is. Each has one Action that leads on.
type Phase string

// The phases, in their order.
const (
	Idle       Phase = "idle"       // nothing to be done, but to ask for releases now and then
	Fetching   Phase = "fetching"   // files of the target are being fetched
	Verifying  Phase = "verifying"  // and compared with the metadata
	Staging    Phase = "staging"    // and written into the passive slot
	Staged     Phase = "staged"     // waits until it may: for its window, its turn, an operator
	Locking    Phase = "locking"    // waits for the reboot lock
	Draining   Phase = "draining"   // holds it; units move to other hosts
	Confirming Phase = "confirming" // asks once more whether it may
	Switching  Phase = "switching"  // tells the boot loader
	Rebooting  Phase = "rebooting"
	Checking   Phase = "checking" // runs the target and asks whether the host is well
	Marking    Phase = "marking"  // it is
	Releasing  Phase = "releasing"

	Forgetting Phase = "forgetting" // the passive slot is emptied: its release failed or may not be booted any more
	Failed     Phase = "failed"     // fell back: holds the lock and waits for an operator
	Recovering Phase = "recovering" // runs what it ran before, and gives the lock back when it is well
)

// Offer is what a Source offers a host: the verified metadata of one release.
type Offer struct {
	Version string `json:"version"`
	// Files are what the metadata says of the release's files; Path is "" until they are fetched.
	Files []File `json:"files,omitempty"`
	// Expires is until when the metadata may be believed. The zero time is for ever.
	Expires time.Time `json:"expires,omitzero"`
	// Minimum is the oldest version that may be booted, "" for any.
	Minimum string `json:"minimum,omitempty"`
}

// Release is the offer once its files are on the disk.
func (o Offer) Release() Release { return Release{Version: o.Version, Files: o.Files} }

// Limits bound what a host does. The zero value of each is its default.
type Limits struct {
	Interval time.Duration `json:"interval,omitempty"` // between two checks for releases
	Drain    time.Duration `json:"drain,omitempty"`    // for moving units away
	Health   time.Duration `json:"health,omitempty"`   // until a host must be well after a boot
	Tries    int           `json:"tries,omitempty"`    // boots of a release that is not well
}

// The defaults of Limits.
const (
	DefaultInterval = 10 * time.Minute
	DefaultDrain    = 5 * time.Minute
	DefaultHealth   = 5 * time.Minute
	DefaultTries    = 3
)

func (l Limits) orDefaults() Limits {
	if l.Interval <= 0 {
		l.Interval = DefaultInterval
	}
	if l.Drain <= 0 {
		l.Drain = DefaultDrain
	}
	if l.Health <= 0 {
		l.Health = DefaultHealth
	}
	if l.Tries <= 0 {
		l.Tries = DefaultTries
	}
	return l
}

// Failure is a release that did not do on this host. It is not tried again unless an operator asks for that.
type Failure struct {
	Version string    `json:"version"`
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
}

// What became of a release, in Outcome.What.
const (
	Updated   = "updated"
	FellBack  = "fell back"
	Abandoned = "abandoned"
)

// Outcome is one line of a host's history.
type Outcome struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"` // Updated, FellBack, Abandoned
	From   string    `json:"from"`
	To     string    `json:"to"`
	Reason string    `json:"reason,omitempty"`
}

// historySize is how many outcomes, and how many failures, a host remembers.
const historySize = 20

// State is everything that a host knows of its updates. It is kept on disk before anything is done about it.
type State struct {
	V     int   `json:"v"`
	Phase Phase `json:"phase"`
	// Engine is whose versions these are, "" in states of before that was kept.
	Engine string `json:"engine,omitempty"`
	// Boot and Booted are the boot that the host is in and the version that it runs.
	Boot   string `json:"boot,omitempty"`
	Booted string `json:"booted,omitempty"`
	// Target is what is being installed, with an empty Version if nothing is.
	Target Offer `json:"target,omitzero"`
	// From is what the host ran when it began with the target.
	From string `json:"from,omitempty"`
	// Asked is that the reboot lock was asked for and has not been given back since: the host may hold it.
	Asked bool `json:"asked,omitempty"`
	// Unproven is that the host may hold the lock since an earlier boot and was not found to be well in this one.
	Unproven bool `json:"unproven,omitempty"`
	// Switched is that the boot loader was told, as far as is known: a reboot may boot the target from then on.
	Switched bool `json:"switched,omitempty"`
	// Attempts is how often the boot loader was told to boot the target, and Boots how often it did.
	Attempts int `json:"attempts,omitempty"`
	Boots    int `json:"boots,omitempty"`
	// Since is when the phase began, and Until when it is looked at again, or must be over.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Errors is how often the phase's action has failed in a row, and Reason why, or what is waited for.
	Errors int    `json:"errors,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Resumed counts how often operators had resumed the rollout when this host was last permitted to go on.
	Resumed int64 `json:"resumed,omitempty"`
	// Floor is the newest version that was good on this host: nothing older is installed.
	Floor    string    `json:"floor,omitempty"`
	Failures []Failure `json:"failures,omitempty"`
	History  []Outcome `json:"history,omitempty"` // the oldest first
	Limits   Limits    `json:"limits,omitzero"`
}

// Failure finds what kept a version from being good here.
func (s State) Failure(version string) (Failure, bool) {
	i := slices.IndexFunc(s.Failures, func(f Failure) bool { return f.Version == version })
	if i < 0 {
		return Failure{}, false
	}
	return s.Failures[i], true
}

// EventKind is what an Event tells.
type EventKind string

// The kinds of events. Done is the end of the phase's action where it has nothing else to tell.
const (
	Started    EventKind = "started"    // the agent has: Boot, Slots
	Configured EventKind = "configured" // Limits, Engine
	Tick       EventKind = "tick"       // State.Until has passed, or an operator wants it looked at now
	Offered    EventKind = "offered"    // Offer, and Retry
	Fetched    EventKind = "fetched"    // Files
	Done       EventKind = "done"
	Permitted  EventKind = "permitted" // May, Reason, Resumed, Offer; of Confirm also Held and Slots
	Probed     EventKind = "probed"    // May is whether the host is well, and Reason why not
	Erred      EventKind = "erred"     // the action failed: Reason
)

// Event is what has happened. Phase is that whose action has ended; events of another phase than the host is in are of an
// action that was given up, and change nothing.
type Event struct {
	Kind    EventKind
	Phase   Phase
	At      time.Time
	Boot    string
	Slots   Slots
	Limits  Limits
	Engine  string
	Offer   Offer
	Files   []File
	May     bool
	Held    bool
	Reason  string
	Resumed int64
	Again   time.Time // of Permitted: Permission.Again
	// Retry is that an operator wants releases tried again that have failed here before that moment.
	Retry time.Time
}

// ActionKind is what is to be done.
type ActionKind string

// The kinds of actions, and the event that each ends with if it does not fail.
const (
	Check    ActionKind = "check"     // ask the source: Offered
	Fetch    ActionKind = "fetch"     // Fetched
	Verify   ActionKind = "verify"    // compare every file's contents with its hash: Done
	Stage    ActionKind = "stage"     // Engine.Stage: Done
	Permit   ActionKind = "permit"    // ask the source and the rollout's rules: Permitted
	Lock     ActionKind = "lock"      // ask for the reboot lock and wait for it, then Permit: Permitted
	Drain    ActionKind = "drain"     // have units move away, until Deadline at most: Done
	Confirm  ActionKind = "confirm"   // Permit; is the lock still held, and what do the slots hold: Permitted
	Switch   ActionKind = "switch"    // Engine.Switch: Done
	Reboot   ActionKind = "reboot"    // Engine.Reboot: none but Started
	Probe    ActionKind = "probe"     // ask once whether the host is well: Probed
	Good     ActionKind = "good"      // Engine.Good: Done
	GiveBack ActionKind = "give back" // the lock; units may come: Done
	Forget   ActionKind = "forget"    // Engine.Forget: Done
	Hold     ActionKind = "hold"      // keep the lock and say why, wait until an operator resumes: Done
)

// Action is what the driver does next, one at a time: a new one ends the one before.
type Action struct {
	Kind     ActionKind
	Phase    Phase // that asks for it, to be told with the event
	Target   Offer
	Deadline time.Time // of Drain
	Reason   string    // of Hold
	Resumed  int64     // of Hold: State.Resumed
}
