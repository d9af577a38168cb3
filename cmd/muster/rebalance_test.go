package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/musterhq/muster/agent/api"
)

// uneven is a cluster with a move to make.
type uneven struct {
	*smallFleet
	moves   []api.Move
	ordered []api.RebalanceOrder
}

func (f *uneven) Rebalance(_ context.Context, most int) (api.Rebalance, error) {
	moves := f.moves
	if most > 0 && most < len(moves) {
		moves = moves[:most]
	}
	return api.Rebalance{Moves: moves, Stopped: "b.service is failed on node-2", Cause: "host node-2 joined"}, nil
}

func (f *uneven) OrderRebalance(_ context.Context, order api.RebalanceOrder) error {
	f.ordered = append(f.ordered, order)
	return nil
}

func TestRebalance(t *testing.T) {
	f := &uneven{smallFleet: newSmallFleet(), moves: []api.Move{
		{Unit: "a.service", From: "node-1", To: "node-2", Reason: "host node-1 had 4 units, node-2 0"},
		{Unit: "web@.service", Instances: "3-4", From: "node-1", To: "node-2", Reason: "the same"},
	}}
	for _, tt := range []struct {
		args    string
		status  int
		ordered int
		says    []string
	}{
		{"rebalance --dry-run", statusDone, 0, []string{"stopped: b.service", "a.service     -          node-1  node-2  host node-1 had 4 units", "web@.service  3-4"}},
		{"rebalance", statusDone, 1, []string{"the cluster moves them"}},
		{"rebalance --max-moves 1", statusDone, 2, []string{"a.service  -"}},
		{"rebalance --max-moves -1", statusUsage, 2, []string{"--max-moves -1"}},
		{"rebalance all", statusUsage, 2, []string{"unexpected argument"}},
	} {
		status, out, errs := orders(t, f, strings.Fields(tt.args)...)
		if status != tt.status || len(f.ordered) != tt.ordered {
			t.Errorf("muster %s: status %d, %d orders\n%s%s", tt.args, status, len(f.ordered), out, errs)
		}
		for _, says := range tt.says {
			if !strings.Contains(out+errs, says) {
				t.Errorf("muster %s: %q is missing in\n%s%s", tt.args, says, out, errs)
			}
		}
	}
	if f.ordered[0].MaxMoves != 0 || f.ordered[1].MaxMoves != 1 {
		t.Errorf("ordered %+v", f.ordered)
	}
	f.moves = nil
	status, out, _ := orders(t, f, "rebalance", "-o", "json")
	var r api.Rebalance
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != statusDone || r.Moves == nil || len(f.ordered) != 2 {
		t.Errorf("nothing to move: status %d, %v, %s", status, err, out)
	}
}
