package schedule

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/instances"
)

func TestReplaces(t *testing.T) {
	replacing := func(name string, patterns ...string) Unit {
		return Unit{Name: name, Requirements: rules{Replaces: patterns}}
	}
	big := func(u Unit, milliCPU int64) Unit {
		u.Requirements.MilliCPU = milliCPU
		return u
	}
	duo := trio()[:2]
	for _, c := range []decideCase{
		{
			name: "what is where it goes moves elsewhere", hosts: duo, units: []Unit{{Name: "old"}, {Name: "on2"}, {Name: "on2b"}, replacing("new", "old")},
			placed: map[string]string{"old": "n1", "on2": "n2", "on2b": "n2"},
			want: []string{
				"place new on n1: least loaded of 2 hosts that fit, where it replaces old",
				"move old from n1 to n2: new replaces it on host n1; least loaded of 2 hosts that match, but for those with units that replace it",
			},
		},
		{
			name: "and nothing moves where it does not go", hosts: duo, units: []Unit{{Name: "old"}, replacing("new", "old")},
			placed: map[string]string{"old": "n1"},
			want:   []string{"place new on n2: least loaded of 2 hosts that fit"},
		},
		{
			name: "what fits nowhere else waits", hosts: trio(), placed: map[string]string{"old": "n1"},
			units: []Unit{
				{Name: "old", Requirements: rules{Metadata: map[string][]string{"role": {"db"}}}},
				{Name: "new", Requirements: rules{Replaces: []string{"o*"}, Metadata: map[string][]string{"role": {"db"}}}},
			},
			want: []string{
				"place new on n1: the only host that fits, where it replaces old",
				"remove old from n1: new replaces it on host n1; none of 3 hosts fits: 2 without role=db, 1 with units that replace it",
			},
		},
		{
			name: "what it replaces leaves it its room", hosts: []Host{sized(at("n1", "east"), 1, 1), sized(at("n2", "east"), 2, 1)},
			units:  []Unit{big(Unit{Name: "old"}, 1000), big(Unit{Name: "other"}, 1500), big(replacing("new", "old"), 1000)},
			placed: map[string]string{"old": "n1", "other": "n2"},
			want: []string{
				"place new on n1: least loaded of 2 hosts that match, but for those without room for CPU=1, where it replaces old",
				"remove old from n1: new replaces it on host n1; none of 2 hosts fits: 1 with units that replace it, 1 without room for CPU=1",
			},
		},
		{
			name: "one after the other", hosts: duo, units: []Unit{{Name: "c"}, replacing("b", "c"), replacing("a", "b")},
			placed: map[string]string{"c": "n2", "b": "n1"},
			want: []string{
				"place a on n1: least loaded of 2 hosts that fit, where it replaces b",
				"move b from n1 to n2: a replaces it on host n1; least loaded of 2 hosts that match, but for those with units that replace it, where it replaces c",
				"move c from n2 to n1: b replaces it on host n2; least loaded of 2 hosts that match, but for those with units that replace it",
			},
		},
		{
			name: "rules that begin to hold", hosts: duo, units: []Unit{{Name: "old"}, replacing("z", "old")},
			placed: map[string]string{"old": "n1", "z": "n1"},
			want: []string{
				"move old from n1 to n2: z replaces it on host n1; least loaded of 2 hosts that match, but for those with units that replace it",
			},
		},
		{
			name: "global units have no other place", hosts: duo,
			units:  []Unit{{Name: "log", Requirements: rules{Global: true}}, replacing("new", "log")},
			want:   []string{"place new on n1: least loaded of 2 hosts that fit"},
			global: "log: n1 n2",
		},
		{
			name: "a circle", hosts: duo, units: []Unit{replacing("a", "b"), replacing("b", "c"), replacing("c", "a"), replacing("d", "a")},
			want: []string{
				"wait a: Replaces goes in a circle: a replaces b, b replaces c, c replaces a",
				"wait b: Replaces goes in a circle: a replaces b, b replaces c, c replaces a",
				"wait c: Replaces goes in a circle: a replaces b, b replaces c, c replaces a",
				"place d on n1: least loaded of 2 hosts that fit",
			},
		},
		{
			name: "a circle through a peer", hosts: duo, units: []Unit{
				{Name: "a", Requirements: rules{Replaces: []string{"b"}, MachineOf: []string{"c"}}},
				{Name: "b"},
				{Name: "c", Requirements: rules{MachineOf: []string{"b"}}},
			},
			want: []string{
				"wait a: Replaces goes in a circle: a replaces b, which a must be with",
				"place b on n1: least loaded of 2 hosts that match, but for those with units that replace it",
				"place c on n1: follows b",
			},
		},
		{
			name: "replicas that replace each other", hosts: duo, units: []Unit{web(2, rules{Replaces: []string{"web@*.service"}})},
			want: []string{"wait web@.service: Replaces goes in a circle: web@1.service replaces web@2.service"},
		},
		{
			name: "what excludes what", hosts: duo, units: []Unit{
				{Name: "a", Requirements: rules{Replaces: []string{"x"}, MachineID: id("n1")}},
				{Name: "b", Requirements: rules{Replaces: []string{"x"}, Conflicts: []string{"y"}}},
				{Name: "c", Requirements: rules{Replaces: []string{"x"}, Global: true}},
			},
			want: []string{"wait a: MachineID excludes Replaces", "wait b: Conflicts excludes Replaces"}, global: "c: ",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.snapshot()
			var got []string
			ds := Decide(s)
			for _, d := range ds {
				got = append(got, render(s, d))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			for _, d := range Decide(After(s, ds)) {
				if d.Kind != Wait {
					t.Errorf("and then %+v", d)
				}
			}
		})
	}
}

