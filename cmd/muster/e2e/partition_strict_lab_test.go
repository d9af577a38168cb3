//go:build lab

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tick writes its process ID and the time since boot, which all processes of this machine share, every 50 ms into a log
// that all hosts share.
const tick = `#!/bin/sh
while :; do
  read -r up rest </proc/uptime
  echo "$$ $up" >>"$1"
  sleep 0.05
done
`

// strictUnits adds a unit of which never two may run, and one that a host without contact to the store stops, on each host.
func strictUnits(dir string) (clusterFile string, units map[string]string) {
	return "  - file: units/tick.service\n  - file: units/shy@.service\n    instances: [1..6]\n", map[string]string{
		"tick.sh":      tick,
		"tick.service": fmt.Sprintf("[Service]\nExecStart=/bin/sh %[1]s/units/tick.sh %[1]s/ticks\n[X-Muster]\nSingleton=strict\n", dir),
		"shy@.service": napUnit + "\n[X-Fleet]\nConflicts=shy@*.service\n[X-Muster]\nOnPartition=stop\n",
	}
}

// TestStrictPartitions cuts off the host that has a strict unit, in every way. It never runs twice.
func TestStrictPartitions(t *testing.T) {
	p := newPartitioned(t, 7, strictUnits)
	for name, cut := range map[string]func(host string) []rule{
		"the host": func(host string) []rule { return apart(host) }, "hears nothing": deaf, "says nothing": mute,
	} {
		t.Run(name, func(t *testing.T) {
			defer p.within(t)()
			host := hostsOf(p.eventually(convergence, whole(6, 3, p.units)), "tick.")[0]
			p.net.cut(cut(host)...)
			p.awaitElsewhere([]string{host}, map[string]bool{"tick.service": true})
			for _, process := range p.hostProcesses(host, false) {
				if process.unit == "tick.service" || strings.HasPrefix(process.unit, "shy@") {
					t.Errorf("%s still runs on %s, which is cut off", process.unit, host)
				}
			}
			p.net.cut()
			p.converge()
		})
	}
	p.neverTwice()
}

// neverTwice reads when each process of the strict unit ran.
func (p *partitioned) neverTwice() {
	p.t.Helper()
	file, err := os.Open(filepath.Join(p.dir, "ticks"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	type run struct{ pid, first, last float64 }
	runs := map[float64]*run{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var pid, at float64
		if _, err := fmt.Sscan(lines.Text(), &pid, &at); err != nil {
			p.t.Fatalf("%q: %v", lines.Text(), err)
		}
		if runs[pid] == nil {
			runs[pid] = &run{pid: pid, first: at, last: at}
		}
		runs[pid].last = max(runs[pid].last, at)
	}
	var all []*run
	for _, r := range runs {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *run) int { return int(100 * (a.first - b.first)) })
	for i := 1; i < len(all); i++ {
		gap := time.Duration((all[i].first - all[i-1].last) * float64(time.Second))
		p.t.Logf("the strict unit ran nowhere for %v", gap.Round(10*time.Millisecond))
		if gap < 0 {
			p.t.Errorf("processes %.0f and %.0f of the strict unit ran at once for %v", all[i-1].pid, all[i].pid, -gap)
		}
	}
}
