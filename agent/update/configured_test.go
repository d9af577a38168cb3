package update_test

import (
	"testing"
	"time"

	"github.com/musterhq/muster/agent/update"
)

// Versions of one engine say nothing to another; the reboot lock that the host may hold is given back all the same.
func TestNextWithAnotherEngine(t *testing.T) {
	was := update.State{
		V: 1, Phase: update.Staged, Engine: "agent", Boot: "b", Booted: "3.0.0", Target: update.Offer{Version: "3.1.0"}, Floor: "3.0.0",
		Failures: []update.Failure{{Version: "2026.1", At: time.Unix(0, 0)}}, History: []update.Outcome{{What: update.Updated, To: "3.0.0"}},
	}
	for _, tt := range []struct {
		name, engine string
		asked        bool
		phase        update.Phase
		floor        string
	}{
		{name: "the same", engine: "agent", phase: update.Staged, floor: "3.0.0"},
		{name: "another", engine: "ab", phase: update.Idle},
		{name: "another, with the lock", engine: "ab", asked: true, phase: update.Releasing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			is := was
			is.Asked = tt.asked
			got, actions := update.Next(is, update.Event{Kind: update.Configured, Engine: tt.engine})
			if got.Phase != tt.phase || got.Floor != tt.floor || got.Engine != tt.engine || got.Asked != tt.asked || actions != nil {
				t.Errorf("got %+v, %v", got, actions)
			}
			if tt.floor == "" && (len(got.Failures) != 0 || got.Target.Version != "" || len(got.History) != 1) {
				t.Errorf("kept %+v", got)
			}
		})
	}
	old := was
	old.Engine = ""
	if got, _ := update.Next(old, update.Event{Kind: update.Configured, Engine: "ab"}); got.Floor != was.Floor || got.Phase != was.Phase {
		t.Errorf("a state without an engine was given up: %+v", got)
	}
}
