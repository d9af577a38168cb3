package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
)

// errTimeout ends waiting for hosts.
var errTimeout = errors.New("the time for hosts to be ready is over")

// form tells the first members who they are and waits until the voters work together. absent are members whose instances
// are gone, by host ID: nobody waits for them. A host that does not join is noted, and keeps the cluster from forming
// only when a majority of the voters is missing.
func (r *run) form(ctx context.Context, b state.Bootstrap, absent map[string]bool) error {
	if err := r.issueTokens(b); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.opts.Timeout, errTimeout)
	defer cancel()
	a, err := r.admitAll(ctx, b, absent)
	if err != nil {
		return err
	}
	defer a.wait()
	if err := r.lead(ctx, b, a); err != nil {
		cancel()
		return fmt.Errorf("cannot form the cluster: %w", err)
	}
	if err := r.record(state.Entry{Kind: state.KindFormed}); err != nil {
		cancel()
		return err
	}
	r.report(Event{Phase: PhaseForm, Message: "the cluster has formed"})
	return r.saveRoster(b.Roster)
}

// lead waits until enough voters have joined, and then until they have a leader.
func (r *run) lead(ctx context.Context, b state.Bootstrap, a *admission) error {
	select {
	case <-a.quorum:
	case <-a.over:
	case <-ctx.Done():
	}
	select {
	case <-a.quorum:
	default:
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return errors.New("a majority of its voters did not join")
	}
	r.report(Event{Phase: PhaseForm, Message: "the voters come together"})
	if err := r.connect(b.Roster); err != nil {
		return err
	}
	_, err := awaitFormed(ctx, r.fleet)
	return err
}

// connect makes the client of the cluster. members is where to look.
func (r *run) connect(members roster.Roster) error {
	fleet, err := r.deps.Connect(r.keys.Root.Cert, r.keys.Operator, members)
	if err != nil {
		return fmt.Errorf("cannot make a client of the cluster: %w", err)
	}
	r.fleet = fleet
	return nil
}

// awaitFormed waits until the voters have a leader.
func awaitFormed(ctx context.Context, fleet Fleet) (FleetStatus, error) {
	rest := pauses{30 * time.Millisecond, 300 * time.Millisecond}
	for {
		status, err := fleet.Status(ctx)
		if err == nil && status.Formed {
			return status, nil
		}
		if err == nil {
			err = fmt.Errorf("%d of %d voters are healthy and none leads", status.Voters.Healthy, status.Voters.Total)
		}
		if rest.rest(ctx) != nil {
			return status, fmt.Errorf("%w: %w (%w)", ErrUnreachable, err, context.Cause(ctx))
		}
	}
}

// saveRoster remembers where the members are, for the commands to come.
func (r *run) saveRoster(members roster.Roster) error {
	return r.guarded("roster", func() error { return r.dir.SaveRoster(members) })
}
