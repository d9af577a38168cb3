package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/musterhq/muster/cluster/plan"
)

// reseat brings who votes in line with the plan: first those that come, one after another, then those that go, which stay if
// a successor does not come. In between the voters are told how many they shall be, so that they fill no seat that is to
// stay empty.
func (r *run) reseat(ctx context.Context, p plan.Plan) error {
	for _, a := range p.Of(plan.Appoint) {
		r.each(ctx, PhaseVote, []plan.Action{a}, r.appoint)
	}
	settings := Settings{
		Rebalance: r.deps.Spec.Rebalance, Voters: len(p.Voters), VoterGrace: r.deps.Spec.VoterGrace,
		Backups: r.deps.Spec.Backups, Barred: []string{}, Update: r.deps.Spec.Update,
	}
	for _, a := range p.Actions {
		host, err := hostNamed(r.deps.Spec, a.Host)
		if err == nil && host.Voter != nil && !*host.Voter {
			settings.Barred = append(settings.Barred, a.ID)
		}
	}
	if err := r.fleet.Configure(ctx, settings); err != nil {
		return err
	}
	for _, a := range p.Of(plan.Appoint) {
		if r.hasFailed(a.Host) {
			return nil
		}
	}
	for _, a := range p.Of(plan.Retire) {
		r.each(ctx, PhaseVote, []plan.Action{a}, r.retire)
	}
	return nil
}

// appoint has a member vote, and waits until it does.
func (r *run) appoint(ctx context.Context, a plan.Action) error {
	if r.hasFailed(a.Host) {
		return nil
	}
	if err := r.fleet.Seat(ctx, a.ID, true); err != nil {
		return fmt.Errorf("cannot make it a voter: %w", err)
	}
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseVote, Message: "becomes a voter"})
	err := r.untilVoting(ctx, func(h FleetHost, there bool) bool { return there && h.Host.Voter && !h.VoterWaits }, a.ID)
	if err != nil {
		return fmt.Errorf("cannot make it a voter: %w", err)
	}
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseVote, Message: "votes", Done: true})
	return nil
}

// retire has a member vote no more. The other voters let it go when they can do without it.
func (r *run) retire(ctx context.Context, a plan.Action) error {
	if r.hasFailed(a.Host) {
		return nil
	}
	if err := r.fleet.Seat(ctx, a.ID, false); err != nil {
		return fmt.Errorf("cannot end its vote: %w", err)
	}
	if err := r.untilVoting(ctx, func(h FleetHost, there bool) bool { return !there || !h.Host.Voter }, a.ID); err != nil {
		return fmt.Errorf("cannot end its vote: %w", err)
	}
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseVote, Message: "votes no more", Done: true})
	return nil
}

var errNoSeat = errors.New("the voters did not agree in time; `muster status` tells why")

// untilVoting waits until a member is as it shall be and the voters have a leader.
func (r *run) untilVoting(ctx context.Context, ok func(h FleetHost, there bool) bool, hostID string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.opts.Timeout, errNoSeat)
	defer cancel()
	rest := pauses{50 * time.Millisecond, time.Second}
	for {
		if now, err := r.fleet.Status(ctx); err == nil && now.Formed {
			var host FleetHost
			there := false
			for _, h := range now.Hosts {
				if h.Host.ID == hostID {
					host, there = h, true
				}
			}
			if ok(host, there) {
				return nil
			}
		}
		if err := rest.rest(ctx); err != nil {
			return err
		}
	}
}
