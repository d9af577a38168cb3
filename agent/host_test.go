package agent

import (
	"context"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/cluster/store"
)

// inBubble runs a test with hosts in virtual time.
func inBubble(t *testing.T, hosts int, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hosts)
		time.Sleep(time.Second)
		test(w)
	})
}

func TestUnitsRun(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		w.submit("web@1.service", body, store.DesiredLaunched)
		w.submit("web@2.service", body, store.DesiredLaunched)
		w.submit("web@3.service", body, store.DesiredLoaded)
		time.Sleep(time.Second)
		w.expect("launched", "1: web@1.service", "2: web@2.service")
		states := map[string]string{}
		for _, u := range w.view().Status(nil).Units {
			states[u.Name] = u.Host + " " + u.State
		}
		for name, want := range map[string]string{
			"web@1.service": "node-1 running", "web@2.service": "node-2 running", "web@3.service": "node-1 stopped",
		} {
			if states[name] != want {
				t.Errorf("%s is %q, want %q", name, states[name], want)
			}
		}

		w.submit("web@1.service", body+"Restart=always\n", store.DesiredLaunched)
		time.Sleep(time.Second)
		if n := w.hosts[1].runtime.started("web@1.service"); n != 2 {
			t.Errorf("a unit with new contents was started %d times, want 2", n)
		}
		w.hosts[2].runtime.fail("web@2.service", "exit status 3")
		time.Sleep(time.Second)
		for _, u := range w.view().Status(nil).Units {
			if u.Name == "web@2.service" && (u.State != api.UnitFailed || u.Reason != "exit status 3") {
				t.Errorf("a unit that failed is %+v", u)
			}
		}
	})
}

// TestFailover kills a host: what it ran runs elsewhere one lease later, and is stopped there when the host comes back
// with its units still running.
func TestFailover(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		w.submit("a.service", body, store.DesiredLaunched)
		w.submit("b.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		w.expect("before", "1: a.service", "2: b.service")

		killed := time.Now()
		w.hosts[1].conn.Cut()
		for len(w.hosts[2].runtime.active()) < 2 {
			time.Sleep(10 * time.Millisecond)
			if time.Since(killed) > simLease+time.Second {
				t.Fatalf("nothing has moved %v after the host was lost", time.Since(killed))
			}
		}
		w.expect("a host is cut off", "1: a.service", "2: a.service b.service")

		w.hosts[1].conn.Heal()
		time.Sleep(10 * time.Second)
		w.expect("it is back", "1:", "2: a.service b.service")
		if !w.view().Ready(id(1)) {
			t.Error("the host did not begin another session")
		}
	})
}

// TestDrain removes a unit that takes long to stop, while others come and go on the same host.
func TestDrain(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.hosts[1].runtime.delay("slow.service", time.Minute)
		w.submit("slow.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		w.commit(store.Delete(store.UnitKey("slow.service")))
		time.Sleep(time.Second)
		w.submit("quick.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		w.expect("while the first one stops", "1: quick.service")
		units := w.view().Status(nil).Units
		if len(units) != 2 || units[1].Name != "slow.service" || units[1].State != api.UnitStopping {
			t.Errorf("the status says %+v", units)
		}
		time.Sleep(time.Minute)
		if units := w.view().Status(nil).Units; len(units) != 1 {
			t.Errorf("after it has stopped the status says %+v", units)
		}
		if n := w.hosts[1].runtime.stopped("slow.service"); n != 1 {
			t.Errorf("it was stopped %d times", n)
		}
	})
}

// TestAgentRestart ends an agent and starts another: units go on, nothing is started again, and nobody takes the host for
// lost.
func TestAgentRestart(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		w.submit("a.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		w.hosts[1].stop()
		time.Sleep(simLease / 2)
		w.hosts[1].start()
		time.Sleep(time.Minute)
		w.expect("after", "1: a.service", "2:")
		if n := w.hosts[1].runtime.started("a.service"); n != 1 {
			t.Errorf("it was started %d times", n)
		}
	})
}

