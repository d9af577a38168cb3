package membership

import (
	"strings"
	"testing"
	"time"
)

const grace = 5 * time.Minute

// hosts reads "a@x b@y? s@z~": hosts of the roster at providers, which vote and have long been ready. ? is silent for
// longer than the grace, - for less; ~ does not vote, and has come just now with n; ! is barred, % leaves, > waits,
// + is appointed.
func hosts(text string) []Host {
	var hs []Host
	for _, word := range strings.Fields(text) {
		name := strings.TrimRight(word, "?-~n!%>+")
		id, provider, _ := strings.Cut(name, "@")
		h := Host{ID: id, Name: id, Provider: provider, Votes: true, Ready: true, For: time.Hour}
		for _, mark := range word[len(name):] {
			switch mark {
			case '?':
				h.Ready, h.For = false, grace+time.Minute
			case '-':
				h.Ready, h.For = false, grace-time.Minute
			case '~':
				h.Votes = false
			case 'n':
				h.For = time.Second
			case '!':
				h.Barred = true
			case '%':
				h.Leaving = true
			case '>':
				h.Waiting = true
			case '+':
				h.Appointed = true
			}
		}
		hs = append(hs, h)
	}
	return hs
}

func TestReplace(t *testing.T) {
	for _, c := range []struct {
		name, members, hosts string
		wanted               int
		vacant               time.Duration
		want                 Step
	}{
		{"a voter is silent within the grace", "a* b c?", "a@x b@y c@z- d@z~", 3, 0, Step{}},
		{"a voter is silent", "a* b c?", "a@x b@y c@z? d@z~", 3, 0, Step{Kind: Replace, Host: "c", Successor: "d"}},
		{"nobody stands by", "a* b c?", "a@x b@y c@z?", 3, 0, Step{}},
		{"a barred host stands by", "a* b c?", "a@x b@y c@z? d@z~!", 3, 0, Step{}},
		{"the standby is silent too", "a* b c?", "a@x b@y c@z? d@z~?", 3, 0, Step{}},
		{"no quorum", "a b? c?", "a@x b@y? c@z? d@z~", 3, 0, Step{}},
		{"where no provider gets a majority", "a* b c?", "a@x b@y c@z? d@x~ e@y~ f@z~", 3, 0, Step{Kind: Replace, Host: "c", Successor: "f"}},
		{"that counts more than leaving", "a* b c?", "a@x b@y c@z? d@x~ f@z~%", 3, 0, Step{Kind: Replace, Host: "c", Successor: "f"}},
		{"one that stays", "a* b c?", "a@x b@y c@z? f@z~% g@w~", 3, 0, Step{Kind: Replace, Host: "c", Successor: "g"}},
		{"by name", "a* b c?", "a@x b@x c@x? e@x~ d@x~", 3, 0, Step{Kind: Replace, Host: "c", Successor: "d"}},
		{"a majority when it cannot be avoided", "a* b c?", "a@x b@y c@z? d@y~", 3, 0, Step{Kind: Replace, Host: "c", Successor: "d"}},
		{"two are silent, one after the other", "a* b c? d? e", "a@x b@y c@z? d@z? e@w f@z~ g@z~", 5, 0, Step{Kind: Replace, Host: "c", Successor: "f"}},
		{"another learns", "a* b c? d+", "a@x b@y c@z? d@z e@z~", 3, 0, Step{}},
		{"a learner is silent", "a* b d+?", "a@x b@y d@z? e@z~", 3, 0, Step{Kind: Replace, Host: "d", Successor: "e"}},
		{"a voter never came", "a* b", "a@x b@y d@z? e@z~", 3, 0, Step{Kind: Replace, Host: "d", Successor: "e"}},
		{"it keeps another from coming", "a* b c d?", "a@x b@y c@z d@z? e@w>", 5, 0, Step{Kind: Retire, Host: "d"}},
		{"it keeps nobody from coming", "a* b c d?", "a@x b@y c@z d@z?", 5, 0, Step{}},
		{"a seat is empty", "a* b", "a@x b@y d@z~ e@x~", 3, time.Hour, Step{Kind: Appoint, Successor: "d"}},
		{"a seat is empty just now", "a* b", "a@x b@y d@z~", 3, time.Second, Step{}},
		{"a seat is empty and nobody stands by", "a* b", "a@x b@y d@z~!", 3, time.Hour, Step{}},
		{"two seats are empty, and one is being filled", "a* b d+", "a@x b@y d@z e@z~ f@z~", 5, time.Hour, Step{}},
		{"an appointed host votes", "a* b d", "a@x b@y d@z+", 3, 0, Step{Kind: Confirm, Host: "d"}},
		{"an appointed host learns", "a* b d+", "a@x b@y d@z+", 3, 0, Step{}},
		{"no number is asked for", "a* b", "a@x b@y d@z~", 0, time.Hour, Step{}},
		{"a provider has a majority", "a* b c", "a@x b@x c@y d@z~", 3, 0, Step{Kind: Replace, Host: "b", Successor: "d"}},
		{"with the leader", "a b* c", "a@x b@x c@y d@z~", 3, 0, Step{Kind: Replace, Host: "a", Successor: "d"}},
		{"which only just came", "a* b c", "a@x b@x c@y d@z~n", 3, 0, Step{}},
		{"which another would get", "a* b c", "a@x b@x c@y d@y~", 3, 0, Step{}},
		{"and not while a member is away", "a* b c?", "a@x b@x c@y- d@z~", 3, 0, Step{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := NextStep(View{Members: members(c.members), Hosts: hosts(c.hosts), Wanted: c.wanted, Vacant: c.vacant, Grace: grace})
			if got.Reason == "" {
				t.Error("no reason")
			}
			reason := got.Reason
			if got.Kind == None {
				got.Host = ""
			}
			if got.Reason = ""; got != c.want {
				t.Errorf("got %+v (%s), want %+v", got, reason, c.want)
			}
			if never := NextStep(View{Members: members(c.members), Hosts: hosts(c.hosts), Wanted: c.wanted, Vacant: c.vacant}); never.Kind.OfRoster() && never.Kind != Confirm {
				t.Errorf("without a grace: %+v", never)
			}
		})
	}
}

