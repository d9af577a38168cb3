package schedule

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/instances"
)

// sized is a host with CPUs and gigabytes of memory.
func sized(h Host, cpus, gigabytes int64) Host {
	h.MilliCPU, h.Memory = cpus*1000, gigabytes<<30
	return h
}

// as is a host in a state.
func as(h Host, state HostState) Host {
	h.State = state
	return h
}

// span is instances of web@.service on a host, as "1-3,5".
func span(host, set string) Span {
	s, err := instances.Parse(set)
	if err != nil {
		panic(err)
	}
	return Span{Template: "web@.service", Host: id(host), Instances: s}
}

// web is a template with so many replicas.
func web(replicas int, r rules) Unit {
	return Unit{Name: "web@.service", Replicas: replicas, Requirements: r}
}

// TestDecideBeyondFleet is what [X-Muster] adds.
func TestDecideBeyondFleet(t *testing.T) {
	racks := []Host{at("n1", "east", "rack=a"), at("n2", "east", "rack=a"), at("n3", "west", "rack=b"), at("n4", "west")}
	for _, c := range []struct {
		name   string
		hosts  []Host
		units  []Unit
		placed map[string]string // unit → host name
		spans  []Span
		want   []string
	}{
		{
			name: "replicas go where there is least, in rows", hosts: trio(), units: []Unit{web(7, rules{})},
			want: []string{
				"place web@.service 1-2 on n1: least loaded of 3 hosts that fit",
				"place web@.service 3-4 on n2: least loaded of 3 hosts that fit",
				"place web@.service 5-7 on n3: least loaded of 3 hosts that fit",
			},
		},
		{
			name: "more of them leave the others alone", hosts: trio(), units: []Unit{web(4, rules{})},
			spans: []Span{span("n1", "1-2")},
			want: []string{
				"place web@.service 3 on n2: least loaded of 3 hosts that fit",
				"place web@.service 4 on n3: least loaded of 3 hosts that fit",
			},
		},
		{
			name: "of fewer the last ones go", hosts: trio(), units: []Unit{web(2, rules{})},
			spans: []Span{span("n1", "1,3"), span("n2", "2,4-5")},
			want: []string{
				"remove web@.service 3 from n1: no longer wanted", "remove web@.service 4-5 from n2: no longer wanted",
			},
		},
		{
			name: "and without the template all", hosts: trio(), spans: []Span{span("n1", "1-3")},
			want: []string{"remove web@.service 1-3 from n1: no longer wanted"},
		},
		{
			name: "a lost host's replicas move", hosts: []Host{at("n1", "east", "lost"), at("n2", "east"), at("n3", "east")},
			units: []Unit{web(5, rules{})}, spans: []Span{span("n1", "1-3"), span("n2", "4-5")},
			want: []string{
				"move web@.service 1 from n1 to n2: host n1 was lost; least loaded of 2 hosts that fit",
				"move web@.service 2-3 from n1 to n3: host n1 was lost; least loaded of 2 hosts that fit",
			},
		},
		{
			name: "replicas that exclude each other: one a host, the others wait", hosts: trio(),
			units: []Unit{web(5, rules{Conflicts: []string{"web@*.service"}})}, spans: []Span{span("n1", "2,4")},
			want: []string{
				"place web@.service 1 on n2: least loaded of 3 hosts that match, but for those it conflicts with",
				"move web@.service 4 from n1 to n3: it conflicts with web@2.service on host n1; " +
					"least loaded of 3 hosts that match, but for those it conflicts with",
				"wait web@.service 3,5: none of 3 hosts fits: 3 with units that conflict with it",
			},
		},
		{
			name: "one that others name is placed by itself", hosts: trio(),
			units: []Unit{
				web(3, rules{}),
				{Name: "log", Requirements: rules{MachineOf: []string{"web@2.service"}}},
				{Name: "web@3.service", Requirements: rules{Metadata: map[string][]string{"disk": {"ssd"}}}},
			},
			spans: []Span{span("n1", "3")},
			want: []string{
				"place log on n2: follows web@2.service",
				"place web@.service 1 on n1: least loaded of 3 hosts that fit",
				"place web@2.service on n2: least loaded of 3 hosts that fit",
				"move web@3.service from n1 to n3: host n1 has no label disk; the only host that fits",
			},
		},
		{
			name: "spread over a label, and nowhere without it", hosts: racks,
			units: []Unit{web(4, rules{Spread: "rack"})}, spans: []Span{span("n4", "4")},
			want: []string{
				"place web@.service 1 on n1: spread over rack, then least loaded of 3 hosts that fit",
				"place web@.service 2 on n2: spread over rack, then least loaded of 3 hosts that fit",
				"place web@.service 3 on n3: spread over rack, then least loaded of 3 hosts that fit",
				"move web@.service 4 from n4 to n3: host n4 has no label rack, over which it is spread; " +
					"spread over rack, then least loaded of 3 hosts that fit",
			},
		},
		{
			name: "what is spread unevenly stays", hosts: racks,
			units: []Unit{web(3, rules{Spread: "provider"})}, spans: []Span{span("n1", "1-3")},
		},
		{
			name: "reservations: as many as there is room for", hosts: []Host{sized(at("n1", "east"), 2, 1), at("n2", "east")},
			units: []Unit{web(5, rules{MilliCPU: 500, Memory: 300 << 20})},
			want: []string{
				"place web@.service 1-3 on n1: least loaded of 2 hosts that match, but for those without room for " +
					"CPU=0.5 and Memory=300M",
				"wait web@.service 4-5: none of 2 hosts fits: 2 without room for CPU=0.5 and Memory=300M",
			},
		},
		{
			name: "the higher priority comes first", hosts: []Host{sized(at("n1", "east"), 1, 1)},
			units: []Unit{
				{Name: "a", Requirements: rules{MilliCPU: 600}}, {Name: "b", Requirements: rules{MilliCPU: 600, Priority: 1}},
			},
			want: []string{
				"wait a: none of 1 hosts fits: 1 without room for CPU=0.6",
				"place b on n1: the only host that fits",
			},
		},
		{
			name: "but takes no place from what runs", hosts: []Host{sized(at("n1", "east"), 1, 1)},
			units: []Unit{
				{Name: "a", Requirements: rules{MilliCPU: 600}}, {Name: "b", Requirements: rules{MilliCPU: 600, Priority: 1}},
			},
			placed: map[string]string{"a": "n1"},
			want:   []string{"wait b: none of 1 hosts fits: 1 without room for CPU=0.6"},
		},
		{
			name:  "who reserves more than there is makes room, the lowest priority and then the last first",
			hosts: []Host{sized(at("n1", "east"), 2, 1), sized(at("n2", "east"), 2, 1)},
			units: []Unit{
				web(3, rules{MilliCPU: 900}), {Name: "a", Requirements: rules{MilliCPU: 900, Priority: -1}}, {Name: "b"},
			},
			placed: map[string]string{"a": "n1", "b": "n1"}, spans: []Span{span("n1", "1-3")},
			want: []string{
				"move a from n1 to n2: host n1 has 0.2 of its 2 CPUs left, not 0.9; " +
					"least loaded of 2 hosts that match, but for those without room for CPU=0.9",
				"move web@.service 3 from n1 to n2: host n1 has 0.2 of its 2 CPUs left, not 0.9; " +
					"least loaded of 2 hosts that match, but for those without room for CPU=0.9",
			},
		},
		{
			name: "a cordoned host keeps what it has and gets nothing", hosts: []Host{as(at("n1", "east"), Cordoned), at("n2", "east")},
			units: []Unit{web(3, rules{}), {Name: "a", Requirements: rules{MachineID: id("n1")}}}, spans: []Span{span("n1", "1-2")},
			want: []string{
				"wait a: host n1, which MachineID names, is cordoned",
				"place web@.service 3 on n2: the only host that fits",
			},
		},
		{
			name:  "from a host that is being drained goes whatever fits elsewhere",
			hosts: []Host{as(sized(at("n1", "east", "role=db"), 4, 4), Draining), sized(at("n2", "east"), 1, 4)},
			units: []Unit{
				web(3, rules{MilliCPU: 500}), {Name: "db", Requirements: rules{Metadata: map[string][]string{"role": {"db"}}}},
			},
			placed: map[string]string{"db": "n1"}, spans: []Span{span("n1", "1-3")},
			want: []string{
				"wait db on n1: host n1 is being drained; none of 2 hosts fits: 1 cordoned or drained, 1 without role=db",
				"move web@.service 1-2 from n1 to n2: host n1 is being drained; the only host that fits",
				"wait web@.service 3 on n1: host n1 is being drained; none of 2 hosts fits: 1 cordoned or drained, " +
					"1 without room for CPU=0.5",
			},
		},
		{
			name: "and at last everything", hosts: []Host{as(at("n1", "east", "role=db"), Drained), at("n2", "east")},
			units:  []Unit{{Name: "db", Requirements: rules{Metadata: map[string][]string{"role": {"db"}}}}},
			placed: map[string]string{"db": "n1"},
			want:   []string{"remove db from n1: host n1 is drained; none of 2 hosts fits: 1 cordoned or drained, 1 without role=db"},
		},
		{
			name: "a named host, and no room there", hosts: []Host{sized(at("n1", "east"), 1, 2)},
			units: []Unit{{Name: "a", Requirements: rules{MachineID: id("n1"), Memory: 3 << 30}}},
			want:  []string{"wait a: host n1, which MachineID names, has 2G of its 2G of memory left, not 3G"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := decideCase{hosts: c.hosts, units: c.units, placed: c.placed}.snapshot()
			s.Spans = c.spans
			var got []string
			for _, d := range Decide(s) {
				if d.Instances != nil {
					d.Unit += " " + d.Instances.String()
				}
				got = append(got, render(s, d))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestGlobalUnitsReserve: a global unit runs where units that are placed leave it room, and later ones leave it its own.
func TestGlobalUnitsReserve(t *testing.T) {
	s := Snapshot{
		Hosts: []Host{sized(at("n1", "east"), 1, 1), sized(at("n2", "east"), 1, 1)},
		Units: []Unit{
			{Name: "log", Requirements: rules{Global: true, MilliCPU: 300}},
			{Name: "a", Requirements: rules{MilliCPU: 800}},
			{Name: "b", Requirements: rules{MilliCPU: 800}},
			{Name: "c", Requirements: rules{MilliCPU: 700}},
		},
		Placed: map[string]string{"a": id("n1")},
	}
	after := After(s, Decide(s))
	if d := cmp.Diff(map[string]string{"a": id("n1"), "c": id("n2")}, after.Placed); d != "" {
		t.Error(d)
	}
	if got := fmt.Sprint(GlobalHosts(after)["log"]); got != "["+id("n2")+"]" {
		t.Errorf("log runs on %s", got)
	}
}

func TestExplainBeyondFleet(t *testing.T) {
	s := Snapshot{
		Hosts: []Host{
			sized(at("n1", "east", "rack=a"), 1, 1), sized(at("n2", "east", "rack=b"), 1, 1), sized(at("n3", "west"), 1, 1),
			at("n4", "west", "rack=b"),
		},
		Units: []Unit{web(3, rules{Spread: "rack", MilliCPU: 500})},
		Spans: []Span{span("n1", "1-2"), span("n2", "3")},
	}
	const lacks = "n3: has no label rack, over which it is spread"
	for unit, want := range map[string][]string{
		"web@.service": {
			"n1: has 2 of its instances; another one: has 0 of its 1 CPUs left, not 0.5",
			"n2: has 1 of its instances; another one: fits, has 1 unit and 1 of the template with its rack",
			lacks, "n4: has not said how many CPUs it has",
		},
		"web@1.service": {
			"n1: it is here", "n2: fits, has 1 unit and 1 of the template with its rack", lacks,
			"n4: has not said how many CPUs it has",
		},
	} {
		var got []string
		for _, r := range Explain(s, unit) {
			got = append(got, r.Host+": "+r.Reason)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", unit, d)
		}
	}
	if got := Explain(s, "web@4.service"); got != nil {
		t.Errorf("an instance too many: %v", got)
	}
}

// TestPatternsOfReplicas: whatever pattern names some of a template's instances, it is the same as if each were a unit.
func TestPatternsOfReplicas(t *testing.T) {
	for pattern, want := range map[string]string{
		"web@*.service": "", "web@7.service": "7", "web@[34].service": "3-4", "web@1*.service": "1,10-12", "*": "", "x*": "",
		"*2.service": "2,12", "web@?.service": "1-9", "web@.service": "", "web@07.service": "", `web@\8.service`: "8",
	} {
		w := newWorld(Snapshot{Units: []Unit{
			web(12, rules{}), {Name: "a.service", Requirements: rules{Conflicts: []string{pattern}}},
		}})
		var apart []string
		for _, u := range w.units {
			if template, n, ok := instances.Split(u.Name); ok && template == "web@.service" {
				apart = append(apart, fmt.Sprint(n))
			}
		}
		wanted, _ := instances.Parse(want)
		var names []string
		for n := range wanted.All() {
			names = append(names, fmt.Sprint(n))
		}
		if d := cmp.Diff(strings.Join(names, " "), strings.Join(apart, " ")); d != "" {
			t.Errorf("%s: %s", pattern, d)
		}
	}
}

// TestStopsCutOff: only hosts that say that they stop units of OnPartition=stop get some, and global ones run there alone.
func TestStopsCutOff(t *testing.T) {
	hosts := trio()
	hosts[1].StopsCutOff = true
	s := Snapshot{Hosts: hosts, Placed: map[string]string{"a": id("n1")}, Units: []Unit{
		{Name: "a", Requirements: rules{StopCutOff: true}}, {Name: "every", Requirements: rules{StopCutOff: true, Global: true}},
	}}
	var got []string
	for _, d := range Decide(s) {
		got = append(got, render(s, d))
	}
	want := []string{"move a from n1 to n2: host n1 " + cannotStop + "; the only host that fits"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string][]string{"every": {id("n2")}}, GlobalHosts(s)); d != "" {
		t.Error(d)
	}
	s.Hosts[1].StopsCutOff = false
	if ds := Decide(s); len(ds) != 1 || !strings.HasSuffix(ds[0].Reason, "none of 3 hosts fits: 3 without what OnPartition=stop needs") {
		t.Errorf("%+v", ds)
	}
	if r := Explain(s, "a")[0]; r.Fits || r.Reason != cannotStop {
		t.Errorf("%+v", r)
	}
}
