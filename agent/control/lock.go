package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/cluster/store"
)

// byOperator is how the histories of locks name who ordered it.
const byOperator = "operator"

// OrderLock does one of the verbs of a LockOrder to a group's reboot lock. A holder that has a host's name or ID stands for
// that host: a voter's place is bound to quorum.
func (a *Admin) OrderLock(ctx context.Context, group, verb string, order api.LockOrder) error {
	var err error
	switch verb {
	case api.LockMax:
		err = a.Lock.SetMax(ctx, group, order.Max, byOperator, order.Reason)
	case api.LockHold, api.LockRelease:
		var h store.LockHolder
		if h, err = a.holder(ctx, order.Holder); err != nil {
			break
		}
		if verb == api.LockHold {
			err = a.Lock.Lock(ctx, group, h, byOperator, order.Reason)
			break
		}
		err = a.releaseLock(ctx, group, h, order)
	default:
		return badRequest("use hold, release or max", "there is no verb %q of locks", verb)
	}
	return lockError(group, err)
}

// releaseLock takes a place from who holds it for an operator, or with force from anybody.
func (a *Admin) releaseLock(ctx context.Context, group string, h store.LockHolder, order api.LockOrder) error {
	g, err := a.Store.Get(ctx, store.LockKey(group))
	if err != nil {
		return err
	}
	record := lock.New()
	if g.ModRevision != 0 {
		if record, err = store.Unmarshal[store.LockRecord](g.Value); err != nil {
			return err
		}
	}
	if _, found := lock.Holder(record, h.ID); !found {
		return notFound("see `muster lock status`", "%s does not hold the lock of group %s", order.Holder, group)
	}
	if !order.Force {
		h.Host = "" // whichever host it stands for
		return a.Lock.Unlock(ctx, group, h, byOperator, order.Reason)
	}
	was, err := a.Lock.Force(ctx, group, h.ID, byOperator, order.Reason)
	if err == nil {
		a.Log.Warn("an operator forced the reboot lock", "group", group, "holder", was.ID, "boot", was.Boot, "reason", order.Reason)
	}
	return err
}

// holder is who holds for an operator: under a host's ID, or under any other name.
func (a *Admin) holder(ctx context.Context, name string) (store.LockHolder, error) {
	if !lock.ValidHolder(name) {
		return store.LockHolder{}, badRequest("name a host, or use a word", "no holder can be called %q", name)
	}
	members, err := a.roster(ctx)
	if err != nil {
		return store.LockHolder{}, err
	}
	h := store.LockHolder{ID: name, Kind: store.HolderOperator}
	for _, m := range members { // of several generations the last
		if m.Name == name || m.ID == name {
			h.ID, h.Host = m.ID, m.ID
		}
	}
	return h, nil
}

// SwapLock is locksmith's compare-and-swap, for the host self alone unless that is "".
func (a *Admin) SwapLock(ctx context.Context, group, self string, swap api.LockSwap) error {
	l := &lock.Locksmith{Keeper: a.Lock, Self: self}
	return lockError(group, l.CompareAndSwap(ctx, group, swap.Index, swap.Value))
}

// lockError is what the caller is told.
func lockError(group string, err error) error {
	var refused *lock.Refused
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return api.Errorf(http.StatusConflict, "see `muster lock status`", "the lock of group %s is refused: %s", group, refused.Reason)
	case errors.Is(err, lock.ErrIndex):
		return api.Errorf(http.StatusPreconditionFailed, "read it again", "cannot change the lock of group %s: %v", group, err)
	}
	return fmt.Errorf("cannot change the lock of group %s: %w", group, err)
}
