package storetest

import (
	"context"
	"errors"

	"github.com/musterhq/muster/cluster/store"
)

var electionCases = map[string]func(*fixture){
	"election has one winner":        electionOneWinner,
	"resignation hands over":         electionResign,
	"expiry hands over":              electionExpiry,
	"fence fails after leadership":   electionFence,
	"session campaigns twice":        electionTwice,
	"cancelled campaign withdraws":   electionCancelled,
	"campaign of a dead session":     electionDeadSession,
	"deposed leader is told":         electionDeposed,
	"elections are independent":      electionsIndependent,
	"third candidate waits its turn": electionThree,
}

// campaign runs in the background; the channel delivers the leadership, or nil when it failed.
func (f *fixture) campaign(ctx context.Context, st store.Store, s store.Session, name string) <-chan store.Leadership {
	won := make(chan store.Leadership, 1)
	go func() {
		l, err := st.Campaign(ctx, f.key("leader/"), name, s)
		if err != nil {
			if ctx.Err() == nil {
				f.Errorf("campaign of %s: %v", name, err)
			}
			won <- nil
			return
		}
		won <- l
	}()
	return won
}

func (f *fixture) win(won <-chan store.Leadership) store.Leadership {
	f.Helper()
	select {
	case l := <-won:
		if l == nil {
			f.Fatal("campaign failed")
		}
		return l
	case <-f.ctx.Done():
		f.Fatal("nobody won")
	}
	panic("unreachable")
}

// lead campaigns without rivals.
func (f *fixture) lead(st store.Store, s store.Session, name string) store.Leadership {
	f.Helper()
	return f.win(f.campaign(f.ctx, st, s, name))
}

// candidates waits until so many are in the election.
func (f *fixture) candidates(n int) {
	f.Helper()
	for {
		view, err := f.st.Range(f.ctx, f.key("leader/"))
		if err != nil {
			f.Fatal(err)
		}
		if len(view.Items) == n {
			return
		}
		f.rest(f.TTL / 100)
	}
}

func electionOneWinner(f *fixture) {
	l := f.lead(f.st, f.session(f.st, f.TTL), "one")
	other := f.open()
	ctx, cancel := context.WithCancel(f.ctx)
	won := f.campaign(ctx, other, f.session(other, f.TTL), "two")
	f.candidates(2)
	select {
	case <-won:
		f.Error("two leaders")
	default:
	}
	if isClosed(l.Done()) {
		f.Error("the leader lost its leadership to a candidate")
	}
	view, err := f.st.Range(f.ctx, f.key("leader/"))
	if err != nil {
		f.Fatal(err)
	}
	for _, item := range view.Items {
		if leads := item.Key == l.Fence().Key; leads != (string(item.Value) == "one") {
			f.Errorf("fence is on %s, candidate %s has %s", l.Fence().Key, item.Value, item.Key)
		}
	}
	cancel()
	<-won
}

func electionResign(f *fixture) {
	first := f.lead(f.st, f.session(f.st, f.TTL), "one")
	other := f.open()
	won := f.campaign(f.ctx, other, f.session(other, f.TTL), "two")
	f.candidates(2)
	if err := first.Resign(f.ctx); err != nil {
		f.Fatal(err)
	}
	if !isClosed(first.Done()) {
		f.Error("leadership is not done after resignation")
	}
	second := f.win(won)
	if err := first.Resign(f.ctx); err != nil {
		f.Errorf("second Resign: %v", err)
	}
	if isClosed(second.Done()) {
		f.Error("resigning twice took another's leadership")
	}
}

func electionExpiry(f *fixture) {
	holder := f.Open(f.T)
	first := f.lead(holder, f.session(holder, f.TTL), "one")
	won := f.campaign(f.ctx, f.st, f.session(f.st, f.TTL), "two")
	f.candidates(2)
	if err := holder.Close(); err != nil {
		f.Fatal(err)
	}
	f.wait(first.Done(), "end of the leadership of a closed client")
	f.win(won)
}

func electionFence(f *fixture) {
	s := f.session(f.st, f.TTL)
	l := f.lead(f.st, s, "one")
	fenced := store.Commit{Guards: []store.Guard{l.Fence()}, Ops: []store.Op{store.Put(f.key("a"), []byte("v"))}}
	f.commit(fenced)
	if err := l.Resign(f.ctx); err != nil {
		f.Fatal(err)
	}
	_, err := f.st.Commit(f.ctx, fenced)
	f.wantConflict(err)
	// Winning again, even with the same session, is another leadership.
	again := f.lead(f.st, s, "one")
	_, err = f.st.Commit(f.ctx, fenced)
	f.wantConflict(err)
	fenced.Guards = []store.Guard{again.Fence()}
	f.commit(fenced)
}

func electionTwice(f *fixture) {
	s := f.session(f.st, f.TTL)
	first, second := f.lead(f.st, s, "one"), f.lead(f.st, s, "one")
	if first.Fence() != second.Fence() {
		f.Errorf("one session leads twice: %+v, %+v", first.Fence(), second.Fence())
	}
}

func electionCancelled(f *fixture) {
	f.lead(f.st, f.session(f.st, f.TTL), "one")
	other := f.open()
	ctx, cancel := context.WithCancel(f.ctx)
	won := f.campaign(ctx, other, f.session(other, f.TTL), "two")
	f.candidates(2)
	cancel()
	if l := <-won; l != nil {
		f.Error("a cancelled campaign won")
	}
	f.candidates(1)
}

func electionDeadSession(f *fixture) {
	s := f.session(f.st, f.TTL)
	if err := s.Revoke(f.ctx); err != nil {
		f.Fatal(err)
	}
	if _, err := f.st.Campaign(f.ctx, f.key("leader/"), "one", s); !errors.Is(err, store.ErrSessionLost) {
		f.Errorf("campaign of a dead session: %v", err)
	}
}

func electionDeposed(f *fixture) {
	l := f.lead(f.st, f.session(f.st, f.TTL), "one")
	if _, err := f.open().Commit(f.ctx, store.Commit{Ops: []store.Op{store.Delete(l.Fence().Key)}}); err != nil {
		f.Fatal(err)
	}
	f.wait(l.Done(), "end of the leadership")
}

func electionsIndependent(f *fixture) {
	s := f.session(f.st, f.TTL)
	f.lead(f.st, s, "one")
	if _, err := f.st.Campaign(f.ctx, f.key("another/"), "one", s); err != nil {
		f.Error(err)
	}
}

func electionThree(f *fixture) {
	first := f.lead(f.st, f.session(f.st, f.TTL), "one")
	ctx, cancel := context.WithCancel(f.ctx)
	second := f.campaign(ctx, f.st, f.session(f.st, f.TTL), "two")
	f.candidates(2)
	third := f.campaign(f.ctx, f.st, f.session(f.st, f.TTL), "three")
	f.candidates(3)
	// The second gives up while both wait: the third must not take that for its turn.
	cancel()
	<-second
	f.candidates(2)
	select {
	case <-third:
		f.Error("two leaders")
	default:
	}
	if isClosed(first.Done()) {
		f.Error("the leader lost its leadership to a candidate's withdrawal")
	}
	if err := first.Resign(f.ctx); err != nil {
		f.Fatal(err)
	}
	f.win(third)
}
