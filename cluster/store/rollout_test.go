package store_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// TestMembersAmong: whoever is in is a member, and nobody else, and first ones alone take no room.
func TestMembersAmong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfDistinct(rapid.StringMatching(`[a-e]{1,3}`), rapid.ID[string]).Draw(t, "names")
		slices.Sort(names)
		in := map[string]bool{}
		for _, name := range names {
			in[name] = rapid.Bool().Draw(t, name)
		}
		m := store.MembersAmong(names, func(name string) bool { return in[name] })
		none := true
		for _, name := range names {
			if none = none && !in[name]; m.HasName(name) != in[name] {
				t.Fatalf("%v: %s is a member: %v", m, name, m.HasName(name))
			}
		}
		if m.IsZero() != none {
			t.Fatalf("%v is nobody", m)
		}
	})
	first := store.MembersAmong([]string{"a", "b", "c", "d"}, func(name string) bool { return name < "c" })
	if d := cmp.Diff(store.Members{Upto: "b"}, first); d != "" {
		t.Error(d)
	}
}

func TestGiven(t *testing.T) {
	set := instances.Of(instances.Range{First: 1, Last: 2})
	for _, c := range []struct {
		r      store.Rollout
		number int
		host   string
		want   string
	}{
		{store.Rollout{Kind: store.RollReplicas, Updated: store.Members{Numbers: set}}, 2, "h1", "new"},
		{store.Rollout{Kind: store.RollReplicas, Updated: store.Members{Numbers: set}}, 3, "h1", "old"},
		{store.Rollout{Kind: store.RollUnit, Updated: store.Members{Numbers: set}}, 1, "h1", "new"},
		{store.Rollout{Kind: store.RollHosts, Updated: store.Members{Upto: "h2"}}, 0, "h1", "new"},
		{store.Rollout{Kind: store.RollHosts, Updated: store.Members{Upto: "h2", Except: []string{"h1"}}}, 0, "h1", "old"},
		{store.Rollout{Kind: store.RollHosts}, 1, "h1", "old"},
	} {
		c.r.From, c.r.To = "old", "new"
		if got := c.r.Given(c.number, c.host); got != c.want {
			t.Errorf("%+v: %d on %s is given %s", c.r, c.number, c.host, got)
		}
	}
}

// TestActiveRolloutIsNew: an older muster must not read the record of a unit while a rollout is under way.
func TestActiveRolloutIsNew(t *testing.T) {
	for phase, v := range map[store.RolloutPhase]int{
		store.PhaseForward: 2, store.PhaseBack: 2, store.PhaseDone: 1, store.PhaseFailed: 1, store.PhaseUndone: 1,
	} {
		was := store.UnitRecord{File: "new", Rollout: &store.Rollout{
			From: "old", To: "new", Kind: store.RollHosts, Phase: phase, Updated: store.Members{Upto: "h"}, Started: time.Unix(1, 0).UTC(),
		}}
		data, err := store.Marshal(was)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "0001-01-01") {
			t.Errorf("times that are not known are written: %s", data)
		}
		is, err := store.Unmarshal[store.UnitRecord](data)
		if was.V = v; err != nil || cmp.Diff(was, is) != "" {
			t.Errorf("%s: %v\n%s", phase, err, cmp.Diff(was, is))
		}
	}
}
