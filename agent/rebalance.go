package agent

import (
	"context"
	"math"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/cluster/store"
)

// Rebalance tells what would move now, and how far rebalancing is.
func (s *service) Rebalance(ctx context.Context, moves int) (api.Rebalance, error) {
	v, _, _, err := s.read(ctx, fleet.StatusPrefixes)
	if err != nil {
		return api.Rebalance{}, err
	}
	snapshot, err := s.snapshot(ctx, v)
	if err != nil {
		return api.Rebalance{}, err
	}
	if moves == 0 {
		moves = math.MaxInt
	}
	after := schedule.After(snapshot, schedule.Decide(snapshot))
	var proposed []store.MovedUnit
	for _, d := range schedule.Rebalance(after, schedule.Budget{Moves: moves}) {
		proposed = append(proposed, store.MovedUnit{
			Unit: d.Unit, Instances: d.Instances, From: d.From, To: d.To, Reason: d.Reason,
		})
	}
	record := v.Rebalance.Record
	answer := api.Rebalance{
		Moves: movesOf(v, proposed), Active: record.Left > 0, Cause: record.Cause, Stopped: record.Stopped,
		Moved: movesOf(v, record.Moved),
	}
	if len(record.Moved) > 0 {
		answer.MovedAt = &record.At
	}
	return answer, nil
}

// movesOf names the hosts of moves; of one that has left, its ID.
func movesOf(v fleet.View, moved []store.MovedUnit) []api.Move {
	name := func(id string) string {
		if member, ok := v.Roster[id]; ok {
			return member.Record.Name
		}
		return id
	}
	moves := make([]api.Move, len(moved))
	for i, m := range moved {
		moves[i] = api.Move{
			Unit: m.Unit, Instances: m.Instances.String(), From: name(m.From), To: name(m.To), Reason: m.Reason,
		}
	}
	return moves
}

// addOrders says, of a unit that has a host, what operators ordered of that host, and whether rebalancing moved the unit
// there.
func (*service) addOrders(v fleet.View, unit string, why *api.Why) {
	for _, h := range v.HostsOf(unit) {
		switch order := v.Orders[h.ID].Record; order.Order {
		case store.OrderCordon:
			why.Reason += "; host " + h.Name + " is cordoned: it keeps its units and gets no more"
		case store.OrderDrain:
			if !v.Units[unit].Record.Global {
				why.Reason += "; host " + h.Name + " is being drained, and no other host fits"
			}
			if order.Deadline != nil && !v.Units[unit].Record.Global {
				why.Reason += ": it stops at " + order.Deadline.Format(time.RFC3339)
			}
		}
		if m, ok := v.MovedTo(unit, h.ID); ok {
			from := movesOf(v, []store.MovedUnit{m})[0].From
			why.Reason += "; rebalancing moved it here from " + from + ": " + m.Reason
		}
	}
}