// TestAwaited names the host that a step is about to follow for, so that it does follow soon.
func TestAwaited(t *testing.T) {
	for _, c := range []struct {
		name, members, hosts, awaited string
	}{
		{"all is well", "a* b c", "a@x b@y c@z", ""},
		{"an appointed host has not asked for its seat", "a* b", "a@x b@y d@z+", "d"},
		{"an appointed host is away", "a* b", "a@x b@y d@z+-", ""},
		{"an appointed host learns", "a* b d+", "a@x b@y d@z+", "d"},
		{"a voter is silent", "a* b c?", "a@x b@y c@z-", ""},
	} {
		if got := NextStep(View{Members: members(c.members), Hosts: hosts(c.hosts), Wanted: 3, Grace: grace}); got.Kind != None || got.Host != c.awaited {
			t.Errorf("%s: %+v, want to wait for %q", c.name, got, c.awaited)
		}
	}
}

func TestReplaceSaysWhy(t *testing.T) {
	got := NextStep(View{Members: members("a* b c?"), Hosts: hosts("a@x b@y c@z? d@w~"), Grace: grace})
	const want = "host c has not voted for 6m0s, longer than the grace of 5m0s; host d at w stands by"
	if got.Reason != want {
		t.Errorf("got  %s\nwant %s", got.Reason, want)
	}
}

func TestNextHostStep(t *testing.T) {
	for _, c := range []struct {
		name string
		view HostView
		want HostStep
	}{
		{"new, and told of voters", HostView{Endpoints: true}, Join},
		{"new, and one of the first", HostView{}, AwaitDial},
		{"first voter", HostView{Joined: true, Seat: true, First: true}, Form},
		{"later voter", HostView{Joined: true, Seat: true}, Vote},
		{"voter that votes", HostView{Joined: true, Seat: true, Roster: Yes, Member: Yes, Runs: true}, Stay},
		{"no voter", HostView{Joined: true, Roster: No, Member: No}, Stay},
		{"appointed", HostView{Joined: true, Roster: Yes, Member: No}, AskSeat},
		{"added, and killed before it knew", HostView{Joined: true, Roster: Yes, Member: Yes}, AskSeat},
		{"knows, and killed before it started", HostView{Joined: true, Seat: true, Roster: Yes, Member: Yes}, Vote},
		{"retired, and still a member", HostView{Joined: true, Seat: true, Roster: No, Member: Yes, Runs: true}, Stay},
		{"retired, and let go", HostView{Joined: true, Seat: true, Roster: No, Member: No}, StepDown},
		{"retired, let go, and its etcd does not know", HostView{Joined: true, Seat: true, Roster: No, Member: No, Runs: true}, StepDown},
		{"let go and appointed again while it was away", HostView{Joined: true, Seat: true, Roster: Yes, Member: No}, StepDown},
		{"stopped by itself", HostView{Joined: true, Seat: true, Roster: Yes, Member: Yes}, Vote},
		{"store away", HostView{Joined: true, Seat: true}, Vote},
		{"data lost", HostView{Joined: true, Seat: true, Roster: Yes, Member: Yes, Lost: true}, Stay},
		{"data lost, and replaced", HostView{Joined: true, Seat: true, Roster: No, Member: No, Lost: true}, StepDown},
	} {
		if got := NextHostStep(c.view); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
