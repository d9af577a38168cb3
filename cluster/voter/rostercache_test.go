package voter

import (
	"testing"

	"github.com/musterhq/muster/cluster/store"
)

// TestRosterIsOfNow changes the roster in every way between two reads.
func TestRosterIsOfNow(t *testing.T) {
	c := newCluster(t, 1, 2)
	c.form(t.Context())
	control := c.control()
	enter := func(i int, name string) {
		t.Helper()
		h := c.hosts[i]
		h.Name = name
		data, err := store.Marshal(store.RosterRecord{Host: h})
		if err != nil {
			t.Fatal(err)
		}
		put(t, control.client, store.RosterKey(h.ID), string(data))
	}
	leave := func(i int) {
		t.Helper()
		if _, err := control.client.Delete(t.Context(), store.RosterKey(c.hosts[i].ID)); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name   string
		change func()
		want   []string
	}{
		{"nobody", func() {}, nil},
		{"two join", func() { enter(0, "a"); enter(1, "b") }, []string{"a", "b"}},
		{"nothing", func() {}, []string{"a", "b"}},
		{"one is another", func() { enter(1, "c") }, []string{"a", "c"}},
		{"something else changes", func() { put(t, control.client, store.KeyCluster, "x") }, []string{"a", "c"}},
		{"one leaves", func() { leave(0) }, []string{"c"}},
		{"one leaves and one joins", func() { leave(1); enter(2, "d") }, []string{"d"}},
		{"one leaves and comes back", func() { leave(2); enter(2, "d") }, []string{"d"}},
		{"all leave", func() { leave(2) }, nil},
	}
	for _, step := range steps {
		step.change()
		hosts, err := control.roster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range hosts {
			got = append(got, h.Name)
		}
		if len(got) != len(step.want) {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
			continue
		}
		for i := range got {
			if got[i] != step.want[i] {
				t.Errorf("%s: %v, want %v", step.name, got, step.want)
			}
		}
	}
}
