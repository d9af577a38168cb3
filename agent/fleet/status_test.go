package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// recorder builds a view from records as the store would deliver them.
type recorder struct {
	t        *testing.T
	v        View
	revision int64
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{t: t, v: View{store.NewTables()}, revision: 1}
}

func put[T any](r *recorder, key string, marshal func(T) ([]byte, error), value T) {
	r.t.Helper()
	data, err := marshal(value)
	if err != nil {
		r.t.Fatal(err)
	}
	r.raw(key, data)
}

func (r *recorder) raw(key string, data []byte) {
	r.revision++
	item := store.Item{Key: key, Value: data, CreateRevision: r.revision, ModRevision: r.revision}
	r.v.Read(store.View{Revision: r.revision, Items: []store.Item{item}})
}

func id(n int) string { return fmt.Sprintf("%032x", n) }

func (r *recorder) host(n int, voter bool, alive, seen bool) {
	h := roster.Host{
		ID: id(n), Name: fmt.Sprintf("node-%d", n), Generation: 1, Provider: "cloud-a",
		Address: fmt.Sprintf("127.1.0.%d", n), Ports: roster.DefaultPorts(), Voter: voter,
	}
	if n == 1 {
		h.Labels = map[string]string{"disk": "ssd"}
	}
	put(r, store.RosterKey(h.ID), store.Marshal[store.RosterRecord], store.RosterRecord{Host: h})
	if seen {
		facts := roster.Facts{Hostname: h.Name, OS: "linux", Architecture: "amd64", CPUs: 2, MemoryBytes: 1 << 30, BootID: "b", Version: "v1"}
		put(r, store.HostKey(h.ID), store.Marshal[store.HostRecord], store.HostRecord{Facts: facts})
	}
	if alive {
		put(r, store.AliveKey(h.ID), store.Marshal[store.Alive], store.Alive{Since: time.Unix(0, 0)})
	}
}

func (r *recorder) unit(name string, desired store.Desired) {
	put(r, store.UnitKey(name), store.Marshal[store.UnitRecord], store.UnitRecord{File: "f-" + name, Desired: desired})
}

func (r *recorder) schedule(n int, units ...string) {
	var record store.ScheduleRecord
	for _, name := range units {
		u := r.v.Units[name].Record
		record.Units = append(record.Units, store.ScheduledUnit{Name: name, File: u.File, Desired: u.Desired})
	}
	put(r, store.ScheduleKey(id(n)), store.Marshal[store.ScheduleRecord], record)
}

func (r *recorder) states(n int, states ...store.UnitState) {
	for i := range states {
		if states[i].File == "" {
			states[i].File = "f-" + states[i].Name
		}
		if states[i].Load == "" {
			states[i].Load = "loaded"
		}
	}
	put(r, store.StatesKey(id(n)), store.Marshal[store.StatesRecord], store.StatesRecord{Units: states})
}

// demo is a cluster in which something of everything is going on.
func demo(t *testing.T) *recorder {
	r := newRecorder(t)
	put(r, store.KeyCluster, store.Marshal[store.Cluster], store.Cluster{ID: "c", Name: "demo", LeaseMillis: 5000})
	r.host(1, true, true, true)
	r.host(2, true, false, true)
	r.host(3, true, true, true)
	r.host(4, false, false, false)
	for _, name := range []string{"run", "load", "lost", "nowhere", "new", "fail", "once", "newer", "absent", "leaving", "hold"} {
		r.unit(name+".service", store.DesiredLaunched)
	}
	r.unit("load.service", store.DesiredLoaded)
	r.unit("only.service", store.DesiredInactive)
	r.unit("web@.service", store.DesiredInactive)
	r.schedule(1, "absent.service", "fail.service", "load.service", "newer.service", "once.service", "run.service")
	r.schedule(2, "lost.service")
	r.schedule(3, "hold.service", "new.service")
	r.states(1,
		store.UnitState{Name: "absent.service", Load: "error", Active: "inactive", Sub: "dead", Reason: "the unit file is gone"},
		store.UnitState{Name: "fail.service", Active: "failed", Sub: "failed", Reason: "exit status 3"},
		store.UnitState{Name: "gone.service", Active: "deactivating", Sub: "stop-sigterm"},
		store.UnitState{Name: "leaving.service", Active: "active", Sub: "running"},
		store.UnitState{Name: "load.service", Active: "inactive", Sub: "dead"},
		store.UnitState{Name: "newer.service", File: "older", Active: "active", Sub: "running"},
		store.UnitState{Name: "once.service", Active: "active", Sub: "exited"},
		store.UnitState{Name: "run.service", Active: "active", Sub: "running"},
	)
	r.states(2, store.UnitState{Name: "lost.service", Active: "active", Sub: "running"})
	r.states(3, store.UnitState{Name: "hold.service", Active: "activating", Sub: "auto-restart", Reason: "exit status 1"})
	r.raw(store.PrefixLeader+"b", []byte("node-3"))
	r.raw(store.PrefixLeader+"c", []byte("node-1"))
	return r
}

func voters(v View, silent map[string]string, leader string) []VoterHealth {
	var list []VoterHealth
	for _, h := range v.Members().Voters() {
		health := VoterHealth{Host: h, Leads: h.Name == leader}
		if why, ok := silent[h.Name]; ok {
			health.Err = errors.New(why)
		}
		list = append(list, health)
	}
	return list
}

