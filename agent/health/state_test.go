package health

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// TestNext goes through checks of a unit, one a second: a dot succeeds, an x fails.
func TestNext(t *testing.T) {
	c := unitfile.HealthCheck{Interval: time.Second, Retries: 3, StartPeriod: 4 * time.Second}
	for checks, want := range map[string]string{
		"":            "",
		".":           "h",
		"xx.":         "ssh",
		"xxxxxx":      "ssssss",
		"xxxxxxx":     "ssssssu",
		".xx.xxx":     "hhhhhhu",
		".xxxx.":      "hhhuuh",
		"xxxxxxxx.x.": "ssssssuuhhh",
	} {
		got := ""
		var s State
		for i, check := range checks {
			reason := ""
			if check == 'x' {
				reason = "no"
			}
			s = Next(c, s, reason, time.Duration(i)*time.Second)
			got += s.Word[:1]
			if s.Word == store.HealthUnhealthy {
				got = got[:len(got)-1] + "u"
			}
			if (s.Reason == "") != (s.Word == store.HealthHealthy) {
				t.Errorf("%s: %s for the reason %q", checks, s.Word, s.Reason)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", checks, got, want)
		}
	}
}

// TestNextHoldsItsWord: a unit is healthy after every success, unhealthy after so many failures in a row that count, and
// never for fewer.
func TestNextHoldsItsWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := unitfile.HealthCheck{
			Retries: rapid.IntRange(1, 4).Draw(t, "retries"), StartPeriod: time.Duration(rapid.IntRange(0, 5).Draw(t, "start")) * time.Second,
		}
		var s State
		succeeded, row := false, 0
		for i, good := range rapid.SliceOf(rapid.Bool()).Draw(t, "checks") {
			age := time.Duration(i) * time.Second
			if good {
				s = Next(c, s, "", age)
				succeeded, row = true, 0
			} else {
				s = Next(c, s, "no", age)
				if succeeded || age >= c.StartPeriod {
					row++
				}
			}
			want := store.HealthHealthy
			switch {
			case row >= c.Retries:
				want = store.HealthUnhealthy
			case !succeeded:
				want = store.HealthStarting
			}
			if s.Word != want {
				t.Fatalf("check %d: %s, want %s", i, s.Word, want)
			}
		}
	})
}

func TestWait(t *testing.T) {
	c := unitfile.HealthCheck{Interval: 10 * time.Second}
	got := []time.Duration{
		wait(c, State{}, 0.5), wait(c, State{Word: store.HealthHealthy}, 0), wait(c, State{Word: store.HealthUnhealthy}, 1),
	}
	want := []time.Duration{time.Second, 9 * time.Second, 11 * time.Second}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
