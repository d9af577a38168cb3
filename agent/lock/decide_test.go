package lock

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/store"
)

// wants is a request: "default boot-1 3" and whether it still wants, and is healthy.
func wants(revision int64, group, boot string, ticket int64, wants, healthy bool) Request {
	return Request{Revision: revision, Record: store.RebootRecord{
		Group: group, Boot: boot, Ticket: ticket, Wants: wants, Healthy: healthy,
	}}
}

func holding(most int, holders ...store.LockHolder) store.LockRecord {
	return store.LockRecord{Max: most, Holders: holders}
}

func host(id, boot string, ticket int64) store.LockHolder {
	return store.LockHolder{ID: id, Kind: store.HolderHost, Host: id, Boot: boot, Ticket: ticket}
}

func ready(ids ...string) map[string]Member {
	members := map[string]Member{}
	for _, id := range ids {
		members[id] = Member{Name: id, Ready: true}
	}
	return members
}

// TestRelease is when a host's hold ends, and when it does not.
func TestRelease(t *testing.T) {
	holder := host("a", "boot-1", 5)
	for _, tt := range []struct {
		name    string
		request *Request
		gone    bool
		want    string // part of the reason, "" for held on
	}{
		{name: "wants it still", request: new(wants(9, "g", "boot-1", 5, true, true))},
		{name: "gave it back without a reboot", request: new(wants(9, "g", "boot-1", 5, false, true)), want: "gave it back"},
		{name: "healthy after the reboot", request: new(wants(9, "g", "boot-2", 5, false, true)), want: "healthy in boot boot-2"},
		{name: "booted and no more", request: new(wants(9, "g", "boot-2", 5, true, true))},
		{name: "booted and not well", request: new(wants(9, "g", "boot-2", 5, false, false))},
		{name: "an old word of health", request: new(wants(9, "g", "boot-0", 4, false, true))},
		{name: "asks anew", request: new(wants(9, "g", "boot-1", 6, true, true)), want: "gave it back"},
		{name: "asks anew, not well", request: new(wants(9, "g", "boot-2", 6, true, false))},
		{name: "says nothing"},
		{name: "left the roster", gone: true, want: "gone"},
	} {
		v := View{Groups: map[string]store.LockRecord{"g": holding(1, holder)}, Requests: map[string]Request{}, Members: ready("a"), Now: noon}
		if tt.request != nil {
			v.Requests["a"] = *tt.request
		}
		if tt.gone {
			v.Members = nil
		}
		d := Decide(v, batch)
		released := len(d.Steps) == 1 && len(d.Steps[0].Released) == 1
		if released != (tt.want != "") {
			t.Errorf("%s: %+v", tt.name, d)
			continue
		}
		if released && !strings.Contains(d.Steps[0].Record.History[0].Reason, tt.want) {
			t.Errorf("%s: %+v", tt.name, d.Steps[0].Record.History)
		}
	}
}

// TestQueue serves who asked first and lets pass who may not go.
func TestQueue(t *testing.T) {
	v := View{
		Groups: map[string]store.LockRecord{
			"g":     holding(2, host("gone", "1", 1)),
			"other": holding(1, store.LockHolder{ID: "c", Kind: store.HolderOperator, Host: "c"}),
		},
		Requests: map[string]Request{
			"a": wants(30, "g", "1", 1, true, true), "b": wants(10, "g", "1", 1, true, true), "c": wants(5, "g", "1", 1, true, true),
			"d": wants(6, "g", "1", 1, true, true), "e": wants(7, "new", "1", 1, true, true), "f": wants(8, "g", "1", 1, true, false),
			"stranger": wants(1, "g", "1", 1, true, true), "odd": wants(1, "a/b", "1", 1, true, true),
		},
		Members: ready("a", "b", "c", "e", "f", "gone", "odd"), Now: noon,
	}
	v.Members["d"] = Member{Name: "d"}
	d := Decide(v, batch)
	var got []string
	for _, s := range d.Steps {
		for _, h := range s.Granted {
			got = append(got, s.Group+":"+h.ID)
		}
	}
	if want := []string{"g:b", "new:e"}; !slices.Equal(got, want) {
		t.Errorf("granted %v, want %v", got, want)
	}
	for id, why := range map[string]string{
		"a": "2 of 2 places", "c": "holds the lock of group other", "d": "lost", "f": "not healthy", "stranger": "not in the roster",
	} {
		if !strings.Contains(d.Waits[id], why) {
			t.Errorf("%s waits because %q, want %q", id, d.Waits[id], why)
		}
	}
}

