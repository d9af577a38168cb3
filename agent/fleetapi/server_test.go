package fleetapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get asks for a path and decodes the answer.
func get[T any](w *world, path string) T {
	w.t.Helper()
	recorder := httptest.NewRecorder()
	w.ServeHTTP(recorder, httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, nil))
	var answer T
	if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil || recorder.Code != http.StatusOK {
		w.t.Fatalf("%s: %d %s", path, recorder.Code, recorder.Body)
	}
	return answer
}

func TestPages(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 2*pageLimit + 50 {
		name := fmt.Sprintf("unit-%03d.service", i)
		w.tell("unit " + name + " inactive")
		want = append(want, name)
	}
	var got, tokens []string
	for path := "/fleet/v1/units"; path != ""; {
		page := get[UnitPage](w, path)
		for _, u := range page.Units {
			got = append(got, u.Name)
			if len(u.Options) != 1 {
				t.Errorf("%s has the options %v", u.Name, u.Options)
			}
		}
		tokens = append(tokens, page.Next)
		if path = ""; page.Next != "" {
			path = "/fleet/v1/units?alt=json&nextPageToken=" + page.Next
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// 100 and 2, 100 and 3, as little-endian uint16.
	if diff := cmp.Diff([]string{"ZAACAA==", "ZAADAA==", ""}, tokens); diff != "" {
		t.Error(diff)
	}
	units, err := AllUnits(t.Context(), func(_ context.Context, path string, into any) error {
		*into.(*UnitPage) = get[UnitPage](w, "/fleet/v1/"+path)
		return nil
	})
	if err != nil || len(units) != len(want) {
		t.Errorf("%d units on all pages, %v", len(units), err)
	}
	w.tell("unit unit-999.service inactive")
	if page := get[UnitPage](w, "/fleet/v1/units?nextPageToken=ZAADAA"); len(page.Units) != 51 {
		t.Errorf("a token without padding gives %d units", len(page.Units))
	}
}

func TestCurrentState(t *testing.T) {
	seat := func(desired store.Desired, file, load, active, reason string) fleet.Seat {
		s := fleet.Seat{Live: true, Reported: &store.UnitState{File: file, Load: load, Active: active, Reason: reason}}
		if desired != "" {
			s.Scheduled = &store.ScheduledUnit{File: "new", Desired: desired}
		}
		return s
	}
	lost := seat("launched", "new", "loaded", "active", "")
	lost.Live = false
	for _, c := range []struct {
		name string
		seat fleet.Seat
		want string
	}{
		{"not heard of", fleet.Seat{Live: true, Scheduled: &store.ScheduledUnit{Desired: "launched"}}, stateInactive},
		{"lost", lost, stateInactive},
		{"loaded", seat("loaded", "new", "loaded", "inactive", ""), stateLoaded},
		{"loaded, still running", seat("loaded", "new", "loaded", "active", ""), stateLaunched},
		{"loaded, stopping", seat("loaded", "new", "loaded", "deactivating", ""), stateLaunched},
		{"loaded, failed", seat("loaded", "new", "loaded", "failed", ""), stateLoaded},
		{"launched, about to start", seat("launched", "new", "loaded", "inactive", ""), stateLoaded},
		{"launched, starting", seat("launched", "new", "loaded", "activating", ""), stateLaunched},
		{"launched, running", seat("launched", "new", "loaded", "active", ""), stateLaunched},
		{"launched, failed", seat("launched", "new", "loaded", "failed", "exit status 1"), stateLaunched},
		{"launched, ended", seat("launched", "new", "loaded", "inactive", "exit status 0"), stateLaunched},
		{"launched, no such file", seat("launched", "new", "not-found", "inactive", "gone"), stateLoaded},
		{"launched, former contents", seat("launched", "old", "loaded", "active", ""), stateLoaded},
		{"leaving", seat("", "old", "loaded", "active", ""), stateLaunched},
		{"leaving, stopped", seat("", "old", "loaded", "inactive", ""), stateLoaded},
	} {
		if got := currentState(c.seat); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestMoving is a unit that one machine shall give up and another shall have: it is at the second.
func TestMoving(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{
		"machine 1 10.0.0.1", "machine 2 10.0.0.2", "unit a.service launched",
		"report 1 a.service loaded deactivating stop-sigterm", "schedule 2 a.service launched",
	} {
		w.tell(line)
	}
	if u := get[Unit](w, "/fleet/v1/units/a.service"); u.MachineID != machine("2") || u.CurrentState != stateInactive {
		t.Errorf("before: %+v", u)
	}
	w.tell("report 2 a.service loaded active running")
	if u := get[Unit](w, "/fleet/v1/units/a.service"); u.MachineID != machine("2") || u.CurrentState != stateLaunched {
		t.Errorf("after: %+v", u)
	}
	if s := get[UnitState](w, "/fleet/v1/state/a.service"); s.MachineID != machine("2") || s.Active != "active" {
		t.Errorf("its state: %+v", s)
	}
}

// TestLostFile lists a unit whose contents are gone all the same.
func TestLostFile(t *testing.T) {
	w := newWorld(t)
	w.tell("unit a.service launched")
	w.commit(store.Delete(store.FileKey(w.fileOf("a.service"))))
	want := []Unit{{Name: "a.service", DesiredState: "launched", CurrentState: "inactive"}}
	if diff := cmp.Diff(want, get[UnitPage](w, "/fleet/v1/units").Units); diff != "" {
		t.Error(diff)
	}
}

func TestContentsAreBounded(t *testing.T) {
	w := newWorld(t)
	c := contents{from: w.store}
	for i := range manyContents + 10 {
		text := fmt.Appendf(nil, "[Service]\nExecStart=/bin/sleep %d\n", i)
		sum := store.FileSum(text)
		w.commit(store.Put(store.FileKey(sum), text))
		got, err := c.get(t.Context(), "a.service", sum)
		if err != nil || len(got.options) != 1 || !strings.HasSuffix(got.options[0].Value, fmt.Sprint(" ", i)) {
			t.Fatalf("number %d: %+v, %v", i, got, err)
		}
	}
	if len(c.known) > manyContents {
		t.Errorf("%d files are kept", len(c.known))
	}
	for i := range 10 {
		text := fmt.Appendf(nil, "[Service]\nExecStart=/bin/sleep %d\n#%s\n", i, strings.Repeat("x", unitfile.MaxSize-100))
		sum := store.FileSum(text)
		w.commit(store.Put(store.FileKey(sum), text))
		if _, err := c.get(t.Context(), "a.service", sum); err != nil || c.size > muchContent || len(c.known) == 0 {
			t.Errorf("%d bytes of %d files are kept, %v", c.size, len(c.known), err)
		}
	}
}

// TestMirror follows the records while somebody asks, through a store that goes away, and no longer than that.
func TestMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		following := func() bool {
			w.mirror.mu.Lock()
			defer w.mirror.mu.Unlock()
			return w.mirror.view.Tables != nil
		}
		synctest.Wait()
		if following() {
			t.Error("records are followed before anybody asks")
		}
		for _, line := range []string{"machine 1 10.0.0.1", "unit a.service launched", "schedule 1 a.service launched"} {
			w.tell(line)
		}
		for range 10 { // asked now and then
			time.Sleep(idle * 3 / 4)
			if u := get[Unit](w, "/fleet/v1/units/a.service"); u.MachineID != machine("1") || !following() {
				t.Fatalf("followed: %v, %+v", following(), u)
			}
		}
		w.tell("store away")
		time.Sleep(idle * 3 / 4)
		w.tell("store back")
		w.tell("report 1 a.service loaded active running")
		if s := get[UnitState](w, "/fleet/v1/state/a.service"); s.Active != "active" {
			t.Errorf("after the store was away: %+v", s)
		}
		time.Sleep(2 * idle)
		if following() {
			t.Error("records are followed although nobody asks")
		}
		if s := get[UnitState](w, "/fleet/v1/state/a.service"); s.Active != "active" {
			t.Errorf("after nobody asked: %+v", s)
		}
	})
}

// TestNotRunning gives up when it is not told where units are.
func TestNotRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tell("unit a.service launched")
		still := New(w.Config)
		recorder := httptest.NewRecorder()
		still.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/fleet/v1/units/a.service", nil))
		if recorder.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", recorder.Code, recorder.Body)
		}
	})
}

