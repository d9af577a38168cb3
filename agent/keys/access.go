package keys

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/musterhq/muster/cluster/store"
)

// fail turns what is not a refusal into one, with the mirror's index.
func (s *Store) fail(err error) error {
	refusal := &Error{}
	switch {
	case errors.As(err, &refusal):
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty):
		refusal = refuse(CodeUnauthorized, "Insufficient credentials")
	case errors.Is(err, rpctypes.ErrNoSpace):
		refusal = refuse(CodeRaft, store.ErrFull.Error())
	case errors.Is(err, context.DeadlineExceeded):
		refusal = refuse(CodeRaft, "the store did not answer in time: it is away, or has lost its majority")
	default:
		refusal = refuse(CodeRaft, err.Error())
	}
	if refusal.Code < 200 || refusal.Code >= 300 {
		refusal = &Error{Code: refusal.Code, Cause: refusal.Cause, Index: s.State().Index}
	}
	return refusal
}

// Get reads a key. A directory's node has what is in it, in order of their names. It fails with an Error.
func (s *Store) Get(ctx context.Context, r Read) (Event, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := s.await(ctx, func() bool { return s.ready || s.tooBig })
	if err == nil && r.Quorum {
		err = s.Sync(ctx)
	}
	if err != nil {
		return Event{}, s.fail(err)
	}
	s.probe()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.tooBig {
		return Event{}, &Error{Code: CodeRaft, Cause: errTooBig.Error(), Index: s.revision}
	}
	e, refusal := decider{tree: s.tree}.need(r.Key)
	if refusal != nil {
		refusal.Index = s.revision
		return Event{}, refusal
	}
	node := e.node()
	if node.Dir {
		node = e.list(r.Recursive)
	}
	return Event{Action: ActionGet, Node: node, Index: s.revision}, nil
}

// probe has the store asked for a sign of life if there was none lately, so that the next reads can tell whether what they
// show is old.
func (s *Store) probe() {
	s.mu.RLock()
	due := s.asked.IsZero() && s.now().Sub(s.contact) > patience
	s.mu.RUnlock()
	if due {
		s.ask()
	}
}

func (s *Store) ask() {
	select {
	case s.probes <- struct{}{}:
	default:
	}
}

// Sync waits until the mirror has all that was committed before it was called. It fails when the store does not answer.
func (s *Store) Sync(ctx context.Context) error {
	revision, err := s.current(ctx)
	if err != nil {
		return err
	}
	return s.reach(ctx, revision)
}

// reach waits until the mirror has everything up to a revision.
func (s *Store) reach(ctx context.Context, revision int64) error {
	s.mu.RLock()
	behind := s.revision < revision
	s.mu.RUnlock()
	if behind {
		s.ask() // a revision that changed no key of ours is not told otherwise
	}
	return s.await(ctx, func() bool { return s.revision >= revision || s.tooBig })
}

// Watch begins to wait for events of a path, from an index on; 0 means those to come. It fails with an Error. The watcher
// must be closed.
func (s *Store) Watch(ctx context.Context, path string, recursive bool, index int64) (*Watcher, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.await(ctx, func() bool { return s.ready || s.tooBig }); err != nil {
		return nil, s.fail(err)
	}
	w, refusal := s.history.watch(path, recursive, index)
	if refusal != nil {
		return nil, s.fail(refusal)
	}
	return w, nil
}
