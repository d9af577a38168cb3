package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/cluster/store"
)

// fakeGuard kills strict units of a fakeRuntime on time, whatever becomes of the agent. It fails the test when one is
// started beside another. f.mu is held in all but Hold and Held.
type fakeGuard struct {
	h      *simHost
	strict map[string]bool
	until  time.Duration // since w.began
	held   bool
	killed bool
	timer  *time.Timer
}

func (w *world) guards(h *simHost) *fakeGuard { return &fakeGuard{h: h, strict: map[string]bool{}} }

func (g *fakeGuard) loaded(u runtime.Unit) {
	if g != nil {
		g.strict[u.Name] = u.File.Muster(u.Name).Strict
	}
}

func (g *fakeGuard) starts(name string) error {
	switch {
	case g == nil || !g.strict[name]:
		return nil
	case !g.held || time.Since(g.h.w.began) >= g.until:
		return runtime.ErrNotHeld
	}
	for _, other := range g.h.w.hosts {
		if other != g.h {
			if s := other.runtime.status(name); s == "active" || s == "deactivating" {
				g.h.w.t.Errorf("%v: %s starts on host %d and is %s on host %d", time.Since(g.h.w.began), name, g.h.n, s, other.n)
			}
		}
	}
	return nil
}

// status is systemd's word for a unit. Hosts of a test start nothing at the same instant, so the locks are never crossed.
func (f *fakeRuntime) status(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.units[name]; s != nil {
		return s.Active
	}
	return ""
}

func (f *fakeRuntime) Holds() bool { return f.guard != nil }

func (f *fakeRuntime) Held() (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.guard.until, f.guard.held
}

func (f *fakeRuntime) Hold(until time.Duration) (killed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.guard
	killed, g.killed, g.until, g.held = g.killed, false, until, true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.timer = time.AfterFunc(until-time.Since(g.h.w.began), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if time.Since(g.h.w.began) < g.until {
			return
		}
		g.held = false
		for name, s := range f.units {
			if g.strict[name] && s.Active != "inactive" && s.Active != "failed" {
				s.Active, s.Sub, s.Reason, s.RunningHash, g.killed = "failed", "failed", "killed by SIGKILL", "", true
			}
		}
		f.tell()
	})
	return killed, nil
}

const (
	strictBody = body + "[X-Muster]\nSingleton=strict\n"
	stopBody   = body + "[X-Muster]\nOnPartition=stop\n"
)

// ofPartition submits a unit as a voter would.
func (w *world) ofPartition(name, content string, p store.Partition) {
	w.t.Helper()
	sum := store.FileSum([]byte(content))
	data, err := store.Marshal(store.UnitRecord{File: sum, Desired: store.DesiredLaunched, Partition: p})
	if err != nil {
		w.t.Fatal(err)
	}
	w.commit(store.Put(store.FileKey(sum), []byte(content)), store.Put(store.UnitKey(name), data))
}

func strictly(t *testing.T, hosts int, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, hosts, true)
		time.Sleep(time.Second)
		test(w)
	})
}

// TestStrictCutOff cuts the host of a strict unit off: it stops there before its session ends, and runs elsewhere after
// two. When the host is back it runs once.
func TestStrictCutOff(t *testing.T) {
	strictly(t, 2, func(w *world) {
		w.ofPartition("db.service", strictBody, store.PartitionStrict)
		w.ofPartition("cache.service", stopBody, store.PartitionStop)
		time.Sleep(time.Second)
		w.expect("before", "1: cache.service", "2: db.service")
		w.hosts[2].conn.Cut()
		time.Sleep(simLease - time.Second)
		w.expect("it stops before the session ends", "1: cache.service", "2:")
		states, err := w.hosts[2].states(w.t)
		if err != nil || len(states) != 1 || states[0].Sub != store.SubCutOff || !strings.Contains(states[0].Reason, "no contact with the store since") {
			t.Errorf("the host says %+v, %v", states, err)
		}
		time.Sleep(simLease - time.Second)
		w.expect("nobody may have it yet", "1: cache.service", "2:")
		time.Sleep(2 * time.Second)
		w.expect("it has moved", "1: cache.service db.service", "2:")
		w.hosts[2].conn.Heal()
		time.Sleep(10 * time.Second)
		w.expect("the host is back", "1: cache.service db.service", "2:")
		w.hosts[1].conn.Cut()
		time.Sleep(2 * simLease)
		w.expect("both have moved", "1:", "2: cache.service db.service")
	})
}

// TestStrictShortCut cuts a host off for less than its session: nothing happens.
func TestStrictShortCut(t *testing.T) {
	strictly(t, 2, func(w *world) {
		w.ofPartition("db.service", strictBody, store.PartitionStrict)
		time.Sleep(time.Second)
		for range 20 {
			w.hosts[1].conn.Cut()
			time.Sleep(1200 * time.Millisecond)
			w.hosts[1].conn.Heal()
			time.Sleep(2 * time.Second)
		}
		if n := w.hosts[1].runtime.started("db.service"); n != 1 {
			t.Errorf("it was started %d times", n)
		}
	})
}

