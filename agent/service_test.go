package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// voterStub are three voters of which some are silent.
type voterStub struct{ silent atomic.Int32 }

func (v *voterStub) voters() roster.Roster {
	var list roster.Roster
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		list = append(list, roster.Host{Name: name, Address: "127.0.0.1", Voter: true})
	}
	return list
}

func (v *voterStub) probe(_ context.Context, voters roster.Roster) []fleet.VoterHealth {
	var health []fleet.VoterHealth
	for i, h := range voters {
		s := fleet.VoterHealth{Host: h, Leads: i == 2}
		if i < int(v.silent.Load()) {
			s.Err = errors.New("connection refused")
		}
		s.Leaderless = v.silent.Load() > 1
		health = append(health, s)
	}
	return health
}

// newService is the service of host 1 of a world.
func newService(w *world, v *voterStub) *service {
	return &service{
		store: w.store, self: api.Health{Host: "node-1", ID: id(1)}, cluster: "demo", voters: v.voters, probe: v.probe,
		alive: func() bool { return true }, logs: newLogReader(w.hosts[1].runtime, "node-1"),
		reloads: reloader{runtime: w.hosts[1].runtime, host: "node-1"}, log: quiet(),
	}
}

func TestStatusFreshAndStale(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		v := &voterStub{}
		s := newService(w, v)
		w.submit("a.service", body, store.DesiredLaunched)
		w.submit("b.service", body+"[X-Fleet]\nMachineMetadata=role=db\n", store.DesiredLaunched)
		time.Sleep(time.Second)
		status, err := s.Status(w.t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if status.Stale || status.Cluster != "demo" || status.Scheduler != "leader" || len(status.Hosts) != 2 || len(status.Warnings) != 0 {
			t.Errorf("fresh: %+v", status)
		}
		if b := status.Units[1]; b.State != api.UnitPending || !strings.Contains(b.Reason, "role=db") {
			t.Errorf("a unit that fits nowhere: %+v", b)
		}

		v.silent.Store(2)
		w.store.SetQuorum(false)
		began := time.Now()
		status, err = s.Status(w.t.Context())
		if err != nil || !status.Stale || len(status.Units) != 2 || status.Units[0].State != api.UnitRunning {
			t.Errorf("stale: %+v, %v", status, err)
		}
		if len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "2 of 3 voters do not answer") {
			t.Errorf("warnings: %q", status.Warnings)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it took %v although it was known that there is no quorum", took)
		}
	})
}

// hanging is a store that never answers, but for old views.
type hanging struct{ store.Store }

func (h hanging) Range(ctx context.Context, _ string) (store.View, error) {
	<-ctx.Done()
	return store.View{}, fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
}

// TestHangingStore answers with old records as soon as it is known that the quorum is gone, and else after a while.
func TestHangingStore(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		v := &voterStub{}
		s := newService(w, v)
		s.store = hanging{w.store}
		for silent, want := range map[int32]time.Duration{0: freshTimeout, 2: 0} {
			v.silent.Store(silent)
			began := time.Now()
			status, err := s.Status(w.t.Context())
			if took := time.Since(began); err != nil || !status.Stale || len(status.Hosts) != 1 || took != want {
				t.Errorf("%d silent voters: %+v, %v after %v, want %v", silent, status, err, took, want)
			}
		}
	})
}

// TestWatchStatus shows changes of the records and of the voters, and goes through the loss of the quorum.
func TestWatchStatus(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		v := &voterStub{}
		s := newService(w, v)
		ctx, cancel := context.WithCancel(w.t.Context())
		var current atomic.Pointer[api.Status]
		var seen atomic.Int32
		done := make(chan error, 1)
		go func() {
			done <- s.WatchStatus(ctx, func(st api.Status) bool {
				current.Store(&st)
				seen.Add(1)
				return true
			})
		}()
		time.Sleep(time.Minute)
		if seen.Load() != 1 {
			t.Errorf("%d events although nothing changed", seen.Load())
		}
		w.submit("a.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		last := current.Load()
		if len(last.Units) != 1 || last.Units[0].State != api.UnitRunning {
			t.Errorf("after a unit was started: %+v", last.Units)
		}
		v.silent.Store(2)
		w.store.SetQuorum(false)
		time.Sleep(2 * probeEvery)
		last = current.Load()
		if !last.Stale || len(last.Warnings) == 0 || last.Voters.Healthy != 1 {
			t.Errorf("without quorum: %+v", last)
		}
		v.silent.Store(0)
		w.store.SetQuorum(true)
		w.submit("b.service", body, store.DesiredLaunched)
		time.Sleep(2 * probeEvery)
		last = current.Load()
		if last.Stale || len(last.Units) != 2 {
			t.Errorf("after its return: %+v", last)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the watch ended with %v", err)
		}
	})
}

