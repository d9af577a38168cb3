package store

import "time"

// Updates of hosts. What they mean is in the comments of package agent/update and of control.Steward.
const (
	PrefixUpdate      = "/muster/update/"
	PrefixUpdateHosts = "/muster/update/hosts/"
	// UpdateGroup is the group that all hosts update in, and whose reboot lock they take.
	UpdateGroup = "default"
)

// UpdateSettings are what the cluster file says of updates. Without a Source there are none.
type UpdateSettings struct {
	Source  []string `json:"source,omitempty"`  // base URLs of the repository of releases, the preferred first
	Root    []byte   `json:"root,omitempty"`    // its root.json, by which everything else is verified
	Channel string   `json:"channel,omitempty"` // alpha, beta, stable
	Engine  string   `json:"engine,omitempty"`  // "" is what the host itself finds to be its own
	// Durations are in milliseconds; 0 is update.Limits' default.
	IntervalMillis int64 `json:"interval_ms,omitempty"`
	DrainMillis    int64 `json:"drain_ms,omitempty"`
	HealthMillis   int64 `json:"health_ms,omitempty"`
	// Checks are commands that succeed on a host that is well.
	Checks []string `json:"checks,omitempty"`
	// AllowOutage lets the voters of clusters of one or two reboot, although that costs quorum meanwhile.
	AllowOutage bool `json:"allow_outage,omitempty"`
	// Windows are when hosts may begin, as package window reads them; none is always. Canaries are the labels of hosts that go
	// first, and SoakMillis how long they have had a release before others follow, of which PerHour percent begin in an hour, 0 for
	// all. Budget is on how many hosts a release may fail until nobody goes on.
	Windows    []string          `json:"windows,omitempty"`
	Canaries   map[string]string `json:"canaries,omitempty"`
	SoakMillis int64             `json:"soak_ms,omitempty"`
	PerHour    int               `json:"per_hour,omitempty"`
	Budget     int               `json:"budget,omitempty"`
}

// Ruled reports whether not all hosts may take a release at any time, or whether one may fail.
func (s UpdateSettings) Ruled() bool {
	return len(s.Windows)+len(s.Canaries)+s.PerHour+s.Budget > 0
}

// UpdateRecord is how a group of hosts updates: what the cluster file says, and what operators ordered since. Voters write it
// on behalf of operators, and the leader, fenced, when a release fails on a host.
type UpdateRecord struct {
	V        int            `json:"v"`
	Settings UpdateSettings `json:"settings,omitzero"`
	Paused   bool           `json:"paused,omitempty"`
	Pin      string         `json:"pin,omitempty"` // the one version that hosts may take, "" for any
	// Hold is why nobody goes on; nil if nothing is wrong. An operator takes it away, and Resumed counts how often.
	Hold    *UpdateHold `json:"hold,omitempty"`
	Resumed int64       `json:"resumed,omitempty"`
	// Now is when an operator wanted hosts, by ID or all under "", to look for releases at once and try failed ones again.
	Now     map[string]time.Time `json:"now,omitempty"`
	History []UpdateEvent        `json:"history,omitempty"` // the oldest first, the newest UpdateHistory of them
	// Rollouts are how far releases are, by engine/version, while the Settings are Ruled. The leader counts.
	Rollouts map[string]UpdateRollout `json:"rollouts,omitempty"`
}

// UpdateRollout is how far a release is.
type UpdateRollout struct {
	Began    time.Time `json:"began"`              // when the first host was about to take it
	Canaries int       `json:"canaries,omitempty"` // hosts with the canaries' labels
	Well     int       `json:"well,omitempty"`     // of these, hosts that run it and are well
	Soaked   time.Time `json:"soaked,omitzero"`    // since when all of these are; zero as long as not all are
	// Failed are hosts on which it failed since an operator resumed the rollout last, by ID.
	Failed map[string]time.Time `json:"failed,omitempty"`
}

// ruledVersion is that of an UpdateRecord whose Settings are Ruled: an older muster, which would not keep to them, leaves its host
// as it is.
const ruledVersion = 2

func (r *UpdateRecord) newest() int { return ruledVersion }

func (r *UpdateRecord) needs() int {
	if r.Settings.Ruled() {
		return ruledVersion
	}
	return RecordVersion
}

// UpdateRollouts is the key of a release in UpdateRecord.Rollouts.
func UpdateRollouts(engine, version string) string { return engine + "/" + version }

// UpdateHistory is how many events an UpdateRecord remembers.
const UpdateHistory = 50

// UpdateHold is a release that failed on a host.
type UpdateHold struct {
	Version string    `json:"version"`
	Host    string    `json:"host"` // ID
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// UpdateEvent is one line of a group's history.
type UpdateEvent struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"` // held, resumed, paused, pinned, unpinned, now, configured
	By     string    `json:"by"`   // operator, or the ID of a host
	Reason string    `json:"reason,omitempty"`
}

// UpdateHostRecord is how far a host is with its update. The host writes it.
type UpdateHostRecord struct {
	V       int    `json:"v"`
	Engine  string `json:"engine"`
	Version string `json:"version"`          // that it runs
	Phase   string `json:"phase"`            // update.Phase
	Target  string `json:"target,omitempty"` // that it updates to
	Reason  string `json:"reason,omitempty"`
	// Since is when the phase began.
	Since time.Time `json:"since"`
	// Drain is that units shall move away now.
	Drain bool `json:"drain,omitempty"`
	// Resumed is UpdateRecord.Resumed when the host was permitted to go on last: a failure of before that is known.
	Resumed int64 `json:"resumed,omitempty"`
	// Failed is the release that failed here, while the host waits for an operator.
	Failed  string          `json:"failed,omitempty"`
	History []UpdateOutcome `json:"history,omitempty"` // the oldest first
}

// UpdateOutcome is what became of a release on a host.
type UpdateOutcome struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"` // updated, fell back, abandoned
	From   string    `json:"from"`
	To     string    `json:"to"`
	Reason string    `json:"reason,omitempty"`
}

func (r *UpdateRecord) header() *int     { return &r.V }
func (r *UpdateHostRecord) header() *int { return &r.V }

// UpdateKey is where the UpdateRecord of a group is.
func UpdateKey(group string) string { return PrefixUpdate + group }

// UpdateHostKey is where a host's UpdateHostRecord is.
func UpdateHostKey(hostID string) string { return PrefixUpdateHosts + hostID }