// TestStrictAgentDies ends the agent for good, and for moments: a guard kills the unit in time, or nothing happens.
func TestStrictAgentDies(t *testing.T) {
	strictly(t, 2, func(w *world) {
		w.ofPartition("db.service", strictBody, store.PartitionStrict)
		w.ofPartition("cache.service", stopBody, store.PartitionStop)
		time.Sleep(time.Second)
		w.hosts[2].stop()
		time.Sleep(time.Second)
		w.hosts[2].start()
		time.Sleep(time.Minute)
		w.expect("after a restart", "1: cache.service", "2: db.service")
		if n := w.hosts[2].runtime.started("db.service"); n != 1 {
			t.Errorf("it was started %d times", n)
		}
		w.hosts[1].stop()
		w.hosts[2].stop()
		time.Sleep(simLease - time.Second)
		w.expect("without agents", "1: cache.service", "2:")
		w.hosts[2].start()
		time.Sleep(simLease)
		w.expect("one is back", "1: cache.service", "2: cache.service db.service")
	})
}

// TestStrictMoves has a strict unit leave a host that takes its time to stop it.
func TestStrictMoves(t *testing.T) {
	strictly(t, 2, func(w *world) {
		w.ofPartition("db.service", strictBody, store.PartitionStrict)
		time.Sleep(time.Second)
		w.hosts[1].runtime.delay("db.service", time.Minute)
		w.ofPartition("db.service", strictBody+"[X-Fleet]\nMachineID="+id(2)+"\n", store.PartitionStrict)
		time.Sleep(50 * time.Second)
		w.expect("while it stops", "1:", "2:")
		for _, u := range w.view().Status(nil).Units {
			if u.Host != "node-1" || u.State != "stopping" || !strings.Contains(u.Reason, "Singleton=strict") {
				t.Errorf("the status says %+v", u)
			}
		}
		time.Sleep(20 * time.Second)
		w.expect("it has stopped", "1:", "2: db.service")
		// Removed and submitted again, it is not somewhere else at once either.
		w.hosts[2].runtime.delay("db.service", time.Minute)
		w.commit(store.Delete(store.UnitKey("db.service")))
		time.Sleep(time.Second)
		w.ofPartition("db.service", strictBody+"[X-Fleet]\nMachineID="+id(1)+"\n", store.PartitionStrict)
		time.Sleep(30 * time.Second)
		w.expect("while it stops again", "1:", "2:")
		time.Sleep(40 * time.Second)
		w.expect("it has stopped again", "1: db.service", "2:")
	})
}

// TestStrictByMistake ends a session by mistake, as a store may, and removes a host that lives and is cut off.
func TestStrictByMistake(t *testing.T) {
	strictly(t, 2, func(w *world) {
		w.ofPartition("db.service", strictBody, store.PartitionStrict)
		time.Sleep(1500 * time.Millisecond)
		for range 5 {
			w.commit(store.Delete(store.AliveKey(id(1))))
			time.Sleep(1700 * time.Millisecond)
		}
		if n := w.hosts[1].runtime.started("db.service"); n != 1 {
			t.Errorf("it was started %d times", n)
		}
		w.hosts[1].conn.Cut()
		w.commit(store.Delete(store.AliveKey(id(1))))
		time.Sleep(3 * simLease)
		w.expect("the session ended just when the host was cut off", "1:", "2: db.service")
		w.hosts[1].conn.Heal()
		time.Sleep(simLease)
		w.hosts[2].conn.Cut()
		w.commit(store.Delete(store.RosterKey(id(2))), store.Delete(store.AliveKey(id(2))), store.Delete(store.HostKey(id(2))))
		time.Sleep(3 * simLease)
		w.expect("the host was removed", "1: db.service", "2:")
	})
}

// TestStrictLater makes a unit strict that a host which is cut off runs: nobody else gets it until the host is back.
func TestStrictLater(t *testing.T) {
	strictly(t, 2, func(w *world) {
		w.submit("db.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		w.hosts[1].conn.Cut()
		w.ofPartition("db.service", strictBody, store.PartitionStrict)
		time.Sleep(time.Minute)
		w.expect("cut off", "1: db.service", "2:")
		w.hosts[1].conn.Heal()
		time.Sleep(10 * time.Second)
		total := len(w.hosts[1].runtime.active()) + len(w.hosts[2].runtime.active())
		if total != 1 {
			t.Errorf("%d run after the host is back", total)
		}
	})
}

// TestStrictBoot starts a host without the store: what depends on it is not started, other units are.
func TestStrictBoot(t *testing.T) {
	strictly(t, 1, func(w *world) {
		w.ofPartition("db.service", strictBody, store.PartitionStrict)
		w.ofPartition("cache.service", stopBody, store.PartitionStop)
		w.submit("web.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		w.expect("before", "1: cache.service db.service web.service")
		w.store.SetQuorum(false)
		w.hosts[1].stop()
		w.hosts[1].reboot()
		w.hosts[1].start()
		time.Sleep(time.Minute)
		w.expect("without the store", "1: web.service")
		w.store.SetQuorum(true)
		time.Sleep(10 * time.Second)
		w.expect("with it", "1: cache.service db.service web.service")
	})
}

// TestStrictNeedsGuard leaves strict units alone on hosts that could not kill them.
func TestStrictNeedsGuard(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.ofPartition("db.service", strictBody, store.PartitionStrict)
		time.Sleep(time.Second)
		w.expect("no guard", "1:")
	})
}