// TestExited does not start units again that have ended by themselves, not after a restart of the agent either; after one
// of the host it does.
func TestExited(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		h := w.hosts[1]
		w.submit("once.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		h.runtime.exit("once.service")
		time.Sleep(time.Minute)
		h.stop()
		h.start()
		time.Sleep(time.Minute)
		if n := h.runtime.started("once.service"); n != 1 {
			t.Errorf("it was started %d times, want once", n)
		}
		if u := w.view().Status(nil).Units[0]; u.State != api.UnitExited || u.Reason == "" {
			t.Errorf("the status says %+v", u)
		}
		h.stop()
		h.reboot()
		h.start()
		time.Sleep(time.Minute)
		if n := h.runtime.started("once.service"); n != 2 {
			t.Errorf("it was started %d times after a boot, want twice", n)
		}
	})
}

// TestRoomIsMade starts a unit that takes another's place when that one has stopped, but does not wait for ever.
func TestRoomIsMade(t *testing.T) {
	for name, c := range map[string]struct{ stopping, starts time.Duration }{
		"one that stops soon":  {room / 2, room / 2},
		"one that takes hours": {time.Hour, room},
	} {
		inBubble(t, 1, func(w *world) {
			w.hosts[1].runtime.delay("old.service", c.stopping)
			w.submit("old.service", body, store.DesiredLaunched)
			time.Sleep(time.Second)
			began := time.Now()
			data, err := store.Marshal(store.UnitRecord{File: store.FileSum([]byte(body)), Desired: store.DesiredLaunched})
			if err != nil {
				t.Fatal(err)
			}
			w.commit(store.Delete(store.UnitKey("old.service")), store.Put(store.UnitKey("new.service"), data))
			for !slices.Equal(w.hosts[1].runtime.active(), []string{"new.service"}) {
				time.Sleep(time.Millisecond)
				if time.Since(began) > 2*room {
					t.Fatalf("%s: the new unit has not started", name)
				}
			}
			if took := time.Since(began); took < c.starts || took > c.starts+200*time.Millisecond {
				t.Errorf("%s: the new unit started after %v, want %v", name, took, c.starts)
			}
			time.Sleep(time.Hour)
		})
	}
}

// TestStoreAway takes the store away for long: nothing stops, and all is as it was afterwards.
func TestStoreAway(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		w.submit("a.service", body, store.DesiredLaunched)
		w.submit("b.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		w.store.SetQuorum(false)
		time.Sleep(time.Hour)
		w.expect("without a store", "1: a.service", "2: b.service")

		// An agent that starts now knows from disk what its host shall have.
		w.hosts[1].stop()
		w.hosts[1].reboot()
		w.hosts[1].start()
		time.Sleep(time.Minute)
		w.expect("a host boots without a store", "1: a.service", "2: b.service")

		w.store.SetQuorum(true)
		time.Sleep(time.Minute)
		w.expect("it is back", "1: a.service", "2: b.service")
		for n, name := range map[int]string{1: "a.service", 2: "b.service"} {
			if stops := w.hosts[n].runtime.stopped(name); stops != 0 {
				t.Errorf("%s was stopped %d times", name, stops)
			}
			if !w.view().Ready(id(n)) {
				t.Errorf("host %d is not ready", n)
			}
		}
	})
}

// TestEmptyStore wipes the store: nothing stops, whether agents run through it or start after it.
func TestEmptyStore(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.submit("a.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		w.commit(store.DeletePrefix(store.Prefix))
		time.Sleep(time.Minute)
		w.expect("the store was emptied", "1: a.service")
		w.hosts[1].stop()
		w.hosts[1].start()
		time.Sleep(time.Minute)
		w.expect("an agent starts with an empty store", "1: a.service")
		if n := w.hosts[1].runtime.stopped("a.service"); n != 0 {
			t.Errorf("it was stopped %d times", n)
		}
	})
}

