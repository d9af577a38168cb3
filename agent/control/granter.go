package control

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// votersEvery is how often voters are asked how they are while one of them waits for the reboot lock.
const votersEvery = 2 * time.Second

// grantPace takes together what hosts want at the same time. What comes while the last answer is written is taken together
// anyhow.
var grantPace = store.Pace{Settle: time.Millisecond, Bound: 5 * time.Millisecond}

// grantPrefixes are lock.Prefixes and that on which the alarm is heard.
var grantPrefixes = slices.Concat(lock.Prefixes, []string{store.PrefixOrders})

// Granter is the leader's duty to answer hosts that want the reboot lock or give it back.
type Granter struct {
	Store store.Store
	// Voters asks etcd's voting members how they are (lock.Keeper).
	Voters func(ctx context.Context) ([]lock.Voter, error)
	Now    func() time.Time
	Log    *slog.Logger
}

// Run ends with ctx or when the store refuses for good.
func (g *Granter) Run(ctx context.Context, fence store.Guard) error {
	between := pause.New(longestPause)
	for {
		round := &granterRound{Granter: g, fence: fence, alarm: newAlarm(), made: map[string]int64{}}
		err := store.Follow(ctx, punctual{g.Store, round.alarm}, grantPrefixes, grantPace, func(t *store.Tables) error {
			return round.step(ctx, t)
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrDenied):
			return err
		}
		g.Log.Warn("the reboot lock is read anew", "err", err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

// granterRound is what lasts from one reading of everything to the next.
type granterRound struct {
	*Granter
	fence store.Guard
	alarm alarm
	made  map[string]int64 // by group: the revision of what was written and has not come back yet
}

// step answers, once what was written last has come back. Somebody else's change, which it meets, comes too.
func (r *granterRound) step(ctx context.Context, t *store.Tables) error {
	for group, revision := range r.made {
		if t.Locks[group].Revision < revision {
			return nil
		}
		delete(r.made, group)
	}
	var voters []lock.Voter
	if waits := r.voterWaits(t); waits {
		var err error
		if voters, err = r.Voters(ctx); err != nil {
			r.Log.Warn("no voter may reboot: the voters cannot be asked how they are", "err", err)
		}
		r.alarm.set(r.Now().Add(votersEvery))
	}
	d, made, err := lock.Answer(ctx, r.Store, t, voters, r.fence, r.Now())
	r.made = made
	for _, s := range d.Steps {
		if _, written := made[s.Group]; !written {
			continue
		}
		for _, h := range s.Released {
			r.Log.Info("the reboot lock is given back", "group", s.Group, "holder", h.ID, "boot", h.Boot)
		}
		for _, h := range s.Granted {
			r.Log.Info("the reboot lock is given", "group", s.Group, "holder", h.ID, "boot", h.Boot)
		}
	}
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// voterWaits says whether a voter wants the lock and does not hold it.
func (r *granterRound) voterWaits(t *store.Tables) bool {
	for id, request := range t.Reboots {
		if !request.Record.Wants || !t.Roster[id].Record.Voter {
			continue
		}
		if h, holds := lock.Holder(t.Locks[request.Record.Group].Record, id); !holds || h.Ticket != request.Record.Ticket {
			return true
		}
	}
	return false
}
