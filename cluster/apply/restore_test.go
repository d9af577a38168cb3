package apply

import (
	"strings"
	"testing"

	"github.com/musterhq/muster/cluster/roster"
)

func TestPlanRestore(t *testing.T) {
	// name@provider, * votes, ? does not answer
	members := func(text string) (all roster.Roster, answers map[string]bool) {
		answers = map[string]bool{}
		for _, word := range strings.Fields(text) {
			name, marks, _ := strings.Cut(word, "/")
			name, provider, _ := strings.Cut(name, "@")
			all = append(all, roster.Host{ID: name, Name: name, Provider: provider, Voter: strings.Contains(marks, "*")})
			answers[name] = !strings.Contains(marks, "?")
		}
		return all, answers
	}
	names := func(hosts []roster.Host) string {
		var all []string
		for _, h := range hosts {
			all = append(all, h.Name)
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		name, members                string
		voters, others, lost, silent string
	}{
		{"all are there", "node-1@a/* node-2@b/* node-3@a/* node-4@b", "node-1 node-2 node-3", "node-4", "", ""},
		{"one voter is left", "node-1@a/* node-2@b/*? node-3@a/*? node-4@b node-5@a", "node-1 node-4 node-5", "", "node-2 node-3", ""},
		{"no voter is left", "node-1@a/*? node-2@b/*? node-3@a/*? node-4@b node-5@a", "node-4", "node-5", "node-1 node-2 node-3", ""},
		{"a client does not answer", "node-1@a/*? node-2@b/*? node-3@a/*? node-4@b node-5@a/?", "node-4", "", "node-1 node-2 node-3", "node-5"},
	} {
		all, answers := members(c.members)
		r, err := PlanRestore(clusterFile(len(all), 3), all, answers)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got := [4]string{names(r.Voters), names(r.Others), names(r.Lost), names(r.Silent)}
		if want := [4]string{c.voters, c.others, c.lost, c.silent}; got != want {
			t.Errorf("%s: got %q, want %q", c.name, got, want)
		}
		if n := len(r.members()); n != len(all)-len(r.Lost) {
			t.Errorf("%s: %d members are left", c.name, n)
		}
		for _, h := range r.members() {
			if h.Voter != strings.Contains(" "+c.voters+" ", " "+h.Name+" ") {
				t.Errorf("%s: %s votes: %v", c.name, h.Name, h.Voter)
			}
		}
	}
	all, _ := members("node-1@a/*?")
	if _, err := PlanRestore(clusterFile(1, 1), all, nil); err == nil {
		t.Error("restores although nobody answers")
	}
}
