//go:build lab

package systemd

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/runtimetest"
	"github.com/musterhq/muster/agent/runtime/systemd/nspawntest"
)

// TestFigures tells what units cost: MUSTER_TEST_UNITS of them, or 100; of 1,000 and more also a minute of rest. Nothing
// fails for being slow.
func TestFigures(t *testing.T) {
	n := 100
	if text := os.Getenv("MUSTER_TEST_UNITS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // for all; a machine may be slow and busy
	defer cancel()
	host := startHost(t, "figures")
	h := runtimetest.NewHost(t, fromOutside(host))
	m := meter{t: t, host: host, bus: busPID(t, host)}
	unit := func(i int) runtime.Unit {
		return runtimetest.Unit(t, fmt.Sprintf("a@%d.service", i), "ExecStart=/bin/sleep 100000\n")
	}
	each := func(what string, f func(ctx context.Context, i int) error) {
		m.measure(fmt.Sprintf("%s %d units", what, n), func() {
			var g errgroup.Group
			g.SetLimit(16) // as the agent does
			for i := range n {
				g.Go(func() error { return f(ctx, i) })
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
		})
	}
	name := func(i int) string { return fmt.Sprintf("a@%d.service", i) }
	each("load", func(ctx context.Context, i int) error { return h.Load(ctx, unit(i)) })
	each("start", func(ctx context.Context, i int) error { return h.Start(ctx, name(i)) })
	m.measure("see them active", func() {
		for i := range n {
			h.AwaitState(name(i), "active", "running")
		}
	})
	m.measure("list 1000 times", func() {
		for range 1000 {
			if list, err := h.List(ctx); err != nil || len(list) != n {
				t.Fatal(len(list), err)
			}
		}
	})
	rest := 10 * time.Second
	if n >= 1000 {
		<-time.After(rest) // what was begun comes to its end
		rest = time.Minute
	}
	m.measure(fmt.Sprintf("idle for %v", rest), func() { <-time.After(rest) })
	m.measure("close and open again", h.Open)
	other := runtimetest.Unit(t, name(0), "ExecStart=/bin/sleep 200000\n")
	m.measure("replace the contents of one", func() {
		if err := h.Load(ctx, other); err != nil {
			t.Fatal(err)
		}
	})
	each("stop", func(ctx context.Context, i int) error { return h.Stop(ctx, name(i)) })
	each("unload", func(ctx context.Context, i int) error { return h.Unload(ctx, name(i)) })
}

// meter measures processor time: of systemd, of the bus, and of this program.
type meter struct {
	t    *testing.T
	host *nspawntest.Host
	bus  int
}

func (m meter) measure(what string, f func()) {
	m.t.Helper()
	systemd, bus, self, begin := m.host.CPU(m.t, 1), m.host.CPU(m.t, m.bus), selfCPU(m.t), time.Now()
	f()
	m.t.Logf("%-28s wall %6v   CPU systemd %6v bus %6v agent %6v", what, time.Since(begin).Round(time.Millisecond),
		m.host.CPU(m.t, 1)-systemd, m.host.CPU(m.t, m.bus)-bus, (selfCPU(m.t) - self).Round(time.Millisecond))
}

func selfCPU(t *testing.T) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func busPID(t *testing.T, host *nspawntest.Host) int {
	text := host.Run(t, "systemctl", "show", "--property=MainPID", "--value", "dbus.service")
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
