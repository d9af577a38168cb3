package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// patients are units whose checks a test decides.
type patients struct {
	mu     sync.Mutex
	ill    map[string]bool
	asked  map[string]int
	atOnce int
	most   int
	takes  time.Duration
}

func (p *patients) exec(ctx context.Context, t Target, _ []string) (string, error) {
	p.mu.Lock()
	p.asked[t.Unit]++
	p.atOnce++
	p.most = max(p.most, p.atOnce)
	ill := p.ill[t.Unit]
	p.mu.Unlock()
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.atOnce--
	if ill {
		return "", errors.New("exit status 1")
	}
	return "", nil
}

func (p *patients) set(unit string, ill bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ill[unit] = ill
}

func target(unit string) Target {
	return Target{Unit: unit, File: "f", Since: time.Now(), Check: unitfile.HealthCheck{
		Kind: "exec", Target: "/check", Interval: 10 * time.Second, Timeout: 5 * time.Second, Retries: 3, StartPeriod: 30 * time.Second,
	}}
}

// inTime runs a checker under a clock of its own.
func inTime(t *testing.T, p *patients, test func(c *Checker)) {
	synctest.Test(t, func(t *testing.T) {
		p.ill, p.asked = map[string]bool{}, map[string]int{}
		ctx, cancel := context.WithCancel(t.Context())
		c := New(p.exec)
		var running sync.WaitGroup
		running.Go(func() { _ = c.Run(ctx) })
		test(c)
		cancel()
		running.Wait()
	})
}

func TestCheckerFollowsAUnit(t *testing.T) {
	p := &patients{}
	inTime(t, p, func(c *Checker) {
		expect := func(after time.Duration, word string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := c.Of("a").Word; got != word {
				t.Fatalf("%q, want %q", got, word)
			}
		}
		expect(0, "")
		p.set("a", true)
		one := target("a")
		c.Watch(t.Context(), []Target{one})
		expect(0, store.HealthStarting)
		expect(20*time.Second, store.HealthStarting)
		p.set("a", false)
		expect(2*time.Second, store.HealthHealthy)
		p.set("a", true)
		c.Watch(t.Context(), []Target{one, target("b")})
		expect(15*time.Second, store.HealthHealthy)
		expect(30*time.Second, store.HealthUnhealthy)
		if unwell := c.Unwell(); unwell != nil {
			t.Errorf("%v are to be restarted, and nobody said so", unwell)
		}
		c.Watch(t.Context(), []Target{target("a")}) // it was started anew
		expect(0, store.HealthStarting)
		c.Watch(t.Context(), nil)
		expect(time.Minute, "")
		if was := p.asked["a"]; was > 60 {
			t.Errorf("asked %d times", was)
		}
	})
}

// TestCheckerTellsOfChangesAlone: a unit that stays as it is wakes nobody.
func TestCheckerTellsOfChangesAlone(t *testing.T) {
	inTime(t, &patients{}, func(c *Checker) {
		c.Watch(t.Context(), []Target{target("a")})
		told := 0
		for range 600 {
			time.Sleep(time.Second)
			select {
			case <-c.Changed():
				told++
			default:
			}
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}

func TestUnwell(t *testing.T) {
	p := &patients{}
	inTime(t, p, func(c *Checker) {
		p.set("a", true)
		a, b := target("a"), target("b")
		a.Check.Restart, b.Check.Restart = true, true
		c.Watch(t.Context(), []Target{a, b})
		time.Sleep(2 * time.Minute)
		if got := fmt.Sprint(c.Unwell()); got != "map[a:exit status 1]" {
			t.Error(got)
		}
	})
}

// TestManyUnits: a thousand units whose checks take their time are all asked, a few at once, and about as often as they
// ask for.
func TestManyUnits(t *testing.T) {
	p := &patients{takes: 100 * time.Millisecond}
	inTime(t, p, func(c *Checker) {
		var all []Target
		for i := range 1000 {
			all = append(all, target(fmt.Sprint(i)))
		}
		c.Watch(t.Context(), all)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.most > parallel {
			t.Errorf("%d at once", p.most)
		}
		for _, each := range all {
			if n := p.asked[each.Unit]; n < 9 || n > 25 {
				t.Fatalf("unit %s was asked %d times in two minutes", each.Unit, n)
			}
		}
	})
}
