package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// resignTimeout bounds how long a candidate that gives up tries to take its key back; if it cannot, its session's end
// does.
const resignTimeout = 2 * time.Second

// Elect is how stores implement Campaign: it holds an election with nothing but commits and watches, so that it is the same
// over every store. Each candidate puts a key bound to its session; the key that was made first leads. Comparing creation revisions in a guard
// is what fences: the key of a former leader, made again, has another one.
func Elect(ctx context.Context, st Store, election, candidate string, s Session) (Leadership, error) {
	l := &leadership{store: st, session: s, key: fmt.Sprintf("%s%016x", election, uint64(s.ID()))}
	if err := l.enter(ctx, candidate); err != nil {
		if ctx.Err() != nil || unsure(err) { // the key may have been made all the same
			l.withdraw(ctx)
		}
		return nil, fmt.Errorf("cannot campaign for %s: %w", election, err)
	}
	after, err := l.await(ctx, election)
	if err != nil {
		l.withdraw(ctx)
		return nil, fmt.Errorf("cannot campaign for %s: %w", election, err)
	}
	l.start(ctx, after)
	return l, nil
}

type leadership struct {
	store    Store
	session  Session
	key      string
	revision int64 // in which key was created

	cancel context.CancelFunc
	done   chan struct{}
	wg     sync.WaitGroup
}

// enter puts the candidate's key, or finds it when the session is already a candidate.
func (l *leadership) enter(ctx context.Context, candidate string) error {
	put := Op{Key: l.key, Value: []byte(candidate), Session: l.session.ID()}
	for {
		rev, err := l.store.Commit(ctx, Commit{
			Guards: []Guard{{Key: l.key, Kind: GuardCreateRevision, Revision: 0}},
			Ops:    []Op{put},
		})
		if err == nil {
			l.revision = rev
			return nil
		}
		if !errors.Is(err, ErrConflict) && !unsure(err) {
			return err
		}
		item, getErr := l.store.Get(ctx, l.key)
		if getErr != nil {
			return getErr
		}
		if item.ModRevision != 0 {
			l.revision = item.CreateRevision
			return nil
		}
		if unsure(err) {
			return err
		}
	}
}

// unsure reports whether what failed may have been written all the same.
func unsure(err error) bool { return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrFull) }

// await returns when no earlier candidate is left, with the revision at which that was true.
func (l *leadership) await(ctx context.Context, election string) (int64, error) {
	for {
		view, err := l.store.Range(ctx, election)
		if err != nil {
			return 0, err
		}
		mine, earlier := l.standing(view)
		switch {
		case !mine:
			return 0, fmt.Errorf("candidacy is gone: %w", ErrSessionLost)
		case !earlier:
			return view.Revision, nil
		}
		if err := l.waitDelete(ctx, election, view.Revision); err != nil {
			return 0, err
		}
	}
}

func (l *leadership) standing(view View) (mine, earlier bool) {
	for _, item := range view.Items {
		switch {
		case item.Key == l.key:
			mine = item.CreateRevision == l.revision
		case item.CreateRevision < l.revision:
			earlier = true
		}
	}
	return mine, earlier
}

// waitDelete returns after any candidate's key was deleted.
func (l *leadership) waitDelete(ctx context.Context, election string, after int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := l.store.Watch(ctx, election, after)
	for {
		select {
		case change, ok := <-changes:
			switch {
			case !ok:
				if err := ctx.Err(); err != nil {
					return err
				}
				return fmt.Errorf("watch ended: %w", ErrUnavailable)
			case errors.Is(change.Err, ErrCompacted):
				return nil // look again
			case change.Err != nil:
				return change.Err
			}
			for _, e := range change.Events {
				if e.Deleted {
					return nil
				}
			}
		case <-l.session.Done():
			return ErrSessionLost
		}
	}
}

// start watches the candidate's own key from a revision at which it led.
func (l *leadership) start(ctx context.Context, after int64) {
	// The campaign's context ends the campaign, not the leadership.
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.done = make(chan struct{})
	l.wg.Go(func() {
		defer close(l.done)
		defer l.cancel()
		l.guard(ctx, after)
	})
}

// guard returns when the leadership may be lost. A watch that fell behind a compaction is not a loss: it looks again.
func (l *leadership) guard(ctx context.Context, after int64) {
	for {
		err := l.watchKey(ctx, after)
		if !errors.Is(err, ErrCompacted) {
			return
		}
		view, err := l.store.Range(ctx, l.key)
		if err != nil {
			return
		}
		if mine, _ := l.standing(view); !mine {
			return
		}
		after = view.Revision
	}
}

// watchKey returns when the key is deleted, the session ends (nil), or the watch does (its error).
func (l *leadership) watchKey(ctx context.Context, after int64) error {
	changes := l.store.Watch(ctx, l.key, after)
	for {
		select {
		case change, ok := <-changes:
			if !ok || change.Err != nil {
				return change.Err
			}
			for _, e := range change.Events {
				if e.Key == l.key && e.Deleted {
					return nil
				}
			}
		case <-l.session.Done():
			return nil
		}
	}
}

func (l *leadership) Fence() Guard {
	return Guard{Key: l.key, Kind: GuardCreateRevision, Revision: l.revision}
}

func (l *leadership) Done() <-chan struct{} { return l.done }

func (l *leadership) Resign(ctx context.Context) error {
	l.cancel()
	l.wg.Wait()
	_, err := l.store.Commit(ctx, Commit{Guards: []Guard{l.Fence()}, Ops: []Op{Delete(l.key)}})
	if err != nil && !errors.Is(err, ErrConflict) {
		return fmt.Errorf("cannot resign: %w", err)
	}
	return nil
}

// withdraw takes back a candidacy that was not won. ctx has often ended, which is why it came to this.
func (l *leadership) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	// An error leaves the key until the session ends: the next candidate waits a little longer.
	if l.revision == 0 {
		item, err := l.store.Get(ctx, l.key)
		if err != nil || item.CreateRevision == 0 {
			return
		}
		l.revision = item.CreateRevision
	}
	_, _ = l.store.Commit(ctx, Commit{Guards: []Guard{l.Fence()}, Ops: []Op{Delete(l.key)}})
}
