//go:build lab

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// promisedWriteGap is for how long nothing can be written when etcd's leader is lost, at the timing for one site.
const promisedWriteGap = 1500 * time.Millisecond

// TestWriteGap loses etcd's leader, killed and frozen, under writes at the gateways of all other hosts, and measures for how
// long none that is begun there is answered, and how long the slowest write takes.
func TestWriteGap(t *testing.T) {
	for _, site := range []struct {
		name, settings string
		promised       time.Duration
	}{
		{"one site", "", promisedWriteGap},
		{"far apart", "lease: 18s\n", 0}, // the longest timing: voter.ForLease
	} {
		t.Run(site.name, func(t *testing.T) {
			b := newBrain(t, 5, site.settings)
			for range 2 {
				b.gapUnder("killed", site.promised, b.kill, b.start)
				b.gapUnder("frozen", site.promised, b.freeze, b.thaw)
			}
		})
	}
}

// gapUnder measures one loss of the leader.
func (b *brain) gapUnder(name string, promised time.Duration, lose, regain func(...string)) {
	b.t.Helper()
	const before, after = time.Second, 6 * time.Second
	leader := b.leader()
	ctx, cancel := context.WithCancel(b.t.Context())
	var wg sync.WaitGroup
	var writers []*writer
	for _, d := range b.doors {
		if d.host == leader {
			continue
		}
		for _, api := range []int{2, 3} {
			w := &writer{door: d, api: api, behind: b.members[b.ask(d).GetHeader().GetMemberId()]}
			writers = append(writers, w)
			wg.Go(func() { w.run(ctx) })
		}
	}
	<-time.After(before)
	lost := time.Now()
	lose(leader)
	<-time.After(after)
	cancel()
	wg.Wait()
	regain(leader)
	b.await()
	for _, w := range writers {
		gap, slowest := w.gap(lost, lost.Add(after))
		b.t.Logf("leader %s %s: at %s, whose voter is %s, version %d: no write for %v; the slowest took %v, %d failed",
			leader, name, w.door.host, w.behind, w.api, gap.Round(time.Millisecond), slowest.Round(time.Millisecond), w.failed)
		if promised > 0 && gap > promised {
			b.t.Errorf("no write for %v at %s with the leader %s; promised are %v", gap, w.door.host, name, promised)
		}
	}
}

// writer begins a write every 50 ms, whatever becomes of those before.
type writer struct {
	door   *door
	api    int
	behind string // the voter that the gateway uses

	mu       sync.Mutex
	answered []answered // guarded by mu
	failed   int        // guarded by mu
}

type answered struct{ begun, at time.Time }

func (w *writer) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wg.Go(func() { w.write(ctx, fmt.Sprintf("/gap/%s/%d/%d", w.door.host, w.api, n%64)) })
	}
}

func (w *writer) write(ctx context.Context, key string) {
	begun := time.Now()
	_, err := w.door.call(ctx, keyCall{key: key, verb: verbPut, value: "x", api: w.api})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.answered = append(w.answered, answered{begun, time.Now()})
	case ctx.Err() == nil:
		w.failed++
	}
}

// gap is the longest time without an answer that begins after one moment, ended at another, and the longest that a write took.
func (w *writer) gap(from, to time.Time) (gap, slowest time.Duration) {
	slices.SortFunc(w.answered, func(a, b answered) int { return a.at.Compare(b.at) })
	last := from
	for _, a := range w.answered {
		slowest = max(slowest, a.at.Sub(a.begun))
		if a.at.After(from) {
			gap, last = max(gap, a.at.Sub(last)), a.at
		}
	}
	return max(gap, to.Sub(last)), slowest
}
