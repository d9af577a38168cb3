package release

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/version"
	"github.com/musterhq/muster/cluster/window"
)

// Policy is how a group of hosts takes releases. It is pure: what it decides follows from the policy, the host, the rollout and
// the time that it is given.
type Policy struct {
	Channel  string            `json:"channel"`            // one of Channels
	Canaries map[string]string `json:"canaries,omitempty"` // labels: hosts that have all of them go first
	Soak     time.Duration     `json:"soak,omitempty"`     // how long all canaries have had it before others follow
	PerHour  int               `json:"per_hour,omitempty"` // percent of the other hosts that may begin in an hour; 0 is all
	Windows  []window.Window   `json:"windows,omitempty"`  // none is always
	Paused   bool              `json:"paused,omitempty"`
	Pin      string            `json:"pin,omitempty"`    // the one version that is taken; empty is any
	Budget   int               `json:"budget,omitempty"` // failed hosts that are borne; 0 stops at the first
}

// Candidate is the host that a decision is about.
type Candidate struct {
	ID      string
	Labels  map[string]string
	Version string // that it runs
}

// Rollout is how far a release is.
type Rollout struct {
	Version  string
	Began    time.Time // when it was first seen in the channel
	Canaries int       // hosts with the canaries' labels
	Well     int       // of these, hosts that run it and are well
	Soaked   time.Time // when the last of these became so; zero as long as not all are
	Failed   int       // hosts that tried it and fell back, or were lost with it
}

// Check tells what is wrong with a policy.
func (p Policy) Check() error {
	switch {
	case p.Channel != "" && !slices.Contains(Channels, p.Channel):
		return fmt.Errorf("there is no channel %q: choose alpha, beta or stable", p.Channel)
	case p.PerHour < 0 || p.PerHour > 100:
		return fmt.Errorf("%d is no percentage: choose 1 to 100, or 0 for all hosts at once", p.PerHour)
	case p.Budget < 0:
		return errors.New("the budget of failures is below 0; 0 stops at the first")
	case p.Soak < 0:
		return errors.New("the canaries' time is below 0")
	case p.Pin != "" && !version.Valid(p.Pin):
		return fmt.Errorf("%q is no version to pin", p.Pin)
	}
	for _, w := range p.Windows {
		if err := w.Check(); err != nil {
			return fmt.Errorf("the window %s: %w", w, err)
		}
	}
	return nil
}

// Admits tells whether a host may begin to take a rollout's release now, and why, for people. If time alone will change a no, next
// is when to ask again; it is zero where an operator, or other hosts, must do something. With a yes it is when that may end, zero if never.
func (p Policy) Admits(h Candidate, now time.Time, r Rollout) (ok bool, reason string, next time.Time) {
	switch err := p.Check(); {
	case err != nil:
		return false, "the policy cannot be followed: " + err.Error(), time.Time{}
	case p.Paused:
		return false, "updates are paused; `muster update resume` goes on", time.Time{}
	case p.Pin != "" && version.Compare(p.Pin, r.Version) != 0:
		return false, fmt.Sprintf("updates are pinned to %s", p.Pin), time.Time{}
	case version.Compare(h.Version, r.Version) == 0:
		return false, "it runs " + r.Version, time.Time{}
	case version.Compare(h.Version, r.Version) > 0:
		return false, fmt.Sprintf("it runs %s, which is newer than %s", h.Version, r.Version), time.Time{}
	case r.Failed > p.Budget:
		return false, fmt.Sprintf("the rollout of %s stopped: it failed on %s, and %d are borne", r.Version, hosts(r.Failed), p.Budget), time.Time{}
	}
	turn, why, soon := p.turn(h, r)
	if !turn {
		return false, why, time.Time{}
	}
	open, until, why2 := p.window(now)
	switch {
	case soon.After(now):
		return false, fmt.Sprintf("%s %s", why, soon.UTC().Format(time.RFC3339)), p.opens(soon)
	case !open:
		return false, why2, until
	}
	return true, "it may update to " + r.Version, until
}

// turn tells whether a host's turn comes by itself, from when on, and what it waits for.
func (p Policy) turn(h Candidate, r Rollout) (comes bool, why string, from time.Time) {
	if len(p.Canaries) > 0 && r.Canaries > 0 {
		if p.Canary(h.Labels) {
			return true, "", time.Time{}
		}
		if r.Well < r.Canaries || r.Soaked.IsZero() {
			return false, fmt.Sprintf("canaries go first: %d of %d are well", r.Well, r.Canaries), time.Time{}
		}
		r.Began = r.Soaked.Add(p.Soak)
		why = "canaries go first; others follow from"
	}
	slot := p.slot(h.ID, r.Version)
	if slot > 0 && r.Began.IsZero() {
		return false, "the rollout has not begun", time.Time{}
	}
	if slot > 0 {
		why = fmt.Sprintf("%d percent of the hosts begin each hour; its turn is from", p.PerHour)
	}
	if why == "" {
		return true, "", time.Time{}
	}
	return true, why, r.Began.Add(slot)
}

// Canary reports whether a host with these labels goes first. Without labels of canaries no host does.
func (p Policy) Canary(labels map[string]string) bool {
	for k, v := range p.Canaries {
		if got, has := labels[k]; !has || got != v {
			return false
		}
	}
	return len(p.Canaries) > 0
}

// slot is how long after a rollout's beginning a host's turn comes. It follows from host and version, so that every host knows
// its own, and so that not always the same go first.
func (p Policy) slot(id, release string) time.Duration {
	if p.PerHour == 0 || p.PerHour == 100 {
		return 0
	}
	sum := sha256.Sum256([]byte(release + "\x00" + id))
	part := float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53) // [0, 1)
	return time.Duration(part * 100 / float64(p.PerHour) * float64(time.Hour))
}

// window tells whether a window is open, and until when; or when the next opens.
func (p Policy) window(now time.Time) (open bool, next time.Time, why string) {
	for _, w := range p.Windows {
		isOpen, at := w.State(now) // Check told of what is wrong
		switch {
		case isOpen && (!open || at.After(next)):
			open, next = true, at
		case !isOpen && !open && !at.IsZero() && (next.IsZero() || at.Before(next)):
			next = at
		}
	}
	if len(p.Windows) == 0 {
		return true, time.Time{}, ""
	}
	return open, next, "no window is open; the next opens " + next.UTC().Format(time.RFC3339)
}

// opens is the first moment from a time on at which a window is open.
func (p Policy) opens(from time.Time) time.Time {
	if open, next, _ := p.window(from); !open {
		return next
	}
	return from
}

func hosts(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}
