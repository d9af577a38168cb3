package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/unitfile"
)

// at makes a host with an ID that begins with its name, 32 characters long. Labels are k=v; "lost" makes it lost.
func at(name, provider string, labels ...string) Host {
	h := Host{ID: id(name), Name: name, Provider: provider, Labels: map[string]string{}}
	for _, l := range labels {
		if l == "lost" {
			h.State = Lost
			continue
		}
		key, value, _ := strings.Cut(l, "=")
		h.Labels[key] = value
	}
	return h
}

func id(name string) string { return name + strings.Repeat("0", 32-len(name)) }

type rules = unitfile.Requirements

// hosts of most cases: two of one provider, one of another.
func trio() []Host {
	return []Host{at("n1", "east", "role=db"), at("n2", "east", "role=web"), at("n3", "west", "role=web", "disk=ssd")}
}

type decideCase struct {
	name   string
	hosts  []Host
	units  []Unit
	placed map[string]string // unit → host name
	want   []string
	global string // GlobalHosts afterwards, when there are any
}

var decideCases = []decideCase{
	{
		name:  "the least loaded host, then the least loaded provider, then the first by name",
		hosts: trio(),
		units: []Unit{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}},
		want: []string{
			"place a on n1: least loaded of 3 hosts that fit",
			"place b on n3: least loaded of 3 hosts that fit",
			"place c on n2: least loaded of 3 hosts that fit",
			"place d on n3: least loaded of 3 hosts that fit",
			"place e on n1: least loaded of 3 hosts that fit",
		},
	},
	{
		name:   "what runs stays, however crowded it is",
		hosts:  trio(),
		units:  []Unit{{Name: "a"}, {Name: "b"}, {Name: "c"}},
		placed: map[string]string{"a": "n1", "b": "n1", "c": "n1"},
	},
	{
		name:   "what nobody wants is removed, wherever it is",
		hosts:  []Host{at("n1", "east"), at("n2", "east", "lost")},
		placed: map[string]string{"a": "n1", "b": "n2", "c": "gone"},
		want: []string{
			"remove a from n1: no longer wanted", "remove b from n2: no longer wanted",
			"remove c from gone: no longer wanted",
		},
	},
	{
		name: "no hosts", units: []Unit{{Name: "a"}},
		want: []string{"wait a: there are no hosts"},
	},
	{
		name:   "units of a lost host move, and the others make no room",
		hosts:  []Host{at("n1", "east", "lost"), at("n2", "east"), at("n3", "west")},
		units:  []Unit{{Name: "a"}, {Name: "b"}, {Name: "c"}},
		placed: map[string]string{"a": "n1", "b": "n1", "c": "n2"},
		want: []string{
			"move a from n1 to n3: host n1 was lost; least loaded of 2 hosts that fit",
			"move b from n1 to n2: host n1 was lost; least loaded of 2 hosts that fit",
		},
	},
	{
		name:   "a unit of a lost host that fits nowhere else stays in its schedule",
		hosts:  []Host{at("n1", "east", "role=db", "lost"), at("n2", "east")},
		units:  []Unit{{Name: "a", Requirements: rules{Metadata: map[string][]string{"role": {"db"}}}}},
		placed: map[string]string{"a": "n1"},
		want:   []string{"wait a on n1: host n1 was lost; none of 2 hosts fits: 1 lost, 1 without role=db"},
	},
	{
		name:   "unless that host would not suit it either",
		hosts:  []Host{at("n1", "east", "lost"), at("n2", "east")},
		units:  []Unit{{Name: "a", Requirements: rules{Metadata: map[string][]string{"role": {"db"}}}}},
		placed: map[string]string{"a": "n1"},
		want:   []string{"remove a from n1: host n1 was lost; none of 2 hosts fits: 1 lost, 1 without role=db"},
	},
	{
		name:   "a lost host that comes back before its units moved keeps them",
		hosts:  []Host{at("n1", "east"), at("n2", "east")},
		units:  []Unit{{Name: "a"}},
		placed: map[string]string{"a": "n1"},
	},
	{
		name:   "units of a host that left the cluster move",
		hosts:  []Host{at("n1", "east")},
		units:  []Unit{{Name: "a"}, {Name: "b", Requirements: rules{MachineID: id("gone")}}},
		placed: map[string]string{"a": "gone", "b": "gone"},
		want: []string{
			"move a from gone to n1: host " + id("gone") + " has left the cluster; the only host that fits",
			"remove b from gone: host " + id("gone") + " has left the cluster; no host has the ID " + id("gone"),
		},
	},
	{
		name:  "MachineID: the whole ID or its first 8 characters",
		hosts: []Host{at("n1aaaaaa1", "east"), at("n1aaaaaa2", "east"), at("n2", "east", "lost")},
		units: []Unit{
			{Name: "a", Requirements: rules{MachineID: id("n1aaaaaa2")}},
			{Name: "b", Requirements: rules{MachineID: "n1aaaaaa"}},
			{Name: "c", Requirements: rules{MachineID: "n1aaaa"}},
			{Name: "d", Requirements: rules{MachineID: id("n2")}},
			{Name: "e", Requirements: rules{MachineID: "n1aaaaaa", Metadata: map[string][]string{"role": {"db"}}}},
		},
		want: []string{
			"place a on n1aaaaaa2: MachineID names the host",
			"place b on n1aaaaaa1: MachineID names the host",
			"wait c: no host has the ID n1aaaa",
			"wait d: host n2, which MachineID names, is lost",
			"wait e: host n1aaaaaa1, which MachineID names, has no label role",
		},
	},
	{
		name:  "MachineMetadata: or within a key, and between keys, and the host's own names",
		hosts: trio(),
		units: []Unit{
			{Name: "and", Requirements: rules{Metadata: map[string][]string{"role": {"web"}, "disk": {"ssd"}}}},
			{Name: "host", Requirements: rules{Metadata: map[string][]string{"host": {"n2"}}}},
			{Name: "none", Requirements: rules{Metadata: map[string][]string{"role": {"mail", "dns"}}}},
			{Name: "or", Requirements: rules{Metadata: map[string][]string{"role": {"db", "mail"}}}},
			{Name: "provider", Requirements: rules{Metadata: map[string][]string{"provider": {"west"}}}},
		},
		want: []string{
			"place and on n3: the only host that fits",
			"place host on n2: the only host that fits",
			"wait none: no host has role=dns or mail",
			"place or on n1: the only host that fits",
			"place provider on n3: the only host that fits",
		},
	},
	{
		name:   "a label that went away",
		hosts:  trio(),
		units:  []Unit{{Name: "a", Requirements: rules{Metadata: map[string][]string{"role": {"web"}}}}},
		placed: map[string]string{"a": "n1"},
		want:   []string{"move a from n1 to n2: host n1 has role=db, not web; least loaded of 2 hosts that fit"},
	},
	{
		name:  "Conflicts spread a template over hosts, one each",
		hosts: trio(),
		units: []Unit{
			{Name: "api@1"},
			{Name: "lb@1", Requirements: rules{Conflicts: []string{"lb@*"}}},
			{Name: "lb@2", Requirements: rules{Conflicts: []string{"lb@*"}}},
			{Name: "lb@3", Requirements: rules{Conflicts: []string{"lb@*"}}},
			{Name: "lb@4", Requirements: rules{Conflicts: []string{"lb@*"}}},
		},
		want: []string{
			"place api@1 on n3: least loaded of 3 hosts that fit",
			"place lb@1 on n1: least loaded of 3 hosts that match, but for those it conflicts with",
			"place lb@2 on n3: least loaded of 3 hosts that match, but for those it conflicts with",
			"place lb@3 on n2: least loaded of 3 hosts that match, but for those it conflicts with",
			"wait lb@4: none of 3 hosts fits: 3 with units that conflict with it",
		},
	},
	{
		name:   "Conflicts of what is there bind the newcomer, who has none",
		hosts:  []Host{at("n1", "east"), at("n2", "east")},
		units:  []Unit{{Name: "a", Requirements: rules{Conflicts: []string{"b"}}}, {Name: "b"}, {Name: "c"}},
		placed: map[string]string{"a": "n1", "c": "n2"},
		want:   []string{"place b on n2: least loaded of 2 hosts that match, but for those it conflicts with"},
	},
	{
		name:   "of two that have come to conflict the first by name stays",
		hosts:  []Host{at("n1", "east"), at("n2", "east")},
		units:  []Unit{{Name: "a"}, {Name: "b", Requirements: rules{Conflicts: []string{"a"}}}},
		placed: map[string]string{"a": "n1", "b": "n1"},
		want: []string{"move b from n1 to n2: it conflicts with a on host n1; " +
			"least loaded of 2 hosts that match, but for those it conflicts with"},
	},
	{
		name:  "MachineOf follows in the same pass, peer after peer",
		hosts: trio(),
		units: []Unit{
			{Name: "a", Requirements: rules{MachineOf: []string{"b"}}},
			{Name: "b", Requirements: rules{MachineOf: []string{"c"}}},
			{Name: "c", Requirements: rules{Metadata: map[string][]string{"role": {"web"}}}},
			{Name: "d"},
		},
		want: []string{
			"place a on n2: follows b", "place b on n2: follows c", "place c on n2: least loaded of 2 hosts that fit",
			"place d on n3: least loaded of 3 hosts that fit",
		},
	},
	{
		name:  "MachineOf that cannot be",
		hosts: trio(),
		units: []Unit{
			{Name: "apart", Requirements: rules{MachineOf: []string{"x", "y"}}},
			{Name: "circle1", Requirements: rules{MachineOf: []string{"circle2"}}},
			{Name: "circle2", Requirements: rules{MachineOf: []string{"circle1"}}},
			{Name: "label", Requirements: rules{MachineOf: []string{"x"}, Metadata: map[string][]string{"role": {"web"}}}},
			{Name: "rival", Requirements: rules{MachineOf: []string{"x"}, Conflicts: []string{"x"}}},
			{Name: "unknown", Requirements: rules{MachineOf: []string{"missing"}}},
			{Name: "x"},
			{Name: "y"},
		},
		placed: map[string]string{"x": "n1", "y": "n2"},
		want: []string{
			"wait apart: its peers are apart: x is on host n1, y on host n2",
			"wait circle1: its peer circle2 has no host",
			"wait circle2: its peer circle1 has no host",
			"wait label: host n1, where its peer x is, has role=db, not web",
			"wait rival: host n1, where its peer x is, has x, which conflicts with it",
			"wait unknown: its peer missing is not started",
		},
	},
	{
		name:   "followers move with their peer",
		hosts:  []Host{at("n1", "east", "lost"), at("n2", "east"), at("n3", "west")},
		units:  []Unit{{Name: "a", Requirements: rules{MachineOf: []string{"b"}}}, {Name: "b"}},
		placed: map[string]string{"a": "n1", "b": "n1"},
		want: []string{
			"move a from n1 to n2: host n1 was lost; follows b",
			"move b from n1 to n2: host n1 was lost; least loaded of 2 hosts that fit",
		},
	},
	{
		name:   "a follower without its peer is stopped",
		hosts:  []Host{at("n1", "east")},
		units:  []Unit{{Name: "a", Requirements: rules{MachineOf: []string{"b"}}}},
		placed: map[string]string{"a": "n1", "b": "n1"},
		want: []string{
			"remove a from n1: its peer b is not on host n1; its peer b is not started",
			"remove b from n1: no longer wanted",
		},
	},
	{
		name:   "room for one who had to make room is taken back",
		hosts:  comesHome.Hosts,
		units:  comesHome.Units,
		placed: map[string]string{"a": "host-0", "b": "host-0", "m": "host-0", "p": "host-0"},
		want: []string{
			"move a from host-0 to host-3: its peer p is not on host host-0; follows p",
			"move p from host-0 to host-3: it conflicts with m on host host-0; " +
				"least loaded of 2 hosts that match, but for those it conflicts with",
		},
	},
	{
		name:  "rules that exclude each other",
		hosts: trio(),
		units: []Unit{
			{Name: "a", Requirements: rules{MachineID: id("n1"), MachineOf: []string{"b"}}},
			{Name: "b", Requirements: rules{MachineID: id("n1"), Conflicts: []string{"c"}}},
			{Name: "c", Requirements: rules{MachineOf: []string{"c"}}},
			{Name: "d", Requirements: rules{MachineOf: []string{"a"}, Global: true}},
			{Name: "e", Requirements: rules{MachineID: id("n1"), Global: true}},
		},
		placed: map[string]string{"b": "n1"},
		want: []string{
			"wait a: MachineID excludes MachineOf",
			"remove b from n1: MachineID excludes Conflicts",
			"wait c: MachineOf names the unit itself",
		},
		global: "d: ; e: ",
	},
	{
		name:   "Global runs everywhere that suits it, lost hosts too",
		hosts:  append(trio(), at("n4", "west", "role=web", "lost")),
		units:  []Unit{{Name: "all", Requirements: rules{Global: true}}, {Name: "web", Requirements: rules{Global: true, Metadata: map[string][]string{"role": {"web"}}}}},
		global: "all: n1 n2 n3 n4; web: n2 n3 n4",
	},
	{
		name:  "Global gives way to what is placed; what is to be placed gives way to it",
		hosts: []Host{at("n1", "east"), at("n2", "east")},
		units: []Unit{
			{Name: "agent", Requirements: rules{Global: true, Conflicts: []string{"app@*"}}},
			{Name: "app@1"},
			{Name: "app@2"},
		},
		placed: map[string]string{"app@1": "n1"},
		want:   []string{"place app@2 on n1: least loaded of 2 hosts that match, but for those it conflicts with"},
		global: "agent: n2",
	},
	{
		name:  "of two Globals that conflict the first by name runs",
		hosts: []Host{at("n1", "east", "role=a"), at("n2", "east")},
		units: []Unit{
			{Name: "a", Requirements: rules{Global: true, Metadata: map[string][]string{"role": {"a"}}, Conflicts: []string{"b"}}},
			{Name: "b", Requirements: rules{Global: true}},
			{Name: "c", Requirements: rules{MachineOf: []string{"b"}}},
		},
		want:   []string{"place c on n2: the only host that fits"},
		global: "a: n1; b: n2",
	},
	{
		name:   "a unit that became Global leaves its one host's record to be put into all",
		hosts:  []Host{at("n1", "east")},
		units:  []Unit{{Name: "a", Requirements: rules{Global: true}}},
		placed: map[string]string{"a": "n1"},
		want:   []string{"remove a from n1: it is global now"},
		global: "a: n1",
	},
}

