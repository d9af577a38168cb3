package control

import (
	"context"
	"slices"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// Doubt is the last part of a host's lease: its session has ended, and the scheduler still waits for another one. The
// store may end a session by mistake: an etcd leader that was frozen finds, when it wakes up, that all leases have ended,
// and may revoke some that were kept alive elsewhere before it learns that it leads no more. A host that lives has begun
// another session within moments, and its units stay.
const Doubt = time.Second

// SessionTTL is how long a host's session outlives its last sign of life, so that with Doubt it makes up the lease.
func SessionTTL(lease time.Duration) time.Duration { return max(lease-Doubt, time.Second) }

// doubting is a store whose watch of living hosts tells of an end only after Doubt, and not at all if the host is back
// by then.
type doubting struct{ store.Store }

func (d doubting) Watch(ctx context.Context, prefix string, after int64) <-chan store.Change {
	changes := d.Store.Watch(ctx, prefix, after)
	if prefix != store.PrefixAlive {
		return changes
	}
	return retold(ctx, changes, doubts(nil).tell)
}

// retold is what tell makes of the changes of a watch. tell returns when ctx or the changes end.
func retold(
	ctx context.Context, changes <-chan store.Change, tell func(context.Context, <-chan store.Change, chan<- store.Change),
) <-chan store.Change {
	told := make(chan store.Change)
	go func() {
		defer close(told)
		tell(ctx, changes, told)
	}()
	return told
}

// doubts holds the ends of sessions in the order in which they came. All are held for the same time.
type doubts []doubt

// doubt is the end of one host's session that is not told yet.
type doubt struct {
	event    store.Event
	revision int64
	due      time.Time
}

func (d doubts) tell(ctx context.Context, changes <-chan store.Change, told chan<- store.Change) {
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		var change store.Change
		select {
		case <-ctx.Done():
			return
		case <-due.C:
			d, change = d.overdue(time.Now())
		case c, ok := <-changes:
			if !ok {
				return
			}
			d, change = d.hold(c, time.Now().Add(Doubt))
		}
		if len(d) > 0 {
			due.Reset(time.Until(d[0].due))
		}
		if len(change.Events) == 0 && change.Err == nil {
			continue
		}
		select {
		case told <- change:
		case <-ctx.Done():
			return
		}
	}
}

// hold takes the ends of sessions out of a change and keeps them until due. A host that is back is not doubted any more.
func (d doubts) hold(c store.Change, due time.Time) (doubts, store.Change) {
	passed := store.Change{Revision: c.Revision, Err: c.Err}
	for _, e := range c.Events {
		d = slices.DeleteFunc(d, func(each doubt) bool { return each.event.Key == e.Key })
		if e.Deleted {
			d = append(d, doubt{event: e, revision: c.Revision, due: due})
		} else {
			passed.Events = append(passed.Events, e)
		}
	}
	return d, passed
}

// overdue takes out what was held for long enough.
func (d doubts) overdue(now time.Time) (doubts, store.Change) {
	var told store.Change
	for len(d) > 0 && !d[0].due.After(now) {
		told.Revision = d[0].revision
		told.Events = append(told.Events, d[0].event)
		d = d[1:]
	}
	return d, told
}
