package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

var epoch = time.Unix(1e9, 0).UTC()

func set(t *testing.T, text string) instances.Set {
	t.Helper()
	s, err := instances.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// line is a state in short: phase updated/batch.
func line(s State) string {
	text := fmt.Sprintf("%s %s/%s", s.Phase, s.Updated, s.Batch)
	if s.Paused {
		text += " paused"
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

// TestNext goes through a rollout, second by second: who is ready then, who is bad, and what becomes of it.
func TestNext(t *testing.T) {
	type step struct {
		at                 int // seconds
		ready, bad, absent string
		latest             int
		want               string
		wake               int // seconds, 0 for never
	}
	p := Policy{Parallel: 2, Hold: 5 * time.Second, Delay: 10 * time.Second, Patience: 60 * time.Second}
	for name, steps := range map[string][]step{
		"good": {
			{at: 0, ready: "1-5", want: "updating 1-2/1-2", wake: 60},
			{at: 1, ready: "3-5", want: "updating 1-2/1-2", wake: 60},
			{at: 3, ready: "1-5", latest: 2, want: "updating 1-2/1-2", wake: 18},
			{at: 17, ready: "1-5", latest: 2, want: "updating 1-2/1-2", wake: 18},
			{at: 18, ready: "1-5", latest: 2, want: "updating 1-4/3-4", wake: 78},
			{at: 20, ready: "1-5", latest: 20, want: "updating 1-4/3-4", wake: 35},
			{at: 35, ready: "1-5", latest: 20, want: "updating 1-5/5", wake: 95},
			{at: 36, ready: "1-5", latest: 36, want: "updating 1-5/5", wake: 41},
			{at: 41, ready: "1-5", latest: 36, want: "done 1-5/"},
		},
		"those that are not well come first, those without a host at the end": {
			{at: 0, ready: "1-3", absent: "2", want: "updating 4-5/4-5", wake: 60},
			{at: 1, ready: "1-5", absent: "2", want: "updating 4-5/4-5", wake: 16},
			{at: 16, ready: "1-5", absent: "2", want: "updating 1,3-5/1,3", wake: 76},
			{at: 17, ready: "1-5", absent: "2", want: "updating 1,3-5/1,3", wake: 22},
			{at: 22, ready: "1-5", absent: "2", want: "done 1-5/"},
		},
		"one fails": {
			{at: 0, ready: "1-5", want: "updating 1-2/1-2", wake: 60},
			{at: 1, ready: "1-5", want: "updating 1-2/1-2", wake: 16},
			{at: 16, ready: "1-5", want: "updating 1-4/3-4", wake: 76},
			{at: 17, ready: "1-2,4-5", bad: "3", want: "rolling back 2,4/1,3: member 3 is ill", wake: 77},
			{at: 18, ready: "1-2,4-5", want: "rolling back 2,4/1,3: member 3 is ill", wake: 77},
			{at: 19, ready: "1-5", want: "rolling back /2,4: member 3 is ill", wake: 79},
			{at: 20, ready: "1-5", want: "failed /: member 3 is ill"},
		},
		"not in time": {
			{at: 0, ready: "1-5", want: "updating 1-2/1-2", wake: 60},
			{at: 59, ready: "2-5", want: "updating 1-2/1-2", wake: 60},
			{at: 60, ready: "2-5", want: "rolling back /1-2: not well within 1m0s: member 1 is ill", wake: 120},
			{at: 120, ready: "2-5", want: "rolling back / paused: not well within 1m0s: member 1 is ill; " +
				"with its old contents: not well: member 1 is ill"},
			{at: 500, ready: "1-5", want: "rolling back / paused: not well within 1m0s: member 1 is ill; " +
				"with its old contents: not well: member 1 is ill"},
		},
		"well and then not": {
			{at: 0, ready: "1-5", want: "updating 1-2/1-2", wake: 60},
			{at: 1, ready: "1-5", latest: 1, want: "updating 1-2/1-2", wake: 16},
			{at: 10, ready: "2-5", latest: 1, want: "updating 1-2/1-2", wake: 70},
			{at: 11, ready: "1-5", latest: 11, want: "updating 1-2/1-2", wake: 26},
			{at: 20, ready: "1-5", latest: 19, want: "updating 1-2/1-2", wake: 35},
			{at: 30, ready: "1-5", latest: 29, want: "rolling back /1-2: well and then not, 3 times", wake: 90},
			{at: 31, ready: "1-5", want: "failed /: well and then not, 3 times"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := State{Phase: store.PhaseForward}
			for _, step := range steps {
				o := Observed{
					All: set(t, "1-5"), Absent: set(t, step.absent), Ready: set(t, step.ready), Bad: set(t, step.bad),
					Latest: epoch.Add(time.Duration(step.latest) * time.Second), Why: map[int]string{},
				}
				for n := range o.All.Minus(o.Ready).All() {
					o.Why[n] = fmt.Sprintf("member %d is ill", n)
				}
				next, wake := Next(p, s, o, epoch.Add(time.Duration(step.at)*time.Second))
				s = next
				at := 0
				if !wake.IsZero() {
					at = int(wake.Sub(epoch).Seconds())
				}
				if got := line(s); got != step.want || at != step.wake {
					t.Errorf("after %d s: %s, wake %d; want %s, wake %d", step.at, got, at, step.want, step.wake)
				}
			}
		})
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		p    Policy
		all  int
		want int
	}{
		{Policy{Parallel: 3}, 2, 3},
		{Policy{Percent: 25}, 10, 2},
		{Policy{Percent: 25}, 3, 1},
		{Policy{Percent: 100}, 7, 7},
		{Policy{Percent: 1}, 1_000_000, 10_000},
	} {
		if got := c.p.size(c.all); got != c.want {
			t.Errorf("%+v of %d: %d, want %d", c.p, c.all, got, c.want)
		}
	}
}

func TestWhyIsBrief(t *testing.T) {
	o := Observed{Why: map[int]string{4: "member 4 is ill", 2: "member 2 is ill", 9: "member 9 is ill"}}
	for members, want := range map[string]string{
		"2": "member 2 is ill", "3-4": "member 4 is ill, and 1 more", "1-100": "member 2 is ill, and 99 more", "7": "failed",
	} {
		if d := cmp.Diff(want, o.why(set(t, members), "")); d != "" {
			t.Error(d)
		}
	}
	if got := o.why(set(t, "7"), "too late"); got != "too late" || !strings.HasPrefix(o.why(set(t, "2"), "too late"), "too late: ") {
		t.Error(got)
	}
}
