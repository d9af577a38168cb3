package schedule

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/unitfile"
)

// cloud is a snapshot of so many hosts of 64 CPUs and 256 GB over four providers and racks of 40, and four templates
// that ask together for so many instances: one without rules, one spread over racks, one spread over hosts and half as
// many, one with reservations.
func cloud(hosts, replicas int) Snapshot {
	s := Snapshot{Placed: map[string]string{}}
	for i := range hosts {
		s.Hosts = append(s.Hosts, Host{
			ID: fmt.Sprintf("%08x%024d", i, i), Name: fmt.Sprintf("host-%05d", i), Provider: fmt.Sprintf("cloud-%d", i%4),
			Labels: map[string]string{"rack": fmt.Sprint(i / 40)}, MilliCPU: 64_000, Memory: 256 << 30,
		})
	}
	for i, r := range []unitfile.Requirements{
		{}, {Spread: "rack"}, {Spread: "host", Priority: 5}, {MilliCPU: 100, Memory: 256 << 20},
	} {
		s.Units = append(s.Units, Unit{Name: fmt.Sprintf("web%d@.service", i), Requirements: r, Replicas: replicas / 4})
	}
	return s
}

// cpuTime is what this process has used of all processors. A machine that others use too measures better by it than by
// the clock.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// reportCPU reports the processor time of a benchmark's rounds, and per second of it what each of them placed.
func reportCPU(b *testing.B, began time.Duration, placed int) {
	used := cpuTime(b) - began
	b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
	if placed > 0 {
		b.ReportMetric(float64(b.N)*float64(placed)/used.Seconds(), "placements/cpu-s")
	}
}

// BenchmarkDecideMillion places a million instances of four templates on 5,000 hosts, decides anew when nothing has
// changed, and when one host with its 200 instances is lost.
func BenchmarkDecideMillion(b *testing.B) {
	const hosts, replicas = 5000, 1_000_000
	s := cloud(hosts, replicas)
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		began := cpuTime(b)
		for b.Loop() {
			placed := 0
			for _, d := range Decide(s) {
				placed += d.Instances.Len()
			}
			if placed != replicas {
				b.Fatalf("placed %d", placed)
			}
		}
		reportCPU(b, began, replicas)
	})
	s = After(s, Decide(s))
	b.Run("nothing", func(b *testing.B) {
		b.ReportAllocs()
		began := cpuTime(b)
		for b.Loop() {
			if ds := Decide(s); len(ds) != 0 {
				b.Fatal(ds[0])
			}
		}
		reportCPU(b, began, 0)
	})
	s.Hosts[17].State = Lost
	b.Run("host lost", func(b *testing.B) {
		b.ReportAllocs()
		began := cpuTime(b)
		for b.Loop() {
			moved := 0
			for _, d := range Decide(s) {
				if d.Kind == Move {
					moved += d.Instances.Len()
				}
			}
			if moved != replicas/hosts {
				b.Fatalf("moved %d", moved)
			}
		}
		reportCPU(b, began, 0)
	})
}
