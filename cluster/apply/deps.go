package apply

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"time"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// Deps is what a run works with.
type Deps struct {
	Spec      spec.Spec
	StateDir  string                        // of all clusters, see state.Parent
	Providers map[string]providers.Provider // by name, all of the cluster file's, with retries
	// Connect makes a client of the cluster for the operator. members is where to look, newest knowledge first; it makes no
	// call yet.
	Connect func(root *x509.Certificate, operator pki.Pair, members roster.Roster) (Fleet, error)
	// Musterd is how hosts of a provider get musterd, by the provider's name. Those of a provider without an entry have it.
	Musterd map[string]Musterd
	// Delivery does what is this machine's part in that. Nil when it has none.
	Delivery Delivery
	Reporter Reporter         // nil reports to nobody
	Log      *slog.Logger     // nil discards
	Now      func() time.Time // nil is time.Now
	// Dial reaches a waiting host's API port. Nil is net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Musterd is how the hosts of one provider get musterd: one of its fields is set.
type Musterd struct {
	Downloads []cloudconfig.Download // they fetch it, from Delivery too
	Pushed    bool                   // Delivery brings it to each of them
}

// Delivery is this machine's part in bringing musterd to hosts.
type Delivery interface {
	// Open begins to serve musterd and makes ready to push it. It is called before the first host is made, and says what
	// would keep hosts from getting musterd. dir is a place for copies; unfinished is the user-data of all hosts that were
	// asked for and have not joined: what it names must be served as it was.
	Open(ctx context.Context, dir string, unfinished [][]byte) error
	// Push brings musterd to a running instance that has an address, and starts it there. It returns when that is done, can
	// never be, or ctx ends. Repeating it changes nothing.
	Push(ctx context.Context, provider string, instance providers.Instance) error
	// Close ends what Open began, when no Push runs any more.
	Close(unfinished [][]byte) error
}

// Options change how a run goes.
type Options struct {
	// NoWait ends the run when all hosts are asked for, before they join.
	NoWait bool
	// Confirm is asked before instances are ended or stopped. Nil refuses.
	Confirm func(ctx context.Context, p plan.Plan) (bool, error)
	// Timeout is how long hosts may take to be ready, from when the last was asked for. 0 is DefaultTimeout.
	Timeout time.Duration
	// TokenTTL is how long a join token may wait for its first use. 0 is DefaultTokenTTL.
	TokenTTL time.Duration
	// CrashPoint is called before and after every write of the state directory and every call to a provider, for tests
	// that end the process there. It may be called by several goroutines. Nil does nothing.
	CrashPoint func(name string)
}

// Defaults of Options.
const (
	DefaultTimeout  = 10 * time.Minute
	DefaultTokenTTL = time.Hour
)

// graceToAnswer is how long a cluster that should be running may take to answer, when nothing had to be started.
const graceToAnswer = 30 * time.Second

// maxHidden is how long a provider's list may hide a new instance. What was asked for longer ago and was never listed
// does not exist.
const maxHidden = 15 * time.Minute

// Fleet is the running cluster, as the operator speaks to it.
type Fleet interface {
	// Status tells who the members are and how they do. An error means that nobody answers.
	Status(ctx context.Context) (FleetStatus, error)
	// AddToken lets the host that has the secret with this hash join, for ttl. Repeating it changes nothing.
	AddToken(ctx context.Context, hash string, host roster.Host, ttl time.Duration) error
	// Remove takes a host out of the cluster. One that is no member has been taken out already.
	Remove(ctx context.Context, hostID string) error
	// Relabel gives a member the labels of the cluster file (roster.Host.WithLabels).
	Relabel(ctx context.Context, hostID string, labels map[string]string) error
	// Configure tells the voters the settings of the cluster file that may change while they run.
	Configure(ctx context.Context, settings Settings) error
	// Seat says whether a member shall vote. It returns before it does.
	Seat(ctx context.Context, hostID string, votes bool) error
	// PutUnit submits a unit and reports whether that changed anything. desired is a store.Desired.
	PutUnit(ctx context.Context, name, content, desired string) (changed bool, err error)
}

// Settings are those of the cluster file that voters must know.
type Settings struct {
	Rebalance  int           // how many units, in percent, may move at a time
	Voters     int           // how many there shall be
	VoterGrace time.Duration // how long one may be silent before another host takes its place
	Backups    backup.Schedule
	Barred     []string    // IDs of the hosts that never vote
	Update     spec.Update // how hosts update
}

// FleetStatus is what the cluster says of itself.
type FleetStatus struct {
	Formed bool // the voters have a leader
	Hosts  []FleetHost
	Voters FleetVoters
}

// FleetHost is one member.
type FleetHost struct {
	Host       roster.Host
	State      string // ready, lost or joining
	VoterWaits bool   // its voter does not answer, or does not vote yet
}

// state says how the host is, its voter included.
func (h FleetHost) state() string {
	if h.State == stateReady && h.VoterWaits {
		return stateVoterWaits
	}
	return h.State
}

// FleetVoters counts the members of etcd.
type FleetVoters struct{ Total, Healthy int }

// The states of a host that works, of one whose lease has ended, and of one that works but for its voter.
const (
	stateReady      = "ready"
	stateLost       = "lost"
	stateVoterWaits = "waiting for its voter"
)

func (s FleetStatus) roster() roster.Roster {
	members := make(roster.Roster, len(s.Hosts))
	for i, h := range s.Hosts {
		members[i] = h.Host
	}
	return members
}

func (d Deps) withDefaults() Deps {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Dial == nil {
		d.Dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	return d
}

func (o Options) withDefaults() Options {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.TokenTTL == 0 {
		o.TokenTTL = DefaultTokenTTL
	}
	if o.CrashPoint == nil {
		o.CrashPoint = func(string) {}
	}
	return o
}
