package omaha

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/version"
)

// maxMachines bounds a ledger: who has not been heard for the longest is forgotten for a new one.
const maxMachines = 20_000

// maxRollouts bounds how many are remembered; versions come from the repository alone.
const maxRollouts = 10_000

// Ledger is what is remembered of machines and rollouts. It is pure: the time is given to it.
type Ledger struct {
	V        int                  `json:"v"`
	Machines map[string]*Entry    `json:"machines"` // by ID
	Began    map[string]time.Time `json:"began"`    // by channel/version: when it was offered first
}

const ledgerVersion = 1

// Entry is one machine.
type Entry struct {
	Track     string    `json:"track"`
	OEM       string    `json:"oem,omitempty"`
	Arch      string    `json:"arch"`
	Version   string    `json:"version"` // that it runs
	Since     time.Time `json:"since"`   // it was seen first with that version
	Seen      time.Time `json:"seen"`
	Boot      string    `json:"boot,omitempty"`
	Offered   string    `json:"offered,omitempty"`   // the last version that it was offered
	Installed string    `json:"installed,omitempty"` // the version that it has written and not run yet
	Failed    string    `json:"failed,omitempty"`    // the last version that it could not install, or fell back from
	Event     string    `json:"event,omitempty"`     // the last, in words
	At        time.Time `json:"at,omitzero"`         // of the event
	Reason    string    `json:"reason,omitempty"`    // why it was offered nothing
}

// NewLedger remembers nothing yet.
func NewLedger() *Ledger {
	return &Ledger{V: ledgerVersion, Machines: map[string]*Entry{}, Began: map[string]time.Time{}}
}

// ReadLedger reads what a ledger was written as.
func ReadLedger(from io.Reader) (*Ledger, error) {
	l := NewLedger()
	if err := json.NewDecoder(from).Decode(l); err != nil {
		return nil, fmt.Errorf("cannot read what is remembered of machines: %w", err)
	}
	if l.V != ledgerVersion || l.Machines == nil || l.Began == nil {
		return nil, fmt.Errorf("cannot read what is remembered of machines: it is of version %d, and this program knows %d", l.V, ledgerVersion)
	}
	maps.DeleteFunc(l.Machines, func(_ string, e *Entry) bool { return e == nil })
	return l, nil
}

// Hear takes down what a machine tells of itself and of its last release.
func (l *Ledger) Hear(m Machine, events []Event, now time.Time) {
	is := l.Machines[m.ID]
	if is == nil {
		l.makeRoom()
		is = &Entry{Since: now}
		l.Machines[m.ID] = is
	}
	if is.Version != m.Version {
		is.Version, is.Since = m.Version, now
	}
	rebooted := is.Boot != "" && is.Boot != m.Boot
	is.Track, is.OEM, is.Arch, is.Seen, is.Boot = m.Track, m.OEM, m.Arch, now, m.Boot
	for _, e := range events {
		is.hear(e, now)
	}
	switch {
	case is.Installed == "":
	case version.Compare(is.Version, is.Installed) >= 0:
		is.Installed = ""
	case rebooted:
		is.Failed, is.Installed, is.Event, is.At = is.Installed, "", "fell back from "+is.Installed, now
	}
}

// hear takes down an event. A failure is one of what was offered last.
func (e *Entry) hear(event Event, now time.Time) {
	e.Event, e.At = event.String(), now
	switch {
	case event.Result == ResultError && e.Offered != "" && !event.passes():
		e.Failed, e.Installed = e.Offered, ""
	case event.Type == EventInstalled, event.Type == EventComplete && event.Result == ResultSuccess:
		e.Installed = e.Offered
	}
}

// What update_engine calls kErrorCodeDownloadTransferError, and from where on it adds the status of an answer over HTTP
// (kErrorCodeOmahaRequestHTTPResponseBase).
const (
	codeTransfer = 9
	codeHTTP     = 2000
)

// passes says whether a failure is one of the network, that update_engine tries again after, and not the release's.
func (e Event) passes() bool { return e.Code == codeTransfer || e.Code >= codeHTTP }

// String is the event for people.
func (e Event) String() string {
	what, known := map[int]string{
		EventComplete: "complete", EventDownloadStarted: "download started", EventDownloadFinished: "download finished",
		EventInstalled: "installed",
	}[e.Type]
	if !known {
		what = fmt.Sprintf("event %d", e.Type)
	}
	switch e.Result {
	case ResultError:
		return fmt.Sprintf("%s: failed with code %d", what, e.Code)
	case ResultReboot:
		return what + ", rebooted"
	}
	return what
}

// Answered takes down what a machine was answered.
func (l *Ledger) Answered(m Machine, c Choice) {
	is := l.Machines[m.ID]
	if is == nil {
		return
	}
	is.Reason = c.Reason
	if c.Offer != nil {
		is.Offered = c.Offer.Version
	}
}

// makeRoom forgets a machine if there are too many.
func (l *Ledger) makeRoom() {
	if len(l.Machines) < maxMachines {
		return
	}
	oldest := slices.MinFunc(slices.Collect(maps.Keys(l.Machines)), func(a, b string) int {
		return l.Machines[a].Seen.Compare(l.Machines[b].Seen)
	})
	delete(l.Machines, oldest)
}

// Rollout is how far a version is among the machines of a channel, which begins with the first question for it. in says whether a
// track is of the channel.
func (l *Ledger) Rollout(channel, v string, p release.Policy, in func(track string) bool, now time.Time) release.Rollout {
	key := channel + "/" + v
	if len(l.Began) > maxRollouts {
		clear(l.Began) // of years
	}
	if _, began := l.Began[key]; !began {
		l.Began[key] = now
	}
	r := release.Rollout{Version: v, Began: l.Began[key]}
	for id, e := range l.Machines {
		if !in(e.Track) {
			continue
		}
		if e.Failed != "" && version.Compare(e.Failed, v) == 0 && version.Compare(e.Version, v) < 0 {
			r.Failed++
		}
		if !isCanary(p, labels(id, e.Track, e.OEM)) {
			continue
		}
		r.Canaries++
		if version.Compare(e.Version, v) >= 0 {
			r.Well++
			r.Soaked = later(r.Soaked, e.Since)
		}
	}
	if r.Well < r.Canaries {
		r.Soaked = time.Time{}
	}
	return r
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// labels are what canaries are chosen by.
func labels(id, track, oem string) map[string]string {
	return map[string]string{"id": id, "group": track, "oem": oem}
}

func isCanary(p release.Policy, labels map[string]string) bool {
	for k, v := range p.Canaries {
		if labels[k] != v {
			return false
		}
	}
	return len(p.Canaries) > 0
}