// TestStatusContract holds the JSON of a status to the shape that is promised.
func TestStatusContract(t *testing.T) {
	r := demo(t)
	r.raw(store.UnitKey("newer-muster.service"), []byte(`{"v":99}`))
	s := WithVoters(r.v.Status(map[string]string{"nowhere.service": "no host has label role=db"}),
		voters(r.v, map[string]string{"node-2": "connection refused"}, "node-1"))
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/status.json", append(data, '\n'))

	var shape map[string]any
	if err := json.Unmarshal(data, &shape); err != nil {
		t.Fatal(err)
	}
	first := func(key string) []string {
		return slices.Sorted(maps.Keys(shape[key].([]any)[0].(map[string]any)))
	}
	for what, c := range map[string]struct{ got, want []string }{
		"status": {slices.Sorted(maps.Keys(shape)), []string{"cluster", "hosts", "scheduler", "units", "voters", "warnings"}},
		"voters": {slices.Sorted(maps.Keys(shape["voters"].(map[string]any))), []string{"healthy", "leader", "total", "unhealthy"}},
		"hosts":  {first("hosts"), []string{"address", "facts", "generation", "id", "labels", "name", "ports", "provider", "state", "units", "voter"}},
		"units":  {first("units"), []string{"active", "desired", "host", "load", "name", "reason", "state", "sub"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s has the keys %v, want %v", what, c.got, c.want)
		}
	}
}

// TestEmptyStatus has lists and maps where there is nothing, never null.
func TestEmptyStatus(t *testing.T) {
	data, err := json.Marshal(View{store.NewTables()}.Status(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cluster":"","voters":{"total":0,"healthy":0,"leader":""},"hosts":[],"units":[]}`
	if string(data) != want {
		t.Errorf("got  %s\nwant %s", data, want)
	}
}

func TestVoterWarnings(t *testing.T) {
	r := newRecorder(t)
	for n := range 5 {
		r.host(n+1, true, true, true)
	}
	refused := func(names ...string) map[string]string {
		m := map[string]string{}
		for _, name := range names {
			m[name] = "connection refused"
		}
		return m
	}
	for _, c := range []struct {
		voters int
		silent []string
		leader string
		want   string
	}{
		{3, nil, "node-1", ""},
		{3, nil, "", "electing a leader"},
		{3, []string{"node-1"}, "node-2", "1 of 3 voters does not answer (node-1 127.1.0.1: connection refused): writes go on, but not if one more is lost. Start it again with `muster up`"},
		{5, []string{"node-1"}, "node-2", "1 of 5 voters does not answer (node-1 127.1.0.1: connection refused): writes go on; 1 more may be lost. Start it again with `muster up`"},
		{3, []string{"node-1", "node-3"}, "", "2 of 3 voters do not answer (node-1 127.1.0.1: connection refused; node-3 127.1.0.3: connection refused): no writes are possible until one returns; units go on. Start them again with `muster up`"},
		{5, []string{"node-1", "node-3", "node-4", "node-5"}, "", "no writes are possible until 2 return"},
		{1, []string{"node-1"}, "", "no writes are possible until one returns"},
	} {
		list := voters(r.v, refused(c.silent...), c.leader)[:c.voters]
		if c.leader == "" {
			for i := range list {
				list[i].Leaderless = true
			}
		}
		got := strings.Join(WithVoters(r.v.Status(nil), list).Warnings, "\n")
		if !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%d of %d silent: %q, want %q", len(c.silent), c.voters, got, c.want)
		}
	}
	list := voters(r.v, nil, "node-1")[:3]
	list[2].Learner = true
	s := WithVoters(r.v.Status(nil), list)
	if s.Voters.Healthy != 2 || !slices.Equal(s.Voters.Unhealthy, []string{list[2].Host.ID}) || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "catching up") {
		t.Errorf("a learner: %+v %q", s.Voters, s.Warnings)
	}
}

func TestStates(t *testing.T) {
	for _, c := range []struct {
		desired           store.Desired
		load, active, sub string
		file, reason      string
		state, reasonHas  string
	}{
		{"launched", "loaded", "active", "running", "f", "", api.UnitRunning, ""},
		{"launched", "loaded", "reloading", "reload", "f", "", api.UnitRunning, ""},
		{"launched", "loaded", "active", "exited", "f", "", api.UnitExited, ""},
		{"launched", "loaded", "active", "running", "old", "", api.UnitStarting, "new contents"},
		{"launched", "loaded", "activating", "start", "f", "", api.UnitStarting, ""},
		{"launched", "loaded", "deactivating", "stop", "f", "", api.UnitStopping, ""},
		{"launched", "loaded", "failed", "failed", "f", "exit status 3", api.UnitFailed, "exit status 3"},
		{"launched", "loaded", "failed", "failed", "f", "", api.UnitFailed, "muster logs"},
		{"launched", "loaded", "inactive", "dead", "f", "", api.UnitStarting, "about to start"},
		{"launched", "loaded", "inactive", "dead", "f", "exit status 0", api.UnitExited, "exit status 0"},
		{"launched", "error", "inactive", "dead", "f", "no ExecStart", api.UnitFailed, "no ExecStart"},
		{"launched", "not-found", "inactive", "dead", "f", "", api.UnitFailed, "not-found"},
		{"loaded", "loaded", "inactive", "dead", "f", "", api.UnitStopped, ""},
		{"loaded", "loaded", "active", "running", "f", "", api.UnitStopping, "about to stop"},
		{"loaded", "loaded", "active", "running", "f", store.StartedElsewise, api.UnitRunning, store.StartedElsewise},
		{"loaded", "loaded", "active", "running", "old", "", api.UnitStopping, "about to stop"},
	} {
		state, reason := stateOf(store.ScheduledUnit{Name: "a.service", File: "f", Desired: c.desired},
			store.UnitState{Name: "a.service", File: c.file, Load: c.load, Active: c.active, Sub: c.sub, Reason: c.reason})
		if state != c.state || !strings.Contains(reason, c.reasonHas) || state == api.UnitFailed && reason == "" {
			t.Errorf("%+v: got %s %q", c, state, reason)
		}
	}
}