// TestVotersFirst has voters begin before others who asked earlier: one at a time, while the others go on.
func TestVotersFirst(t *testing.T) {
	v := View{
		Groups: map[string]store.LockRecord{"g": {Max: 2}}, Votes: map[string]bool{"v1": true, "v2": true, "v3": true},
		Requests: map[string]Request{
			"a": wants(1, "g", "1", 1, true, true), "b": wants(2, "g", "1", 1, true, true),
			"v1": wants(3, "g", "1", 1, true, true), "v2": wants(4, "g", "1", 1, true, true),
		},
		Members: ready("a", "b", "v1", "v2", "v3"), Now: noon,
		Voters: []Voter{{Host: "v1", Healthy: true}, {Host: "v2", Healthy: true}, {Host: "v3", Healthy: true, Leader: true}},
	}
	d := Decide(v, batch)
	if len(d.Steps) != 1 || len(d.Steps[0].Granted) != 2 || d.Steps[0].Granted[0].ID != "v1" || d.Steps[0].Granted[1].ID != "a" {
		t.Errorf("%+v", d)
	}
}

// TestVoterAfterVoter lets the next voter go with the word that the one before is back, and not while that one holds the lock of
// another group too.
func TestVoterAfterVoter(t *testing.T) {
	for _, also := range []bool{false, true} {
		v := View{
			Groups: map[string]store.LockRecord{"g": holding(2, host("a", "1", 1), host("v1", "1", 1))},
			Votes:  map[string]bool{"v1": true, "v2": true, "v3": true},
			Requests: map[string]Request{
				"v1": wants(5, "g", "2", 1, false, true), "v2": wants(4, "g", "1", 1, true, true), "b": wants(3, "g", "1", 1, true, true),
			},
			Members: ready("a", "b", "v1", "v2", "v3"), Now: noon,
			Voters: []Voter{{Host: "v1", Healthy: true}, {Host: "v2", Healthy: true}, {Host: "v3", Healthy: true, Leader: true}},
		}
		want := "v2"
		if also {
			v.Groups["h"], want = holding(1, host("v1", "1", 1)), "b"
		}
		d := Decide(v, batch)
		if len(d.Steps) == 0 || len(d.Steps[0].Released) != 1 || len(d.Steps[0].Granted) != 1 || d.Steps[0].Granted[0].ID != want {
			t.Errorf("v1 holds another lock: %v: %+v", also, d)
		}
	}
}

func TestBatch(t *testing.T) {
	v := View{Groups: map[string]store.LockRecord{"g": {Max: 500}}, Requests: map[string]Request{}, Members: map[string]Member{}, Now: noon}
	for n := range 300 {
		id := fmt.Sprintf("%03d", n)
		v.Requests[id], v.Members[id] = wants(int64(n), "g", "1", 1, true, true), Member{Ready: true}
	}
	d := Decide(v, batch)
	if len(d.Steps) != 1 || len(d.Steps[0].Granted) != batch || d.Steps[0].Granted[0].ID != "000" || d.Waits["299"] != "others come first" {
		t.Errorf("%d steps, %d granted, 299: %s", len(d.Steps), len(d.Steps[0].Granted), d.Waits["299"])
	}
}

// TestVoters is which of the voters may go.
func TestVoters(t *testing.T) {
	// Each voter is NAME@PROVIDER, followed by ! when it does not answer, * when it leads and ~ when it holds a lock.
	for _, tt := range []struct {
		voters  string
		host    string
		waiting string
		want    string // part of why it may not, "" if it may
	}{
		{"a@x b@x c@x*", "a", "", ""},
		{"a@x b@y c@z*", "a", "", ""},
		{"a@x b@x c@x*", "worker", "", ""},
		{"a@x~ b@x c@x*", "b", "", "1 of 3 voters would be left"},
		{"a@x! b@x c@x*", "b", "", "1 of 3 voters would be left"},
		{"a@x! b@x c@x*", "a", "", ""}, // it is out already
		{"a@x b@x c@x*", "c", "", ""},
		{"a@x b@x c@x*", "c", "worker", ""},
		{"a@x b@x c@x*", "c", "b", "goes last"},
		{"a@x", "a", "", "0 of 1 voters"},
		{"a@x b@x", "a", "", "1 of 2 voters"},
		{"a@x~ b@x c@x d@x e@x*", "b", "", ""},
		{"a@x~ b@x~ c@x d@x e@x*", "c", "", "2 of 5 voters"},
		{"a@x~ b@y c@z d@y e@x*", "b", "", "voters of two providers"},
		{"a@x! b@y c@z d@y e@x*", "b", "", "voters of two providers"},
		{"a@x~ b@y c@z d@y e@x*", "e", "", ""},
	} {
		out := map[string]bool{}
		var voters []Voter
		for text := range strings.FieldsSeq(tt.voters) {
			name, marks, _ := strings.Cut(text, "@")
			v := Voter{Host: name, Name: name, Provider: marks[:1], Healthy: !strings.Contains(marks, "!"), Leader: strings.Contains(marks, "*")}
			out[name] = strings.Contains(marks, "~")
			voters = append(voters, v)
		}
		why := View{Voters: voters}.mayStop(tt.host, out, map[string]bool{tt.waiting: true})
		if (why == "") != (tt.want == "") || !strings.Contains(why, tt.want) {
			t.Errorf("%s of %s (%s waits): %q, want %q", tt.host, tt.voters, tt.waiting, why, tt.want)
		}
	}
}