// TestDiscoveryDescribes compares the document with what is served: paths, methods, and the fields of every type.
func TestDiscoveryDescribes(t *testing.T) {
	type method struct {
		HTTPMethod, Path string
		Request          struct {
			Ref string `json:"$ref"`
		}
		Response struct {
			Ref string `json:"$ref"`
		}
	}
	w := newWorld(t)
	document := get[struct {
		RootURL, ServicePath, BasePath string
		Schemas                        map[string]struct{ Properties map[string]any }
		Resources                      map[string]struct{ Methods map[string]method }
	}](w, "/fleet/v1/discovery")
	if document.RootURL != "http://example.com/" || document.ServicePath != "fleet/v1/" || document.BasePath != "/fleet/v1/" {
		t.Errorf("it is at %q, %q, %q", document.RootURL, document.ServicePath, document.BasePath)
	}
	for _, resource := range document.Resources {
		for name, m := range resource.Methods {
			path := "/" + document.ServicePath + strings.ReplaceAll(m.Path, "{unitName}", "a.service")
			recorder := httptest.NewRecorder()
			w.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), m.HTTPMethod, path, nil))
			if recorder.Code == http.StatusMethodNotAllowed || strings.Contains(recorder.Body.String(), "there is nothing") {
				t.Errorf("%s, which is %s %s: %d", name, m.HTTPMethod, path, recorder.Code)
			}
			for _, ref := range []string{m.Request.Ref, m.Response.Ref} {
				if _, ok := document.Schemas[ref]; !ok && ref != "" {
					t.Errorf("%s is of %s, which is not described", name, ref)
				}
			}
		}
	}
	for _, v := range []any{Unit{}, UnitOption{}, UnitState{}, Machine{}, UnitPage{}, UnitStatePage{}, MachinePage{}} {
		kind := reflect.TypeOf(v)
		var fields []string
		for f := range kind.Fields() {
			name, _ := strings.CutSuffix(f.Tag.Get("json"), ",omitempty")
			fields = append(fields, name)
		}
		slices.Sort(fields)
		described := slices.Sorted(maps.Keys(document.Schemas[kind.Name()].Properties))
		if diff := cmp.Diff(fields, described); diff != "" {
			t.Errorf("%s (-served +described):\n%s", kind.Name(), diff)
		}
	}
}
