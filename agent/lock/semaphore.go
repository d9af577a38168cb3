package lock

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// DefaultGroup is the group of hosts and clients that name none.
const DefaultGroup = "default"

// DefaultMax is the maximum of a group that nobody has given one.
const DefaultMax = 1

var (
	groupPattern  = regexp.MustCompile(`^[A-Za-z0-9._+%-]{1,64}$`)
	holderPattern = regexp.MustCompile(`^[\x21-\x7e]{1,128}$`)
)

// ValidGroup reports whether a group may have this name: what FleetLock takes, and what locksmith makes of any name when
// it escapes it.
func ValidGroup(name string) bool { return groupPattern.MatchString(name) }

// ValidHolder reports whether a holder may call itself so: up to 128 printable characters of ASCII, without spaces.
func ValidHolder(id string) bool { return holderPattern.MatchString(id) }

// Refused is why a change was not made. It is for people.
type Refused struct{ Reason string }

func (r *Refused) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &Refused{Reason: fmt.Sprintf(format, args...)} }

// Word is who makes a change, when, and why, for the history.
type Word struct {
	At     time.Time
	By     string // "host", "operator", "FleetLock", ...
	Reason string
}

// What happened, in LockEvent.What.
const (
	Granted  = "granted"
	Released = "released"
	Forced   = "forced"
	MaxSet   = "max"
)

// New is the lock of a group that nobody has used yet.
func New() store.LockRecord { return store.LockRecord{Max: DefaultMax} }

// Holder finds who holds under an ID.
func Holder(g store.LockRecord, id string) (store.LockHolder, bool) {
	i, found := find(g, id)
	if !found {
		return store.LockHolder{}, false
	}
	return g.Holders[i], true
}

func find(g store.LockRecord, id string) (int, bool) {
	return slices.BinarySearchFunc(g.Holders, id, func(h store.LockHolder, id string) int { return cmp.Compare(h.ID, id) })
}

// Acquire gives h a place. A holder that already has one of the same kind, boot and ticket keeps it, and nothing changes.
// Another one under the same ID, and a semaphore without a free place, is Refused.
func Acquire(g store.LockRecord, h store.LockHolder, w Word) (after store.LockRecord, changed bool, err error) {
	i, found := find(g, h.ID)
	switch {
	case found && same(g.Holders[i], h):
		return g, false, nil
	case found:
		return g, false, refuse("%s holds it already: %s since %s", h.ID, held(g.Holders[i]), g.Holders[i].Since.Format(time.RFC3339))
	case len(g.Holders) >= g.Max:
		return g, false, refuse("%s", full(g))
	}
	h.Since, h.Reason = w.At, w.Reason
	g.Holders = slices.Insert(slices.Clone(g.Holders), i, h)
	return noted(g, Granted, h, w), true, nil
}

func same(a, b store.LockHolder) bool {
	return a.Kind == b.Kind && a.Boot == b.Boot && a.Ticket == b.Ticket && a.Host == b.Host
}

// held says in a word by which way a holder came to the lock.
func held(h store.LockHolder) string {
	if h.Boot != "" {
		return "as " + string(h.Kind) + " in boot " + h.Boot
	}
	return "as " + string(h.Kind)
}

func full(g store.LockRecord) string {
	if g.Max == 0 {
		return "the maximum is 0: nobody may begin"
	}
	names := make([]string, len(g.Holders))
	for i, h := range g.Holders {
		names[i] = h.ID
	}
	if len(names) > 3 {
		names = append(names[:3], "...")
	}
	return fmt.Sprintf("%d of %d places are held, by %s", len(g.Holders), g.Max, strings.Join(names, ", "))
}

// Release takes the place of who holds under the ID of h, in the same way and, unless h names no host, for the same one.
// Who holds nothing has released it already. One that holds otherwise is Refused.
func Release(g store.LockRecord, h store.LockHolder, w Word) (after store.LockRecord, changed bool, err error) {
	i, found := find(g, h.ID)
	if !found {
		return g, false, nil
	}
	switch was := g.Holders[i]; {
	case was.Kind != h.Kind:
		return g, false, refuse("%s holds it %s", h.ID, held(was))
	case h.Host != "" && was.Host != h.Host:
		return g, false, refuse("%s holds it for another host", h.ID)
	}
	return without(g, i, Released, w), true, nil
}

// Force takes the place of who holds under an ID, in whichever way.
func Force(g store.LockRecord, id string, w Word) (after store.LockRecord, changed bool) {
	i, found := find(g, id)
	if !found {
		return g, false
	}
	return without(g, i, Forced, w), true
}

func without(g store.LockRecord, i int, what string, w Word) store.LockRecord {
	h := g.Holders[i]
	g.Holders = slices.Delete(slices.Clone(g.Holders), i, i+1)
	return noted(g, what, h, w)
}

// SetMax changes the maximum. Those who hold go on holding, if there are more of them than that.
func SetMax(g store.LockRecord, most int, w Word) (after store.LockRecord, changed bool, err error) {
	if most < 0 {
		return g, false, refuse("the maximum cannot be %d", most)
	}
	if g.Max == most {
		return g, false, nil
	}
	w.Reason = strings.TrimSpace(fmt.Sprintf("from %d to %d %s", g.Max, most, w.Reason))
	g.Max = most
	return noted(g, MaxSet, store.LockHolder{}, w), true, nil
}

// noted adds an event to the history and drops the oldest ones.
func noted(g store.LockRecord, what string, h store.LockHolder, w Word) store.LockRecord {
	old := g.History[max(0, len(g.History)-store.LockHistory+1):]
	g.History = append(slices.Clone(old), store.LockEvent{
		At: w.At, What: what, ID: h.ID, Boot: h.Boot, By: w.By, Reason: w.Reason,
	})
	return g
}
