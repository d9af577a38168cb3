package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/cluster/store"
)

// version is a unit file that is rolled out two at a time.
func version(n int, more string) string {
	return fmt.Sprintf("[Service]\nExecStart=/bin/sleep %d\n%s", n, more)
}

const twoAtATime = "[X-Muster]\nUpdateParallel=2\nHealthCheck=exec:/bin/check\nHealthStartPeriod=3s\nHealthInterval=1s\n"

func (w *world) put(name, content string, desired store.Desired) {
	w.t.Helper()
	admin := &control.Admin{Store: w.store, Log: quiet(), Now: time.Now}
	if _, err := admin.PutUnit(w.t.Context(), api.Unit{Name: name, Content: content, Desired: string(desired)}); err != nil {
		w.t.Fatal(err)
	}
}

// settled waits until the rollout of a unit is over, and tells how many units were away at once meanwhile.
func (w *world) settled(unit string) (r api.Rollout, away int) {
	w.t.Helper()
	for range 60 * 200 {
		time.Sleep(50 * time.Millisecond)
		s := w.view().Status(nil)
		i := slices.IndexFunc(s.Rollouts, func(r api.Rollout) bool { return r.Unit == unit })
		if i < 0 {
			w.t.Fatalf("%s has no rollout", unit)
		}
		if r = s.Rollouts[i]; !r.Active() || r.Paused {
			return r, away
		}
		unwell := 0
		for _, u := range s.Units {
			if u.Replicas == nil && u.Desired == "launched" && (u.State != api.UnitRunning || u.Health != "" && u.Health != "healthy") {
				unwell++
			}
		}
		away = max(away, unwell)
	}
	w.t.Fatalf("not over after ten minutes: %+v", r)
	return r, away
}

// have counts the units that run on all hosts by their contents.
func (w *world) have() map[string]int {
	files := map[string]int{}
	for _, h := range w.hosts {
		list, _ := h.runtime.List(w.t.Context())
		for _, s := range list {
			files[s.RunningHash]++
		}
	}
	return files
}

func (w *world) wantAll(what, content string, n int) {
	w.t.Helper()
	if have := w.have(); len(have) != 1 || have[store.FileSum([]byte(content))] != n {
		w.t.Errorf("%s: %v run, want %d of one", what, have, n)
	}
}

// rollsOut tries every kind of rollout: a good one, and a bad one, which goes back.
func rollsOut(t *testing.T, first func(w *world, content string), unit, more string, members int) {
	inBubble(t, 3, func(w *world) {
		one, two, three := version(1, more), version(2, more), version(3, more)
		first(w, one)
		time.Sleep(10 * time.Second)
		w.wantAll("at first", one, members)

		w.put(unit, two, "")
		r, away := w.settled(unit)
		w.wantAll("a good one", two, members)
		if r.Phase != "done" || away > 2 || away == 0 && members > 1 { // one alone may be back between two looks
			t.Errorf("a good one: %+v, %d away at once", r, away)
		}

		w.ill.Store(store.FileSum([]byte(three)), true)
		w.put(unit, three, "")
		r, away = w.settled(unit)
		time.Sleep(5 * time.Second)
		w.wantAll("a bad one", two, members)
		if r.Phase != "failed" || away > 2 || !strings.Contains(r.Reason, "is unhealthy: exit status 1") {
			t.Errorf("a bad one: %+v, %d away at once", r, away)
		}
		if record := w.view().Units[unit].Record; record.File != store.FileSum([]byte(two)) {
			t.Errorf("the unit has other contents than what runs: %+v", record)
		}
		if warnings := w.view().Status(nil).Warnings; len(warnings) != 1 || !strings.Contains(warnings[0], "failed and was rolled back") {
			t.Errorf("warnings %q", warnings)
		}

		w.ill.Clear()
		w.put(unit, three, "")
		if r, _ = w.settled(unit); r.Phase != "done" {
			t.Errorf("submitted anew: %+v", r)
		}
		w.wantAll("submitted anew", three, members)
	})
}

func TestRolloutOfReplicas(t *testing.T) {
	rollsOut(t, func(w *world, content string) {
		w.put("web@.service", content, store.DesiredLaunched)
	}, "web@.service", twoAtATime+"Replicas=6\n", 6)
}

func TestRolloutOfGlobalUnit(t *testing.T) {
	rollsOut(t, func(w *world, content string) {
		w.put("a.service", content, store.DesiredLaunched)
	}, "a.service", twoAtATime+"[X-Fleet]\nGlobal=true\n", 3)
}

func TestRolloutOfFamily(t *testing.T) {
	rollsOut(t, func(w *world, content string) {
		w.put("web@.service", content, "")
		for i := range 5 {
			w.put(fmt.Sprintf("web@%d.service", i+1), "", store.DesiredLaunched)
		}
	}, "web@.service", twoAtATime, 5)
}

