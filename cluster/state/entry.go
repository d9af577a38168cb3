package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/musterhq/muster/cluster/roster"
)

// Kind says what an Entry is about.
type Kind string

// The kinds of entries. The first group is written while work is done, the second by Compact.
const (
	KindIntent    Kind = "intent"    // Op on Host is about to be asked of Provider
	KindDone      Kind = "done"      // Op on Host was answered: it is done
	KindListed    Kind = "listed"    // Provider listed Host: from now on the list tells whether it exists
	KindGone      Kind = "gone"      // Host was listed once, and is no more
	KindBootstrap Kind = "bootstrap" // the first membership is fixed, before anyone is told
	KindAdmitted  Kind = "admitted"  // Host is about to be told the first membership: it may know it from now on
	KindJoined    Kind = "joined"    // Host knows it, or has joined through a voter
	KindFormed    Kind = "formed"    // the first membership works: later hosts join through its voters
	KindAbandoned Kind = "abandoned" // the first membership can never work: its hosts are to be replaced
	KindLost      Kind = "lost"      // nothing is left of the cluster that had formed: it is to form once more

	KindMachine    Kind = "machine"    // Host exists and is a member; nothing is open
	KindGeneration Kind = "generation" // Host.Generation is the highest that was ever asked for
)

// Op is what is asked of a provider.
type Op string

// The operations.
const (
	OpCreate  Op = "create"
	OpStart   Op = "start"
	OpDestroy Op = "destroy"
)

// Ref names one generation of a host of the cluster.
type Ref struct {
	Name       string `json:"name"`
	Generation int    `json:"generation"`
}

// String is name/generation.
func (r Ref) String() string { return fmt.Sprintf("%s/%d", r.Name, r.Generation) }

// Private is bytes that are written to the journal as they are and shown nowhere else.
type Private []byte

// String returns a mask.
func (Private) String() string { return "***" }

// Format writes a mask, under every verb.
func (Private) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// LogValue logs a mask.
func (Private) LogValue() slog.Value { return slog.StringValue("***") }

// Bootstrap is the first membership of a cluster: who is told what, decided once.
type Bootstrap struct {
	ClusterToken   string            `json:"cluster_token"`   // etcd's initial-cluster-token
	InitialCluster map[string]string `json:"initial_cluster"` // voters' host IDs and peer URLs
	Roster         roster.Roster     `json:"roster"`
}

// Entry is one line of the journal. Which fields are set follows from Kind.
type Entry struct {
	V         int        `json:"v"`
	Time      time.Time  `json:"time"`
	Kind      Kind       `json:"kind"`
	Op        Op         `json:"op,omitempty"`        // intent, done
	Host      *Ref       `json:"host,omitempty"`      // all but bootstrap, formed, abandoned and lost
	Provider  string     `json:"provider,omitempty"`  // intent, machine
	Voter     bool       `json:"voter,omitempty"`     // intent to create: the host is to vote
	Waits     bool       `json:"waits,omitempty"`     // intent to create: the user-data names no voter, the host waits to be dialled
	Token     Private    `json:"token,omitempty"`     // intent to create: the join token's secret
	UserData  Private    `json:"user_data,omitempty"` // intent to create: exact
	Bootstrap *Bootstrap `json:"bootstrap,omitempty"` // bootstrap
}

// ErrVersion says that another version of muster wrote the journal.
var ErrVersion = errors.New("written by another version of muster; use that one, or a newer one")

// Decode reads a journal. A last line that was cut short, as by a crash in the middle of writing it, is left out: what it
// announced was not begun. good is how many bytes the entries take. Everything else that is not an entry is an error.
func Decode(data []byte) (entries []Entry, good int, err error) {
	for number := 1; good < len(data); number++ {
		line, rest, ended := bytes.Cut(data[good:], []byte("\n"))
		entry, err := decodeLine(line)
		torn := !ended || len(rest) == 0 && !json.Valid(line)
		switch {
		case torn && !errors.Is(err, ErrVersion):
			return entries, good, nil
		case err != nil:
			return nil, 0, fmt.Errorf("cannot read journal: line %d: %w", number, err)
		}
		entries = append(entries, entry)
		good += len(line) + 1
	}
	return entries, good, nil
}

func decodeLine(line []byte) (Entry, error) {
	var version struct {
		V    *int `json:"v"`
		Kind Kind `json:"kind"`
	}
	if err := json.Unmarshal(line, &version); err != nil {
		return Entry{}, fmt.Errorf("not an entry: %w", err)
	}
	if version.V == nil || *version.V != Version || !version.Kind.known() {
		return Entry{}, ErrVersion
	}
	var e Entry
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("not an entry: %w", err)
	}
	return e, e.check()
}

func (k Kind) known() bool {
	switch k {
	case KindIntent, KindDone, KindListed, KindGone, KindBootstrap, KindAdmitted, KindJoined, KindFormed, KindAbandoned,
		KindLost, KindMachine, KindGeneration:
		return true
	}
	return false
}

// check refuses entries that lack what their kind needs.
func (e Entry) check() error {
	switch e.Kind {
	case KindFormed, KindAbandoned, KindLost:
		return nil
	case KindBootstrap:
		if e.Bootstrap == nil {
			return errors.New("no first membership")
		}
		return nil
	case KindIntent, KindDone:
		if e.Op != OpCreate && e.Op != OpStart && e.Op != OpDestroy {
			return fmt.Errorf("unknown operation %q", e.Op)
		}
	}
	if e.Host == nil || e.Host.Name == "" || e.Host.Generation < 1 {
		return errors.New("no host")
	}
	if (e.Kind == KindIntent || e.Kind == KindMachine) && e.Provider == "" {
		return errors.New("no provider")
	}
	return nil
}