func TestWatchStatusEnds(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		s := newService(w, &voterStub{})
		if err := s.WatchStatus(w.t.Context(), func(api.Status) bool { return false }); err != nil {
			t.Errorf("a watcher that has seen enough: %v", err)
		}
		synctest.Wait()
	})
}

func TestWhy(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		s := newService(w, &voterStub{})
		write(w, store.RosterKey(id(3)), store.Marshal[store.RosterRecord], store.RosterRecord{Host: roster.Host{ID: id(3), Name: "node-3"}})
		w.submit("a.service", body, store.DesiredLaunched)
		w.submit("db.service", body+"[X-Fleet]\nMachineMetadata=role=db\n", store.DesiredLaunched)
		w.submit("idle.service", body, store.DesiredInactive)
		w.submit("web@.service", body, store.DesiredInactive)
		time.Sleep(time.Second)
		for _, c := range []struct {
			unit, host, state, reason string
			hosts                     string // "host=fits"
		}{
			{"a.service", "node-1", api.UnitRunning, "every rule holds", "node-1=true node-2=true node-3=false"},
			{"db.service", "", api.UnitPending, "role=db", "node-1=false node-2=false node-3=false"},
			{"idle.service", "", api.UnitInactive, "muster units start", ""},
		} {
			why, err := s.Why(w.t.Context(), c.unit)
			if err != nil || why.Host != c.host || why.State != c.state || !strings.Contains(why.Reason, c.reason) {
				t.Errorf("%s: %+v, %v", c.unit, why, err)
			}
			var hosts []string
			for _, h := range why.Hosts {
				hosts = append(hosts, h.Host+map[bool]string{true: "=true", false: "=false"}[h.Fits])
				if h.Reason == "" {
					t.Errorf("%s: no reason for %s", c.unit, h.Host)
				}
			}
			if got := strings.Join(hosts, " "); got != c.hosts {
				t.Errorf("%s: hosts %q, want %q", c.unit, got, c.hosts)
			}
		}
		for name, status := range map[string]int{"none.service": http.StatusNotFound, "web@.service": http.StatusBadRequest} {
			var e *api.Error
			if _, err := s.Why(w.t.Context(), name); !errors.As(err, &e) || e.Status != status || e.Hint == "" {
				t.Errorf("%s: %v, want status %d", name, err, status)
			}
		}
	})
}

// TestWhyReplicas runs replicas of a template, and asks for one of them, for all, and for one that there is not.
func TestWhyReplicas(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		s := newService(w, &voterStub{})
		content := body + "[X-Muster]\nReplicas=3\nSpread=host\n"
		sum := store.FileSum([]byte(content))
		w.commit(store.Put(store.FileKey(sum), []byte(content)))
		write(w, store.UnitKey("job@.service"), store.Marshal[store.UnitRecord],
			store.UnitRecord{File: sum, Desired: store.DesiredLaunched, Replicated: true, Replicas: 3})
		time.Sleep(time.Second)
		w.expect("replicas", "1: job@1.service job@2.service", "2: job@3.service")
		for unit, want := range map[string]string{
			"job@3.service": "node-2 running every rule holds there; " +
				"node-1 true fits, has 2 units and 2 of the template with its host; node-2 true it is here",
			"job@.service": " running 3 of 3 running; " +
				"node-1 true has 2 of its instances; another one: fits, has 2 units and 2 of the template with its host; " +
				"node-2 true has 1 of its instances; another one: fits, has 1 unit and 1 of the template with its host",
		} {
			why, err := s.Why(w.t.Context(), unit)
			if err != nil {
				t.Fatal(err)
			}
			got := why.Host + " " + why.State + " " + why.Reason
			for _, h := range why.Hosts {
				got += fmt.Sprintf("; %s %v %s", h.Host, h.Fits, h.Reason)
			}
			if got != want {
				t.Errorf("%s: %q, want %q", unit, got, want)
			}
		}
		var e *api.Error
		if _, err := s.Why(w.t.Context(), "job@4.service"); !errors.As(err, &e) || e.Status != http.StatusNotFound {
			t.Errorf("a replica too many: %v", err)
		}
	})
}

