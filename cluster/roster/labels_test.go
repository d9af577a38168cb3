package roster

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestLabels(t *testing.T) {
	type labels = map[string]string
	for _, tt := range []struct {
		name  string
		was   Host
		file  labels
		patch map[string]*string
		want  Host
	}{
		{"the first", Host{}, labels{"role": "web"}, nil, Host{Labels: labels{"role": "web"}}},
		{"others", Host{Labels: labels{"role": "web", "rack": "1"}}, labels{"role": "db"}, nil, Host{Labels: labels{"role": "db"}}},
		{"none any more", Host{Labels: labels{"role": "web"}}, nil, nil, Host{}},
		{
			"set at run time",
			Host{Labels: labels{"role": "web"}},
			labels{"role": "web"},
			map[string]*string{"disk": new("ssd")},
			Host{Labels: labels{"role": "web", "disk": "ssd"}, RunLabels: []string{"disk"}},
		},
		{
			"the file wins",
			Host{Labels: labels{"role": "web"}},
			labels{"role": "web"},
			map[string]*string{"role": new("db")},
			Host{Labels: labels{"role": "web"}},
		},
		{
			"said by both",
			Host{Labels: labels{"role": "web"}},
			nil,
			map[string]*string{"role": new("web")},
			Host{},
		},
		{
			"set and removed",
			Host{Labels: labels{"disk": "ssd"}, RunLabels: []string{"disk"}},
			nil,
			map[string]*string{"disk": nil},
			Host{},
		},
		{
			"the file's removed",
			Host{Labels: labels{"role": "web"}},
			labels{"role": "web"},
			map[string]*string{"role": nil},
			Host{Labels: labels{"role": "web"}},
		},
	} {
		got := tt.was.WithPatch(tt.patch).WithLabels(tt.file)
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, diff)
		}
	}
}

// TestLabelsProperties holds any order of changes to this: the file's labels are there, the run-time labels are a part of
// the rest, nothing else is, and what is there is told apart.
func TestLabelsProperties(t *testing.T) {
	key, value := rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.SampledFrom([]string{"1", "2"})
	rapid.Check(t, func(t *rapid.T) {
		var h Host
		var file map[string]string
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			if rapid.Bool().Draw(t, "up") {
				file = rapid.MapOf(key, value).Draw(t, "file")
				h = h.WithLabels(file)
				again := h.WithLabels(file)
				if diff := cmp.Diff(h, again, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("a second time changes something: %s", diff)
				}
				continue
			}
			h = h.WithPatch(rapid.MapOf(key, rapid.Ptr(value, true)).Draw(t, "patch"))
		}
		if !slices.IsSorted(h.RunLabels) {
			t.Fatalf("%v is not sorted", h.RunLabels)
		}
		h = h.WithLabels(file)
		rest := maps.Clone(h.Labels)
		for k, v := range file {
			if rest[k] != v {
				t.Fatalf("%s is %q, the file says %q", k, rest[k], v)
			}
			delete(rest, k)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(rest)), h.RunLabels, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("set at run time: %s", diff)
		}
	})
}
