package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// Keeper changes locks for those who are no hosts of their own: clients of FleetLock and locksmith, and operators. It is
// for voters, since it writes records that hosts may not. Every method may be repeated after an error.
type Keeper struct {
	Store store.Store
	// Voters asks etcd's voting members how they are: Host, Healthy and Leader of each.
	Voters func(ctx context.Context) ([]Voter, error)
	Now    func() time.Time
}

// attempts is how often a change is decided anew that met another one.
const attempts = 20

// Lock gives h a place in a group, or returns a *Refused. Hosts that wait come first.
func (k *Keeper) Lock(ctx context.Context, group string, h store.LockHolder, by, reason string) error {
	if !ValidGroup(group) || !ValidHolder(h.ID) {
		return refuse("a group has up to 64 of A-Z a-z 0-9 . _ + %% -, and a holder up to 128 characters without spaces")
	}
	return k.change(ctx, group, func(t *store.Tables, g store.LockRecord, w Word) (Step, bool, error) {
		w.By, w.Reason = by, reason
		after, changed, err := Acquire(g, h, w)
		if err != nil || !changed {
			return Step{}, false, err
		}
		step := Step{Record: after, Granted: []store.LockHolder{h}}
		voter, err := k.mayGo(ctx, t, group, h)
		step.Voter = voter
		return step, err == nil, err
	})
}

// mayGo refuses a holder that would overtake others or cost quorum. It returns the host of h if it is a voter's.
func (k *Keeper) mayGo(ctx context.Context, t *store.Tables, group string, h store.LockHolder) (voter string, err error) {
	var voters []Voter
	if t.Roster[h.Host].Record.Voter {
		if voters, err = k.Voters(ctx); err != nil {
			return "", err
		}
		voter = h.Host
	}
	v := ViewOf(t, voters, k.Now())
	for _, s := range Decide(v, batch).Steps {
		if n := len(s.Granted); s.Group == group && n > 0 {
			return "", refuse("%d hosts that waited before get it first", n)
		}
	}
	if voter == "" {
		return "", nil
	}
	d := &decider{View: v}
	if why := v.mayStop(voter, out(v.Groups), d.waiting()); why != "" {
		return "", refuse("%s", why)
	}
	return voter, nil
}

// Unlock takes the place of h, of which ID, Kind and, unless it is "", Host are compared. Who holds nothing has given it back
// already.
func (k *Keeper) Unlock(ctx context.Context, group string, h store.LockHolder, by, reason string) error {
	return k.change(ctx, group, func(_ *store.Tables, g store.LockRecord, w Word) (Step, bool, error) {
		was, _ := Holder(g, h.ID)
		w.By, w.Reason = by, reason
		after, changed, err := Release(g, h, w)
		return Step{Record: after, Released: []store.LockHolder{was}}, changed, err
	})
}

// Force takes the place of a holder whatever it does meanwhile. It returns who held.
func (k *Keeper) Force(ctx context.Context, group, id, by, reason string) (was store.LockHolder, err error) {
	err = k.change(ctx, group, func(_ *store.Tables, g store.LockRecord, w Word) (Step, bool, error) {
		w.By, w.Reason = by, reason
		was, _ = Holder(g, id)
		after, changed := Force(g, id, w)
		return Step{Record: after, Released: []store.LockHolder{was}}, changed, nil
	})
	return was, err
}

// SetMax changes how many may hold the lock of a group, and so makes the group if there is none.
func (k *Keeper) SetMax(ctx context.Context, group string, most int, by, reason string) error {
	if !ValidGroup(group) {
		return refuse("a group has up to 64 of A-Z a-z 0-9 . _ + %% -")
	}
	return k.change(ctx, group, func(t *store.Tables, g store.LockRecord, w Word) (Step, bool, error) {
		w.By, w.Reason = by, reason
		after, changed, err := SetMax(g, most, w)
		_, known := t.Locks[group]
		return Step{Record: after}, (changed || !known) && err == nil, err
	})
}

// change reads, decides and commits, until it has met no other change.
func (k *Keeper) change(
	ctx context.Context, group string, decide func(*store.Tables, store.LockRecord, Word) (Step, bool, error),
) error {
	for n := 1; ; n++ {
		err := k.changeOnce(ctx, group, decide)
		if !errors.Is(err, store.ErrConflict) || n == attempts {
			return err
		}
	}
}

func (k *Keeper) changeOnce(
	ctx context.Context, group string, decide func(*store.Tables, store.LockRecord, Word) (Step, bool, error),
) error {
	t, err := Load(ctx, k.Store)
	if err == nil {
		err = unreadable(t)
	}
	if err != nil {
		return err
	}
	g := New()
	if entry, known := t.Locks[group]; known {
		g = entry.Record
	}
	step, changed, err := decide(t, g, Word{At: k.Now().UTC()})
	if err != nil || !changed {
		return err
	}
	step.Group = group
	c, err := commitOf(t, step, k.Now())
	if err != nil {
		return err
	}
	if _, err := k.Store.Commit(ctx, c); err != nil {
		return fmt.Errorf("cannot change the reboot lock of group %s: %w", group, err)
	}
	return nil
}
