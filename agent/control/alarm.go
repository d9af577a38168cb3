package control

import (
	"context"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// alarm is the moment at which what was decided has to be decided again, although no record changes. Only the last one
// that was set counts.
type alarm chan time.Time

func newAlarm() alarm { return make(alarm, 1) }

// set takes the place of any moment set before. The zero time is none. One goroutine at a time may call it.
func (a alarm) set(at time.Time) {
	select {
	case <-a:
	default:
	}
	a <- at
}

// punctual is a store whose watch of orders also tells, by a change without events, that the alarm's moment has come.
type punctual struct {
	store.Store
	alarm alarm
}

func (p punctual) Watch(ctx context.Context, prefix string, after int64) <-chan store.Change {
	changes := p.Store.Watch(ctx, prefix, after)
	if prefix != store.PrefixOrders {
		return changes
	}
	return retold(ctx, changes, p.alarm.tell)
}

func (a alarm) tell(ctx context.Context, changes <-chan store.Change, told chan<- store.Change) {
	due := time.NewTimer(0)
	defer due.Stop()
	due.Stop()
	for {
		var change store.Change
		select {
		case <-ctx.Done():
			return
		case at := <-a:
			if due.Stop(); !at.IsZero() {
				due.Reset(time.Until(at))
			}
			continue
		case <-due.C:
		case c, ok := <-changes:
			if !ok {
				return
			}
			change = c
		}
		select {
		case told <- change:
		case <-ctx.Done():
			return
		}
	}
}