// TestReplacesAmongReplicas: a template's instances come to where others are, and send them on as far as they fit.
func TestReplacesAmongReplicas(t *testing.T) {
	hosts := []Host{sized(at("n1", "east"), 2, 1), sized(at("n2", "east"), 2, 1), sized(at("n3", "west"), 2, 1)}
	s := Snapshot{Hosts: hosts, Units: []Unit{
		web(4, rules{MilliCPU: 1000}), {Name: "new@.service", Replicas: 2, Requirements: rules{Replaces: []string{"web@*.service"}}},
	}}
	s = After(s, Decide(Snapshot{Hosts: hosts, Units: s.Units[:1]}))
	after := After(s, Decide(s))
	on := map[string][]string{}
	for name, host := range wherever(after) {
		template, _, _ := instances.Split(name)
		on[host] = append(on[host], template)
	}
	for host, templates := range on {
		if slices.Sort(templates); len(slices.Compact(templates)) > 1 {
			t.Errorf("host %s has %v", host, templates)
		}
	}
	if got := len(wherever(after)); got != 4 { // two of each: one host is left to those that are replaced
		t.Errorf("%d instances have hosts: %v", got, wherever(after))
	}
	var reasons []string
	for _, d := range Decide(s) {
		reasons = append(reasons, d.Reason)
	}
	if all := strings.Join(reasons, "\n"); !strings.Contains(all, "new@1.service replaces it on host ") {
		t.Error(all)
	}
}

func TestExplainReplaces(t *testing.T) {
	s := Snapshot{
		Hosts: trio()[:2], Placed: map[string]string{"new": id("n1"), "old": id("n2")},
		Units: []Unit{{Name: "old"}, {Name: "new", Requirements: rules{Replaces: []string{"old"}}}},
	}
	for unit, want := range map[string][]string{
		"old": {"n1: has new, which replaces it", "n2: it is here"},
		"new": {"n1: it is here", "n2: fits, has 1 unit, where it replaces old"},
	} {
		var got []string
		for _, r := range Explain(s, unit) {
			got = append(got, r.Host+": "+r.Reason)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", unit, d)
		}
	}
}

// TestRebalanceReplacesNobody: to even hosts out, nobody is made to leave one.
func TestRebalanceReplacesNobody(t *testing.T) {
	s := Snapshot{
		Hosts:  []Host{at("n1", "east"), at("n2", "east")},
		Units:  []Unit{{Name: "a1"}, {Name: "a2"}, {Name: "old"}},
		Placed: map[string]string{"a1": id("n1"), "a2": id("n1"), "old": id("n2")},
	}
	for i, name := range []string{"new1", "new2"} {
		s.Units = append(s.Units, Unit{Name: name, Requirements: rules{Replaces: []string{"old"}, Priority: -1 - i}})
		s.Placed[name] = id("n1")
	}
	for _, d := range Rebalance(s, Budget{Moves: 1}) {
		if strings.HasPrefix(d.Unit, "new") {
			t.Errorf("%+v", d)
		}
	}
}

func TestCircle(t *testing.T) {
	unit := func(name string, patterns ...string) Unit {
		return Unit{Name: name, Requirements: rules{Replaces: patterns}}
	}
	units := []Unit{
		unit("a", "b"), unit("b", "a", "c"), unit("c"), unit("alone", "alo*"), unit("x@1.service", "y"), unit("y", "x@*.service"),
	}
	for name, want := range map[string]string{
		"a": "a replaces b, b replaces a", "b": "b replaces a, a replaces b", "c": "", "alone": "", "missing": "",
		"x@.service": "x@1.service replaces y, y replaces x@1.service",
	} {
		if got := Circle(units, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Of two circles that are as short, the same is told whichever unit comes first, and with it whose pattern.
func TestCircleIsOrderIndependent(t *testing.T) {
	units := []Unit{
		{Name: "b", Requirements: rules{Replaces: []string{"lb@*.service"}}},
		{Name: "lb@1.service", Requirements: rules{Replaces: []string{"b"}}},
		{Name: "lb@2.service", Requirements: rules{Replaces: []string{"?"}}},
	}
	const want = "b replaces lb@1.service, lb@1.service replaces b"
	for range units {
		units = append(units[1:], units[0])
		reversed := slices.Clone(units)
		slices.Reverse(reversed)
		for _, order := range [][]Unit{units, reversed} {
			if got := Circle(order, "b"); got != want {
				t.Errorf("%v first: %q, want %q", order[0].Name, got, want)
			}
		}
	}
}
