package schedule

import (
	"fmt"
	"testing"

	"github.com/musterhq/muster/agent/unitfile"
)

// fleet is a snapshot of so many hosts over four providers and two roles, and ten times as many units, none of which has
// a host yet. A third of the units have metadata. Another third comes in families of hosts/4 units that exclude each
// other, so that each family covers a quarter of the hosts; a tenth of those follow a unit without rules.
func fleet(hosts int) Snapshot {
	s := Snapshot{Placed: map[string]string{}}
	for i := range hosts {
		s.Hosts = append(s.Hosts, Host{
			ID: fmt.Sprintf("%08x%024d", i, i), Name: fmt.Sprintf("host-%05d", i), Provider: fmt.Sprintf("cloud-%d", i%4),
			Labels: map[string]string{"role": []string{"web", "db"}[i/4%2], "rack": fmt.Sprint(i / 40)},
		})
	}
	for i := range 10 * hosts {
		u := Unit{}
		switch family := i / 3 / (hosts / 4); i % 3 {
		case 0:
			u.Name = fmt.Sprintf("job@%d.service", i)
			u.Requirements.Metadata = map[string][]string{"role": {"web"}}
			if i%2 == 0 {
				u.Requirements.Metadata = map[string][]string{"role": {"db", "cache"}, "provider": {"cloud-1", "cloud-2"}}
			}
		case 1:
			u.Name = fmt.Sprintf("lb%d@%d.service", family, i)
			u.Requirements.Conflicts = []string{fmt.Sprintf("lb%d@*.service", family)}
			if i%2 == 0 {
				u.Requirements.Metadata = map[string][]string{"role": {"web"}}
			}
		default:
			u.Name = fmt.Sprintf("task@%d.service", i)
			if i%10 == 0 {
				u.Requirements.MachineOf = []string{fmt.Sprintf("task@%d.service", i+3)}
			}
		}
		s.Units = append(s.Units, u)
	}
	return s
}

// BenchmarkDecide places every unit of a fleet in one pass, each size ten times the one before: the time per unit is
// what must not grow with it.
func BenchmarkDecide(b *testing.B) {
	for _, hosts := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("%dx%d", hosts, 10*hosts), func(b *testing.B) {
			s := fleet(hosts)
			b.ReportAllocs()
			began := cpuTime(b)
			placed := 0
			for b.Loop() {
				placed = 0
				for _, d := range Decide(s) {
					if d.Kind == Place {
						placed++
					}
				}
			}
			if placed != len(s.Units) {
				b.Fatalf("placed %d of %d", placed, len(s.Units))
			}
			reportCPU(b, began, placed)
		})
	}
}

// BenchmarkDecideSettled decides on a fleet in which nothing has to change, and on one in which a host was lost.
func BenchmarkDecideSettled(b *testing.B) {
	s := fleet(1000)
	s = After(s, Decide(s))
	b.Run("nothing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if ds := Decide(s); len(ds) != 0 {
				b.Fatal(ds[0])
			}
		}
	})
	s.Hosts[17].State = Lost
	b.Run("host lost", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if ds := Decide(s); len(ds) < 5 || ds[0].Kind != Move {
				b.Fatal(ds)
			}
		}
	})
}

// BenchmarkDecideHard gives every unit a pattern of its own, so that no two share a class, or lets nothing fit.
func BenchmarkDecideHard(b *testing.B) {
	distinct, hopeless := fleet(1000), fleet(1000)
	for i := range distinct.Units {
		distinct.Units[i].Requirements = unitfile.Requirements{Conflicts: []string{fmt.Sprintf("*@%d.service", i+1)}}
		hopeless.Units[i].Requirements = unitfile.Requirements{Conflicts: []string{"*"}}
	}
	for name, s := range map[string]Snapshot{"distinct patterns": distinct, "everybody excludes everybody": hopeless} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Decide(s)
			}
		})
	}
}
