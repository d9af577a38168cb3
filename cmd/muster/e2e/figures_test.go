package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkUp measures `muster up` from nothing to all hosts ready and eight units running. What three embedded etcd
// members alone need is BenchmarkForm of cluster/voter; `make bench` runs both.
func BenchmarkUp(b *testing.B) {
	for _, hosts := range []int{3, 10} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				c := sleepers(b, hosts, 3, 8)
				b.StartTimer()
				c.must("up", "--yes")
				b.StopTimer()
				c.eventually(30*time.Second, whole(hosts, 3, 8))
				c.destroy()
			}
		})
	}
}

// BenchmarkFailover kills a host's process tree, each of three voters in turn, and measures how long its units run
// nowhere, with a lease of 5 s. Run it with -benchtime 20x.
func BenchmarkFailover(b *testing.B) {
	c := sleepers(b, 3, 3, 6)
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))
	var gaps []time.Duration
	for i := range b.N {
		host := fmt.Sprintf("node-%d", i%3+1)
		units, instance := c.unitsOf(host), c.dirOf(host).instance
		c.signal(syscall.SIGKILL, c.hostProcesses(host, false))
		killed := time.Now()
		for !c.runOutside(instance, units) {
			if time.Since(killed) > time.Minute {
				b.Fatalf("units of %s do not run elsewhere: %v", host, units)
			}
			<-time.After(10 * time.Millisecond)
		}
		gaps = append(gaps, time.Since(killed))
		b.StopTimer()
		c.must("up", "--yes")
		c.eventually(30*time.Second, whole(3, 3, 6))
		c.must("units", "stop", "nap@{1..6}.service") // spread them evenly again
		c.must("units", "start", "nap@{1..6}.service")
		b.StartTimer()
	}
	slices.Sort(gaps)
	b.ReportMetric(gaps[len(gaps)/2].Seconds(), "s-median")
	b.ReportMetric(gaps[len(gaps)-1].Seconds(), "s-max")
}

// unitsOf lists the units that have processes on a host.
func (c *cluster) unitsOf(host string) []string {
	var units []string
	for _, p := range c.hostProcesses(host, false) {
		if p.unit != "" && !slices.Contains(units, p.unit) {
			units = append(units, p.unit)
		}
	}
	return units
}

// runOutside reports whether each of the units has a process on another host than the one of instance.
func (c *cluster) runOutside(instance string, units []string) bool {
	have := map[string]bool{}
	for _, p := range c.processes() {
		have[p.unit] = have[p.unit] || p.instance != instance
	}
	return !slices.ContainsFunc(units, func(unit string) bool { return !have[unit] })
}

// BenchmarkMemory reports the resident set of an idle voter and of an idle host that does not vote.
func BenchmarkMemory(b *testing.B) {
	c := sleepers(b, 4, 3, 4)
	c.must("up", "--yes")
	s := c.eventually(30*time.Second, whole(4, 3, 4))
	<-time.After(30 * time.Second) // idle
	largest := map[string]float64{}
	for _, h := range s.Hosts {
		kind := map[bool]string{true: "MiB-voter", false: "MiB-host"}[h.Voter]
		for _, p := range c.hostProcesses(h.Name, true) {
			largest[kind] = max(largest[kind], residentMiB(b, p.pid))
		}
	}
	for kind, size := range largest {
		b.ReportMetric(size, kind)
	}
}

func residentMiB(b *testing.B, pid int) float64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// BenchmarkHelp measures the start of the CLI.
func BenchmarkHelp(b *testing.B) {
	for range b.N {
		if err := exec.Command(filepath.Join(binDir, "muster"), "--help").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