// TestNeverTold has units on a host whose agent was never told of a schedule: they are not its to stop.
func TestNeverTold(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		h := w.hosts[1]
		h.stop()
		if err := h.runtime.Load(w.t.Context(), runtime.Unit{Name: "a.service", Hash: "x"}); err != nil {
			t.Fatal(err)
		}
		if err := h.runtime.Start(w.t.Context(), "a.service"); err != nil {
			t.Fatal(err)
		}
		h.start()
		time.Sleep(time.Minute)
		w.expect("no schedule", "1: a.service")
		write(w, store.ScheduleKey(id(1)), store.Marshal[store.ScheduleRecord], store.ScheduleRecord{})
		time.Sleep(time.Minute)
		w.expect("an empty one", "1:")
	})
}

// TestStatesAreRewritten loses a host's record: it comes back with the next session.
func TestStatesAreRewritten(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.submit("a.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		written := w.view().States[id(1)].Revision
		time.Sleep(time.Hour)
		if now := w.view().States[id(1)].Revision; now != written {
			t.Errorf("states that have not changed were written again, at %d and %d", written, now)
		}
		w.commit(store.Delete(store.StatesKey(id(1))))
		w.hosts[1].conn.Cut()
		time.Sleep(2 * simLease)
		w.hosts[1].conn.Heal()
		time.Sleep(10 * time.Second)
		if states := w.view().States[id(1)].Record.Units; len(states) != 1 || states[0].Active != "active" {
			t.Errorf("the host says %+v", states)
		}
	})
}

// TestCoalescing has a unit change all the time: its host reports no more often than it may.
func TestCoalescing(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.submit("a.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		var writes int
		ctx, cancel := context.WithCancel(w.t.Context())
		watch := w.store.Watch(ctx, store.PrefixStates, w.view().Revision)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range watch {
				writes++
			}
		}()
		for range 1000 {
			w.hosts[1].runtime.fail("a.service", "exit status 1")
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		cancel()
		<-done
		if most := int(time.Second/coalesce) + 2; writes > most || writes < most/2 {
			t.Errorf("%d reports in a second of changes, want about %d", writes, most)
		}
	})
}

// TestMissingFile schedules a unit whose file is nowhere; the host says so, and runs it when the file is there.
func TestMissingFile(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		sum := store.FileSum([]byte(body))
		write(w, store.UnitKey("a.service"), store.Marshal[store.UnitRecord], store.UnitRecord{File: sum, Desired: store.DesiredLaunched})
		time.Sleep(10 * time.Second)
		units := w.view().Status(nil).Units
		if len(units) != 1 || units[0].State != api.UnitFailed || units[0].Reason == "" {
			t.Errorf("the status says %+v", units)
		}
		w.commit(store.Put(store.FileKey(sum), []byte("something else")))
		time.Sleep(2 * lastRetry)
		w.expect("contents that do not have the hash", "1:")
		w.commit(store.Put(store.FileKey(sum), []byte(body)))
		time.Sleep(2 * lastRetry)
		w.expect("the right contents", "1: a.service")
	})
}

// TestFilesAreKept keeps on disk the files of this host's units and no others.
func TestFilesAreKept(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		kept := func() []string {
			entries, err := os.ReadDir(w.hosts[1].dir + "/files")
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			return names
		}
		w.submit("a.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		if got := kept(); !slices.Equal(got, []string{store.FileSum([]byte(body))}) {
			t.Errorf("kept %v", got)
		}
		w.submit("a.service", body+"# more\n", store.DesiredLaunched)
		time.Sleep(time.Minute)
		if got := kept(); !slices.Equal(got, []string{store.FileSum([]byte(body + "# more\n"))}) {
			t.Errorf("kept %v after a change", got)
		}
	})
}