func TestUnitsAndLogs(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		s := newService(w, &voterStub{})
		w.submit("a.service", body, store.DesiredLaunched)
		w.submit("b.service", body, store.DesiredLaunched)
		w.submit("idle.service", body, store.DesiredInactive)
		time.Sleep(time.Second)
		units, err := s.Units(w.t.Context())
		if err != nil || len(units) != 3 || units[0].Content != "" || units[0].Desired != "launched" {
			t.Errorf("units: %+v, %v", units, err)
		}
		unit, err := s.Unit(w.t.Context(), "a.service")
		if err != nil || unit.Content != body {
			t.Errorf("unit: %+v, %v", unit, err)
		}
		w.store.SetQuorum(false)
		if unit, err := s.Unit(w.t.Context(), "a.service"); err != nil || unit.Content != body {
			t.Errorf("unit without quorum: %+v, %v", unit, err)
		}
		w.store.SetQuorum(true)
		var out strings.Builder
		if err := s.Logs(w.t.Context(), "a.service", api.LogOptions{Lines: 5}, &out); err != nil || out.String() != "a.service 5\n" {
			t.Errorf("logs: %q, %v", out.String(), err)
		}
		for name, c := range map[string]struct {
			unit, host string
			status     int
		}{
			"on a host it may not ask": {"b.service", "", http.StatusMisdirectedRequest},
			"not on this host":         {"b.service", "node-1", http.StatusNotFound},
			"on no host":               {"idle.service", "", http.StatusConflict},
			"unknown unit":             {"x.service", "", http.StatusNotFound},
			"unknown host":             {"a.service", "node-9", http.StatusNotFound},
			"bad name":                 {"x", "", http.StatusBadRequest},
		} {
			var e *api.Error
			err := s.Logs(w.t.Context(), c.unit, api.LogOptions{Host: c.host}, &out)
			if !errors.As(err, &e) || e.Status != c.status || e.Hint == "" {
				t.Errorf("%s: %v, want status %d and a hint", name, err, c.status)
			}
		}
		for options, want := range map[api.LogOptions]string{
			{Lines: 5, Output: "short"}:                   "node-1 a.service: a.service 5\n",
			{Lines: 5, Output: "json", Priority: "debug"}: `{"host":"node-1","unit":"a.service","priority":"info","message":"a.service 5"}` + "\n",
		} {
			out.Reset()
			if err := s.Logs(w.t.Context(), "a.service", options, &out); err != nil || out.String() != want {
				t.Errorf("%+v: %q, %v; want %q", options, out.String(), err, want)
			}
		}
		for range maxReaders {
			s.logs.readers <- struct{}{}
		}
		for options, status := range map[api.LogOptions]int{
			{Output: "yaml"}: http.StatusBadRequest, {Priority: "high"}: http.StatusBadRequest, {}: http.StatusTooManyRequests,
		} {
			var e *api.Error
			if err := s.Logs(w.t.Context(), "a.service", options, &out); !errors.As(err, &e) || e.Status != status || e.Hint == "" {
				t.Errorf("%+v: %v, want status %d and a hint", options, err, status)
			}
		}
		for name, status := range map[string]int{"x.service": http.StatusNotFound, "x": http.StatusBadRequest} {
			var e *api.Error
			if _, err := s.Unit(w.t.Context(), name); !errors.As(err, &e) || e.Status != status {
				t.Errorf("unit %s: %v, want status %d", name, err, status)
			}
		}
	})
}
