package enrol

import (
	"context"
	"errors"
	"fmt"

	"github.com/musterhq/muster/providers/metal/netboot"
)

// facts takes what a machine without a boot says.
func (s *server) facts(ctx context.Context, _ string, r factsRequest) (any, error) {
	if err := errors.Join(checkMAC(r.MAC), checkFacts(r.Facts)); err != nil {
		return nil, badRequest{err}
	}
	return nil, s.machines.Discover(ctx, r.MAC, r.Facts)
}

// claim binds a boot to a key and tells what to do. A second key ends the boot for both.
func (s *server) claim(ctx context.Context, holder string, r claimRequest) (any, error) {
	if err := checkFacts(r.Facts); err != nil {
		return nil, badRequest{err}
	}
	var refused error
	ticket, err := s.machines.Change(ctx, r.Boot, func(t Ticket) (Ticket, error) {
		t, refused = t.Claim(holder)
		return t, nil
	})
	if err != nil {
		return nil, err
	}
	if refused != nil {
		s.log.Error("two machines claim the same boot", "mac", ticket.MAC, "attempt", ticket.Attempt, "handed", ticket.Handed)
		broken := netboot.Broken{Attempt: ticket.Attempt, Reason: contestedReason(ticket)}
		return nil, errors.Join(refused, known(s.machines.Apply(ctx, ticket.MAC, broken)))
	}
	if err := s.machines.Discover(ctx, ticket.MAC, r.Facts); err != nil {
		return nil, err
	}
	return s.machines.Order(ctx, ticket)
}

func contestedReason(t Ticket) string {
	if t.Handed {
		return "two machines claim to be it, and one has its join token: release it, and look who else is on its network"
	}
	return "two machines claim to be it: look who else is on its network"
}

// known passes over that a report is no news.
func known(err error) error {
	if errors.Is(err, netboot.ErrStale) || errors.Is(err, netboot.ErrRefused) {
		return nil
	}
	return err
}

// held returns the ticket of a boot that is the holder's.
func (s *server) held(ctx context.Context, boot, holder string) (Ticket, error) {
	return s.machines.Change(ctx, boot, func(t Ticket) (Ticket, error) { return t, t.Check(holder) })
}

func (s *server) progress(ctx context.Context, holder string, r progressRequest) (any, error) {
	if err := r.check(); err != nil {
		return nil, badRequest{err}
	}
	ticket, err := s.held(ctx, r.Boot, holder)
	if err != nil {
		return nil, err
	}
	if r.Stage == StageStarted {
		if err := s.machines.Apply(ctx, ticket.MAC, netboot.Started{Attempt: ticket.Attempt}); err != nil {
			return nil, err
		}
	}
	s.machines.Progress(ctx, ticket, r.Progress)
	return nil, nil
}

func (s *server) outcome(ctx context.Context, holder string, r outcomeRequest) (any, error) {
	if err := checkText("the reason", r.Reason, maxReason); err != nil {
		return nil, badRequest{err}
	}
	ticket, err := s.held(ctx, r.Boot, holder)
	if err != nil {
		return nil, err
	}
	event, err := ticket.End(r.Reason)
	if err != nil {
		return nil, err
	}
	return nil, s.machines.Apply(ctx, ticket.MAC, event)
}

// userData makes the user-data before it notes that it is handed over, so that a window that is closed costs nothing.
func (s *server) userData(ctx context.Context, holder string, r userDataRequest) (any, error) {
	ticket, err := s.held(ctx, r.Boot, holder)
	if err != nil {
		return nil, err
	}
	if _, err := ticket.Hand(holder); err != nil {
		return nil, err
	}
	data, err := s.machines.UserData(ctx, ticket)
	if err != nil {
		return nil, err
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("%w: user-data of %d bytes is more than a machine takes, %d", netboot.ErrRefused, len(data), maxAnswer)
	}
	_, err = s.machines.Change(ctx, r.Boot, func(t Ticket) (Ticket, error) { return t.Hand(holder) })
	if err != nil {
		return nil, err
	}
	s.log.Info("handed user-data over", "mac", ticket.MAC, "attempt", ticket.Attempt)
	return data, nil
}