func (c decideCase) snapshot() Snapshot {
	s := Snapshot{Hosts: c.hosts, Units: c.units, Placed: map[string]string{}}
	for unit, host := range c.placed {
		s.Placed[unit] = id(host)
		for _, h := range c.hosts {
			if h.Name == host {
				s.Placed[unit] = h.ID
			}
		}
	}
	return s
}

// render gives a decision as a sentence.
func render(s Snapshot, d Decision) string {
	name := func(id string) string {
		if h := hostOf(s, id); h != nil {
			return h.Name
		}
		return strings.TrimRight(id, "0")
	}
	var what string
	switch d.Kind {
	case Place:
		what = fmt.Sprintf("place %s on %s", d.Unit, name(d.To))
	case Move:
		what = fmt.Sprintf("move %s from %s to %s", d.Unit, name(d.From), name(d.To))
	case Remove:
		what = fmt.Sprintf("remove %s from %s", d.Unit, name(d.From))
	case Wait:
		what = "wait " + d.Unit
		if d.From != "" {
			what += " on " + name(d.From)
		}
	}
	return what + ": " + d.Reason
}

func TestDecide(t *testing.T) {
	for _, c := range decideCases {
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
			after := After(s, ds)
			var global []string
			hosts := GlobalHosts(after)
			for _, u := range s.Units {
				if !u.Requirements.Global {
					continue
				}
				var names []string
				for _, id := range hosts[u.Name] {
					names = append(names, hostOf(s, id).Name)
				}
				global = append(global, u.Name+": "+strings.Join(names, " "))
			}
			if got := strings.Join(global, "; "); got != c.global {
				t.Errorf("global units: %q, want %q", got, c.global)
			}
		})
	}
}

