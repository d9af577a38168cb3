package store

import (
	"context"
	"errors"
	"testing"
	"time"
)

// interrupted is a store whose user gives up when a commit is made and has not been answered.
type interrupted struct {
	Store
	giveUp context.CancelFunc
}

func (s interrupted) Commit(ctx context.Context, c Commit) (int64, error) {
	if _, err := s.Store.Commit(ctx, c); err != nil || ctx.Err() != nil {
		return 0, err
	}
	if len(c.Ops) == 1 && !c.Ops[0].Delete {
		s.giveUp()
		return 0, context.Canceled
	}
	return 0, nil
}

// TestInterruptedCandidacy leaves no key of a candidate that gave up before it knew that it was one.
func TestInterruptedCandidacy(t *testing.T) {
	memory := NewMemory(time.Now)
	defer func() { _ = memory.Close() }()
	session, err := memory.NewSession(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	if _, err := Elect(ctx, interrupted{memory, giveUp}, PrefixLeader, "one", session); !errors.Is(err, context.Canceled) {
		t.Errorf("a candidate that gave up: %v", err)
	}
	view, err := memory.Range(t.Context(), PrefixLeader)
	if err != nil || len(view.Items) != 0 {
		t.Errorf("%d candidates are left, %v", len(view.Items), err)
	}
}