func TestRolloutOfOneUnit(t *testing.T) {
	rollsOut(t, func(w *world, content string) { w.put("a.service", content, store.DesiredLaunched) }, "a.service", twoAtATime, 1)
}

// TestRolloutWaitsWithoutHealthCheck: what has run for some seconds is well, and what fails is not.
func TestRolloutWaitsWithoutHealthCheck(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		const more = "[X-Muster]\nUpdateParallel=50%\nUpdateDelay=20s\nReplicas=6\n"
		w.put("web@.service", version(1, more), store.DesiredLaunched)
		time.Sleep(10 * time.Second)
		w.put("web@.service", version(2, more), "")
		began := time.Now()
		if r, _ := w.settled("web@.service"); r.Phase != "done" || time.Since(began) < 30*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), r)
		}
		w.put("web@.service", version(3, more), "")
		time.Sleep(2 * time.Second)
		w.hosts[1].runtime.fail("web@1.service", "exit status 3")
		if r, _ := w.settled("web@.service"); r.Phase != "failed" || !strings.Contains(r.Reason, "web@1.service on node-1 failed: exit status 3") {
			t.Errorf("%+v", r)
		}
		w.wantAll("at last", version(2, more), 6)
	})
}

// TestRolloutVerbs pauses, resumes, undoes.
func TestRolloutVerbs(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		const more = twoAtATime + "UpdateDelay=30s\nReplicas=6\n"
		admin := &control.Admin{Store: w.store, Log: quiet(), Now: time.Now}
		turn := func(verb string) {
			t.Helper()
			if err := admin.ChangeRollout(t.Context(), "web@.service", verb); err != nil {
				t.Fatal(err)
			}
		}
		w.put("web@.service", version(1, more), store.DesiredLaunched)
		time.Sleep(10 * time.Second)
		w.put("web@.service", version(2, more), "")
		time.Sleep(time.Second)
		turn(api.RolloutPause)
		time.Sleep(10 * time.Minute)
		if r, _ := w.settled("web@.service"); r.Updated != 2 || !r.Paused {
			t.Errorf("paused: %+v", r)
		}
		if _, err := admin.PutUnit(t.Context(), api.Unit{Name: "web@.service", Content: version(3, more)}); err == nil ||
			!strings.Contains(err.Error(), "a rollout of other contents of web@.service is updating") {
			t.Errorf("another one meanwhile: %v", err)
		}
		turn(api.RolloutResume)
		time.Sleep(35 * time.Second)
		turn(api.RolloutUndo)
		if r, _ := w.settled("web@.service"); r.Phase != "undone" {
			t.Errorf("undone: %+v", r)
		}
		time.Sleep(5 * time.Second)
		w.wantAll("undone", version(1, more), 6)
		if err := admin.ChangeRollout(t.Context(), "web@.service", api.RolloutUndo); err == nil {
			t.Error("undone twice")
		}
		w.put("web@.service", version(2, more), "")
		if r, away := w.settled("web@.service"); r.Phase != "done" || away > 2 {
			t.Errorf("again: %+v, %d", r, away)
		}
		turn(api.RolloutUndo)
		if r, away := w.settled("web@.service"); r.Phase != "done" || away > 2 {
			t.Errorf("undone when it was done: %+v, %d", r, away)
		}
		w.wantAll("undone when it was done", version(1, more), 6)
	})
}

// TestRolloutScales: more replicas are no other contents, also while a rollout is under way.
func TestRolloutScales(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		const more = twoAtATime + "UpdateDelay=10s\n"
		w.put("web@.service", version(1, more+"Replicas=4\n"), store.DesiredLaunched)
		time.Sleep(10 * time.Second)
		w.put("web@.service", version(1, more+"Replicas=6\n"), "")
		time.Sleep(10 * time.Second)
		if s := w.view().Status(nil); len(s.Rollouts) > 0 || w.hosts[1].runtime.started("web@1.service") != 1 {
			t.Errorf("more replicas: %+v", s.Rollouts)
		}
		w.put("web@.service", version(2, more+"Replicas=6\n"), "")
		time.Sleep(5 * time.Second)
		w.put("web@.service", version(2, more+"Replicas=8\n"), "")
		if r, away := w.settled("web@.service"); r.Phase != "done" || r.Total != 8 || away > 5 {
			t.Errorf("%+v, %d away", r, away)
		}
		for _, h := range w.hosts {
			for name, n := range h.runtime.starts {
				if n > 2 {
					t.Errorf("%s was started %d times", name, n)
				}
			}
		}
	})
}