func TestAfterLeavesItsArgument(t *testing.T) {
	s := Snapshot{Hosts: trio(), Units: []Unit{{Name: "a"}}, Placed: map[string]string{"b": id("n1")}}
	after := After(s, Decide(s))
	if s.Placed["b"] == "" || s.Placed["a"] != "" {
		t.Errorf("After changed its argument: %v", s.Placed)
	}
	if after.Placed["a"] == "" || after.Placed["b"] != "" {
		t.Errorf("after: %v", after.Placed)
	}
}

func TestExplain(t *testing.T) {
	s := Snapshot{
		Hosts: append(trio(), at("n4", "west", "role=web", "lost"), at("n5", "west", "role=web")),
		Units: []Unit{
			{Name: "a", Requirements: rules{
				Metadata: map[string][]string{"role": {"web"}}, MachineOf: []string{"log"}, Conflicts: []string{"lb@*"},
			}},
			{Name: "b", Requirements: rules{MachineID: id("n1")}},
			{Name: "lb@1"},
			{Name: "x"},
			{Name: "log", Requirements: rules{Global: true, Metadata: map[string][]string{"provider": {"west"}}}},
			{Name: "mon", Requirements: rules{Global: true, Conflicts: []string{"lb@*"}}},
		},
		Placed: map[string]string{"a": id("n5"), "lb@1": id("n3"), "x": id("n5")},
	}
	for unit, want := range map[string][]string{
		"a": {
			"n1 no: has role=db, not web", "n2 no: does not have log", "n3 no: has lb@1, which conflicts with it",
			"n4 no: is lost", "n5 here: it is here",
		},
		"b": {
			"n1 yes: fits, has 0 units", "n2 no: is not the host that MachineID names",
			"n3 no: is not the host that MachineID names", "n4 no: is lost",
			"n5 no: is not the host that MachineID names",
		},
		"x": {
			"n1 yes: fits, has 0 units", "n2 yes: fits, has 0 units", "n3 yes: fits, has 1 unit", "n4 no: is lost",
			"n5 here: it is here",
		},
		"mon": {
			"n1 here: it is here", "n2 here: it is here", "n3 no: has lb@1, which conflicts with it",
			"n4 here: it is here", "n5 here: it is here",
		},
	} {
		var got []string
		for _, r := range Explain(s, unit) {
			word := "no"
			switch {
			case r.Here && r.Fits:
				word = "here"
			case r.Fits:
				word = "yes"
			}
			got = append(got, fmt.Sprintf("%s %s: %s", r.Host, word, r.Reason))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", unit, d)
		}
	}
	if got := Explain(s, "unknown"); got != nil {
		t.Errorf("unknown unit: %v", got)
	}
}

// TestPatternIndex compares the index with matching every pattern against every name.
func TestPatternIndex(t *testing.T) {
	piece := rapid.SampledFrom([]string{"a", "b", "ab", "*", "?", "[a-b]", "[^a]", "]", "-", `\`, `\*`, "[", "é"})
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(piece, 0, 5).Draw(t, "pieces"), "")
	})
	rapid.Check(t, func(t *rapid.T) {
		patterns := rapid.SliceOfN(text, 1, 8).Draw(t, "patterns")
		c := newConflicts()
		for _, p := range patterns {
			c.add([]string{p})
		}
		name := rapid.StringMatching(`[ab\]é*-]{0,4}`).Draw(t, "name")
		var want []int32
		for p, n := range c.numbers {
			if matchPattern(p, name) {
				want = append(want, n)
			}
		}
		slices.Sort(want)
		if got := c.matched(name); !slices.Equal(got, want) {
			t.Fatalf("%q matches %v, want %v of %q", name, got, want, patterns)
		}
	})
}