// Voters of clusters of one or two may cost quorum where the cluster file says so, one at a time, and no others.
func TestOutage(t *testing.T) {
	one := []Voter{{Host: "a", Healthy: true, Leader: true}}
	two := append(slices.Clone(one), Voter{Host: "b", Healthy: true})
	three := append(slices.Clone(two), Voter{Host: "c"})
	for _, tt := range []struct {
		voters []Voter
		allow  bool
		out    string
		may    bool
	}{
		{one, false, "", false},
		{one, true, "", true},
		{two, false, "", false},
		{two, true, "", true},
		{two, true, "b", false},
		{three, true, "", false},
	} {
		why := View{Voters: tt.voters, AllowOutage: tt.allow}.mayStop("a", map[string]bool{tt.out: true}, nil)
		if (why == "") != tt.may {
			t.Errorf("one of %d voters, allowed %v, out %q: %q", len(tt.voters), tt.allow, tt.out, why)
		}
	}
}

// TestVotersProperty has random voters ask for locks of several groups, reboot and come back. Never are a quorum's voters
// out for it, nor those of two providers, and when nothing else happens all of them have their turn, the leader last.
func TestVotersProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{3, 5, 7}).Draw(t, "voters")
		v := View{
			Groups:   map[string]store.LockRecord{"a": {Max: 3}, "b": {Max: 3}},
			Requests: map[string]Request{}, Members: map[string]Member{}, Votes: map[string]bool{}, Now: noon,
		}
		leader := rapid.IntRange(0, n-1).Draw(t, "leader")
		for i := range n {
			id := fmt.Sprintf("v%d", i)
			v.Voters = append(v.Voters, Voter{
				Host: id, Name: id, Healthy: true, Leader: i == leader,
				Provider: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "provider"),
			})
			v.Members[id], v.Votes[id] = Member{Name: id, Ready: true}, true
			v.Requests[id] = wants(rapid.Int64Range(1, 9).Draw(t, "asked"),
				rapid.SampledFrom([]string{"a", "b"}).Draw(t, "group"), "1", 1, true, true)
		}
		var order []string
		for range 20 * n {
			d := Decide(v, batch)
			for _, s := range d.Steps {
				v.Groups[s.Group] = s.Record
				for _, h := range s.Granted {
					order = append(order, h.ID)
				}
			}
			holders := map[string]string{}
			for group, g := range v.Groups {
				for _, h := range g.Holders {
					holders[h.ID] = group
				}
			}
			checkVoters(t, v, holders)
			for id := range holders {
				if rapid.Bool().Draw(t, "back") {
					r := v.Requests[id]
					r.Record.Boot, r.Record.Wants = "2", false
					v.Requests[id] = r
				}
			}
		}
		if len(order) != n || order[n-1] != fmt.Sprintf("v%d", leader) {
			t.Fatalf("%v had their turn, v%d leads", order, leader)
		}
	})
}

func checkVoters(t *rapid.T, v View, holders map[string]string) {
	providers := map[string]bool{}
	for _, voter := range v.Voters {
		if holders[voter.Host] != "" {
			providers[voter.Provider] = true
		}
	}
	if n := len(v.Voters); len(providers) > 1 || n-len(holders) < membership.Quorum(n) {
		t.Fatalf("%v are out at once, of %+v", holders, v.Voters)
	}
}
