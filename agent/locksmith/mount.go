// Package locksmith shows the reboot lock where locksmithctl looks for it among etcd's keys of version 2, and takes its
// compare-and-swaps (COMPAT: locksmith): coreos.com/updateengine/rebootlock/semaphore is the group default, and
// .../rebootlock/groups/NAME/semaphore the group NAME, escaped as in a query.
//
// What is written is not a value but a wish: the lock changes as agent/lock allows, so a voter is let go only when quorum
// allows it, and what hosts hold on their own account locksmithctl cannot take from them.
package locksmith

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/cluster/store"
)

// Root is where a Mount is to be mounted (keysapi.Config.Mounts).
const Root = "/coreos.com/updateengine/rebootlock"

// Locks is the lock as locksmith sees it: a *lock.Locksmith on voters, a *Remote on other hosts.
type Locks interface {
	// Semaphore reads the lock of a group and its index, 0 for a group that nobody has used yet.
	Semaphore(ctx context.Context, group string) (value string, index int64, err error)
	// CompareAndSwap makes it what value says if it is as of index. Errors are lock.ErrIndex, *lock.Refused and the store's.
	CompareAndSwap(ctx context.Context, group string, index int64, value string) error
}

// Mount is a keysapi.Mount.
type Mount struct{ Locks Locks }

// groupOf is the group whose semaphore is at a key.
func groupOf(key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, Root+"/")
	if rest == "semaphore" {
		return lock.DefaultGroup, ok
	}
	name, ok := strings.CutPrefix(rest, "groups/")
	name, last := strings.CutSuffix(name, "/semaphore")
	return name, ok && last && lock.ValidGroup(name)
}

// Get reads a semaphore. There are no directories here.
func (m *Mount) Get(ctx context.Context, r keys.Read) (keys.Event, error) {
	group, ok := groupOf(r.Key)
	if !ok {
		return keys.Event{}, &keys.Error{Code: keys.CodeKeyNotFound, Cause: r.Key, Index: 1}
	}
	value, index, err := m.Locks.Semaphore(ctx, group)
	if err != nil {
		return keys.Event{}, failure(err, index)
	}
	if index == 0 {
		return keys.Event{}, &keys.Error{Code: keys.CodeKeyNotFound, Cause: r.Key, Index: 1}
	}
	return event(keys.ActionGet, r.Key, value, index), nil
}

// Do makes a semaphore (prevExist=false) or swaps it (prevIndex=N), as locksmithctl does. Nothing else is done.
func (m *Mount) Do(ctx context.Context, w keys.Write) (keys.Event, error) {
	group, ok := groupOf(w.Key)
	if !ok || w.Kind != keys.Put || w.Dir || w.TTL != nil || w.PrevValue != "" {
		return keys.Event{}, &keys.Error{Code: keys.CodeUnauthorized, Cause: "use `locksmithctl` or `muster lock` for " + w.Key, Index: 1}
	}
	value, index, err := m.Locks.Semaphore(ctx, group)
	if err != nil {
		return keys.Event{}, failure(err, index)
	}
	action := keys.ActionCompareAndSwap
	switch {
	case w.PrevExist != nil && !*w.PrevExist:
		if action = keys.ActionCreate; index != 0 {
			return keys.Event{}, &keys.Error{Code: keys.CodeExists, Cause: w.Key, Index: index}
		}
	case index == 0:
		return keys.Event{}, &keys.Error{Code: keys.CodeKeyNotFound, Cause: w.Key, Index: 1}
	case w.PrevIndex == 0:
		return keys.Event{}, &keys.Error{Code: keys.CodeUnauthorized, Cause: "a semaphore is compared and swapped: give prevIndex", Index: index}
	case w.PrevIndex != uint64(index):
		return keys.Event{}, &keys.Error{Code: keys.CodeCompare, Cause: fmt.Sprintf("[%d != %d]", w.PrevIndex, index), Index: index}
	}
	if err := m.Locks.CompareAndSwap(ctx, group, index, w.Value); err != nil {
		return keys.Event{}, failure(err, index)
	}
	now, after, err := m.Locks.Semaphore(ctx, group)
	if err != nil {
		return keys.Event{}, failure(err, index)
	}
	e := event(action, w.Key, now, after)
	if action == keys.ActionCompareAndSwap {
		e.PrevNode = event(action, w.Key, value, index).Node
	}
	return e, nil
}

func event(action, key, value string, index int64) keys.Event {
	return keys.Event{Action: action, Node: &keys.Node{Key: key, Value: value, Created: index, Modified: index}, Index: index}
}

// failure is an error as clients of version 2 know it. What was changed in between locksmithctl reads again; what is refused
// it tells.
func failure(err error, index int64) *keys.Error {
	var refused *lock.Refused
	e := &keys.Error{Code: keys.CodeRaft, Cause: err.Error(), Index: max(index, 1)}
	switch {
	case errors.Is(err, lock.ErrIndex):
		e.Code = keys.CodeCompare
	case errors.As(err, &refused):
		e.Code = keys.CodeUnauthorized
	}
	return e
}

// Remote is the lock as hosts see it that do not vote: they read the store, and ask voters for changes.
type Remote struct {
	Store store.Store
	// Swap asks a voter, in the host's own name (api.Client.SwapLock).
	Swap func(ctx context.Context, group string, swap api.LockSwap) error
}

// Semaphore implements Locks.
func (r *Remote) Semaphore(ctx context.Context, group string) (value string, index int64, err error) {
	return (&lock.Locksmith{Keeper: &lock.Keeper{Store: r.Store}}).Semaphore(ctx, group)
}

// CompareAndSwap implements Locks.
func (r *Remote) CompareAndSwap(ctx context.Context, group string, index int64, value string) error {
	err := r.Swap(ctx, group, api.LockSwap{Index: index, Value: value})
	var e *api.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Status {
	case http.StatusPreconditionFailed:
		return lock.ErrIndex
	case http.StatusConflict, http.StatusForbidden:
		return &lock.Refused{Reason: e.Message}
	}
	return err
}
