//go:build lab

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/voter"
)

// promisedWriteGap is for how long nothing can be written when etcd's leader is lost, at the timing for one site, if the
// first vote elects another. A vote is split when two voters call for it within the round trip and the write to disk that
// it takes; then they wait for 1 to 2 Elections and call for another.
const promisedWriteGap = 1500 * time.Millisecond

// TestWriteGap loses etcd's leader, killed and frozen, under writes at the gateways of all other hosts, and measures for how
// long none that is begun there is answered, and how long the slowest write takes.
//
// Time is what the writers had: each begins a write every 50 ms, and when the whole machine stands still, none is begun.
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
	leader, term := b.leader(), b.term()
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
	votes := b.term() - term
	if promised > 0 && votes > 1 {
		promised += time.Duration(votes-1) * 2 * voter.OneSite().Election
	}
	for _, w := range writers {
		gap, slowest := w.gap(lost)
		b.t.Logf("leader %s %s, %d votes: at %s, whose voter is %s, version %d: no write for %v; the slowest took %v, %d failed",
			leader, name, votes, w.door.host, w.behind, w.api, gap, slowest.Round(time.Millisecond), w.failed)
		if promised > 0 && gap > promised {
			b.t.Errorf("no write for %v at %s with the leader %s, %d votes; promised are %v", gap, w.door.host, name, votes, promised)
		}
	}
}

// pace is how often a writer begins a write, whatever becomes of those before.
const pace = 50 * time.Millisecond

type writer struct {
	door   *door
	api    int
	behind string // the voter that the gateway uses

	mu       sync.Mutex
	begun    []time.Time // guarded by mu
	answered []answered  // guarded by mu
	failed   int         // guarded by mu
}

type answered struct {
	after int // how many writes had been begun
	took  time.Duration
}

func (w *writer) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.mu.Lock()
		w.begun = append(w.begun, time.Now())
		w.mu.Unlock()
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
		w.answered = append(w.answered, answered{after: len(w.begun), took: time.Since(begun)})
	case ctx.Err() == nil:
		w.failed++
	}
}

// gap is the longest time without an answer after a moment, and the longest that a write took.
func (w *writer) gap(lost time.Time) (gap, slowest time.Duration) {
	last, _ := slices.BinarySearchFunc(w.begun, lost, time.Time.Compare)
	longest := 0
	for _, a := range w.answered {
		slowest = max(slowest, a.took)
		if a.after > last {
			longest, last = max(longest, a.after-last), a.after
		}
	}
	return time.Duration(max(longest, len(w.begun)-last)) * pace, slowest
}

// term is raft's term, which every vote raises by one, as the gateways' voters know it.
func (b *brain) term() (term uint64) {
	for _, d := range b.doors {
		term = max(term, b.ask(d).GetRaftTerm())
	}
	return term
}
