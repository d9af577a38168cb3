package lock

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/musterhq/muster/cluster/store"
)

// Semaphore is a group's lock as locksmith wrote it (COMPAT: locksmith): how many places are free, negative when the
// maximum was lowered below the holders, the maximum, and the holders, sorted, null for none.
type Semaphore struct {
	Semaphore int      `json:"semaphore"`
	Max       int      `json:"max"`
	Holders   []string `json:"holders"`
}

// SemaphoreOf is a lock as locksmith writes it.
func SemaphoreOf(g store.LockRecord) string {
	s := Semaphore{Semaphore: g.Max - len(g.Holders), Max: g.Max}
	for _, h := range g.Holders {
		s.Holders = append(s.Holders, h.ID)
	}
	data, _ := json.Marshal(s) // numbers and texts
	return string(data)
}

// ErrIndex says that a group's lock is not as of the index that was given.
var ErrIndex = errors.New("the lock has changed in between")

// Locksmith is the lock as locksmithctl reads and writes it, by compare-and-swap.
type Locksmith struct {
	Keeper *Keeper
	// Self, unless it is "", is the ID of the host whose place alone may be taken and given back, and that makes no group but
	// the default one and changes no maximum.
	Self string
}

// Semaphore reads the lock of a group and its index, 0 for a group that nobody has used yet.
func (l *Locksmith) Semaphore(ctx context.Context, group string) (value string, index int64, err error) {
	item, err := l.Keeper.Store.Get(ctx, store.LockKey(group))
	if err != nil || item.ModRevision == 0 {
		return SemaphoreOf(New()), 0, err
	}
	g, err := store.Unmarshal[store.LockRecord](item.Value)
	return SemaphoreOf(g), item.ModRevision, err
}

// CompareAndSwap makes the lock of a group what value says, if it is as of index; else it is ErrIndex. From one value to the
// next one holder comes, one goes, or the maximum changes, as locksmithctl does it; anything else is Refused, and so is what
// hosts that wait, or the voters, do not allow. Of the holders that came in another way only an operator can dispose.
func (l *Locksmith) CompareAndSwap(ctx context.Context, group string, index int64, value string) error {
	var want Semaphore
	if json.Unmarshal([]byte(value), &want) != nil || want.Semaphore != want.Max-len(want.Holders) {
		return refuse("this is not a semaphore: %.100s", value)
	}
	if !ValidGroup(group) {
		return refuse("no group can be called %q", group)
	}
	err := l.Keeper.changeOnce(ctx, group, func(t *store.Tables, g store.LockRecord, w Word) (Step, bool, error) {
		if t.Locks[group].Revision != index {
			return Step{}, false, ErrIndex
		}
		w.By, w.Reason = "locksmithctl", "locksmithctl"
		return l.swap(ctx, t, group, g, want, w)
	})
	if errors.Is(err, store.ErrConflict) {
		return ErrIndex
	}
	return err
}

func (l *Locksmith) swap(
	ctx context.Context, t *store.Tables, group string, g store.LockRecord, want Semaphore, w Word,
) (Step, bool, error) {
	var came, went []string
	for _, id := range want.Holders {
		if _, found := find(g, id); !found {
			came = append(came, id)
		}
	}
	for _, h := range g.Holders {
		if !slices.Contains(want.Holders, h.ID) {
			went = append(went, h.ID)
		}
	}
	others := slices.ContainsFunc(slices.Concat(came, went), func(id string) bool { return id != l.Self })
	_, known := t.Locks[group]
	switch {
	case l.Self != "" && (others || want.Max != g.Max):
		return Step{}, false, refuse("a host changes its own place alone; ask an operator")
	case l.Self != "" && !known && group != DefaultGroup:
		return Step{}, false, refuse("there is no such group: `muster lock max N --group NAME` makes it")
	case len(came)+len(went) == 0 && want.Max == g.Max:
		return Step{Record: g}, !known, nil
	case len(came)+len(went) == 0:
		after, changed, err := SetMax(g, want.Max, w)
		return Step{Record: after}, changed && err == nil, err
	case len(came)+len(went) > 1 || want.Max != g.Max:
		return Step{}, false, refuse("one thing at a time: a holder comes, or goes, or the maximum changes")
	case len(went) == 1:
		h := store.LockHolder{ID: went[0], Kind: store.HolderLocksmith}
		was, _ := Holder(g, h.ID)
		after, changed, err := Release(g, h, w)
		return Step{Record: after, Released: []store.LockHolder{was}}, changed, err
	}
	return l.come(ctx, t, group, g, came[0], w)
}

func (l *Locksmith) come(
	ctx context.Context, t *store.Tables, group string, g store.LockRecord, id string, w Word,
) (Step, bool, error) {
	h := store.LockHolder{ID: id, Kind: store.HolderLocksmith}
	if _, member := t.Roster[id]; member {
		h.Host = id
	}
	if !ValidHolder(id) {
		return Step{}, false, refuse("no holder can be called %q", id)
	}
	after, changed, err := Acquire(g, h, w)
	if err != nil || !changed {
		return Step{}, false, err
	}
	voter, err := l.Keeper.mayGo(ctx, t, group, h)
	return Step{Record: after, Granted: []store.LockHolder{h}, Voter: voter}, err == nil, err
}
