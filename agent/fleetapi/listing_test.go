package fleetapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// TestListing compares every slice of a listing with what is there, one by one.
func TestListing(t *testing.T) {
	names := []string{"a.service", "web@.service", "web@1.service", "web@12.service", "web@x.service", "db@.service", "z.service"}
	rapid.Check(t, func(t *rapid.T) {
		v := fleet.View{Tables: store.NewTables()}
		var want []string
		add := func(name string, number int, host string) {
			want = append(want, fmt.Sprintf("%s %07d %s", name, number, host))
		}
		hosts := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"h1", "h2", "h3", "h4"}), 0, 4, rapid.ID).Draw(t, "hosts")
		for _, id := range hosts {
			var record store.StatesRecord
			for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, id) {
				state := store.UnitState{Name: name}
				switch template, n, one := instances.Split(name); {
				case one:
					add(template, n, id)
				case name == "web@.service" || name == "db@.service":
					var ranges []instances.Range
					for _, first := range rapid.SliceOfN(rapid.IntRange(13, 40), 1, 4).Draw(t, "first") {
						ranges = append(ranges, instances.Range{First: first, Last: first + rapid.IntRange(0, 5).Draw(t, "more")})
					}
					state.Instances = instances.Of(ranges...)
					for n := range state.Instances.All() {
						add(name, n, id)
					}
				default:
					add(name, 0, id)
				}
				record.Units = append(record.Units, state)
			}
			v.States[id] = store.Entry[store.StatesRecord]{Record: record}
		}
		slices.Sort(want)
		l := list(v, hosts)
		if l.total != len(want) {
			t.Fatalf("%d states, want %d", l.total, len(want))
		}
		begin := rapid.IntRange(0, len(want)).Draw(t, "begin")
		end := rapid.IntRange(begin, len(want)).Draw(t, "end")
		var got []string
		for _, r := range l.slice(begin, end) {
			template, n, ok := instances.Split(r.Name)
			if !ok {
				template = r.Name
			}
			got = append(got, fmt.Sprintf("%s %07d %s", template, n, r.MachineID))
		}
		if diff := cmp.Diff(slices.Clip(want[begin:end]), slices.Clip(got)); diff != "" && end > begin {
			t.Fatalf("%d to %d: %s", begin, end, diff)
		}
	})
}

// million is 5,000 hosts that run 200 replicas of one template each, in a row or each far from the next.
func million(scattered bool) snapshot {
	const hosts, each = 5000, 200
	v := fleet.View{Tables: store.NewTables()}
	for h := range hosts {
		id := fmt.Sprintf("%032x", h)
		set := instances.Of(instances.Range{First: h*each + 1, Last: (h + 1) * each})
		if scattered {
			var ranges []instances.Range
			for i := range each {
				ranges = append(ranges, instances.Range{First: i*hosts + h + 1, Last: i*hosts + h + 1})
			}
			set = instances.Of(ranges...)
		}
		v.Roster[id] = store.Entry[store.RosterRecord]{Record: store.RosterRecord{Host: roster.Host{ID: id}}}
		v.Alive[id] = store.Entry[store.Alive]{}
		v.States[id] = store.Entry[store.StatesRecord]{Record: store.StatesRecord{Units: []store.UnitState{
			{Name: "web@.service", Instances: set, Load: "loaded", Active: "active", Sub: "running"},
		}}}
		v.Schedule[id] = store.Entry[store.ScheduleRecord]{Record: store.ScheduleRecord{Units: []store.ScheduledUnit{
			{Name: "web@.service", Instances: set, Desired: store.DesiredLaunched},
		}}}
	}
	return snapshot{View: v}
}

// BenchmarkMillion is what fleet's API does with a million replicas: the listing of states, which is made once for each
// change, a page of it, one replica, and the template itself.
func BenchmarkMillion(b *testing.B) {
	for name, scattered := range map[string]bool{"row": false, "scattered": true} {
		s := million(scattered)
		b.Run(name+"/listing", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				listAll(s.View)
			}
		})
		l := listAll(s.View)
		s.all = func() listing { return l }
		token := pageToken{limit: pageLimit, page: 7000}
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/fleet/v1/state?nextPageToken="+token.String(), nil)
		b.Run(name+"/page", func(b *testing.B) {
			for b.Loop() {
				if page, next, err := statesPage(r, s); err != nil || len(page) != pageLimit || next == "" {
					b.Fatalf("%d states, %q, %v", len(page), next, err)
				}
			}
		})
		b.Run(name+"/one", func(b *testing.B) {
			for b.Loop() {
				if got := reports(s.View, "web@700000.service", ""); len(got) != 1 {
					b.Fatal(got)
				}
			}
		})
		b.Run(name+"/template", func(b *testing.B) {
			record := store.UnitRecord{Desired: store.DesiredLaunched, Replicated: true, Replicas: 1_000_000}
			for b.Loop() {
				if u := templateAt("web@.service", record, s.ReplicaSeats("web@.service")); u.CurrentState != stateLaunched {
					b.Fatal(u)
				}
			}
		})
	}
}
