//go:build lab

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	linearHosts  = 4 // three of which vote
	linearDoors  = 3 // through which one history goes
	linearEach   = 2 // clients at each
	linearFaults = 2 // in one history
	linearFiles  = 3 // beside a directory of files in order
)

// setting is a number from the environment.
func setting(t testing.TB, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestLinearizable has clients read and write the same keys through version 2 and 3 at the gateways of three hosts, while
// voters, real ones on networks of their own, are killed, frozen and cut off. There are MUSTER_RUNS (20) such histories, from
// MUSTER_SEED (1) on; each must be one that keys could have which do one thing at a time.
func TestLinearizable(t *testing.T) {
	b := newBrain(t, linearHosts, "")
	seed, runs := setting(t, "MUSTER_SEED", 1), setting(t, "MUSTER_RUNS", 20)
	began, sum := time.Now(), tally{}
	for n := range runs {
		h := b.history(seed+n, honest)
		if result := h.record.linearizable(); result != porcupine.Ok {
			t.Fatalf("history %d (%s) is %s:\n%s", h.seed, strings.Join(h.faults, ", then "), result, h.record.wrong())
		}
		sum.add(h)
		t.Logf("history %d: %s: %v", h.seed, strings.Join(h.faults, ", then "), h.tally())
	}
	t.Logf("%d histories in %v: %v", runs, time.Since(began).Round(time.Second), sum)
	if sum.done < 10*runs || sum.unclear == 0 {
		t.Error("the clients did too little, or nothing ever happened to them")
	}
}

// TestLinearizableMutants has a gateway lie in ways that gateways may come to lie. Each must be found soon.
func TestLinearizableMutants(t *testing.T) {
	b := newBrain(t, linearHosts, "")
	const patience = 40
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			began := time.Now()
			for n := 1; n <= patience; n++ {
				h := b.history(n, m.lie)
				if h.record.linearizable() == porcupine.Illegal {
					t.Logf("found by history %d after %v (%s)", n, time.Since(began).Round(time.Second), strings.Join(h.faults, ", then "))
					return
				}
			}
			t.Errorf("%d histories did not find it", patience)
		})
	}
}

// history is what happens to some keys of its own.
type history struct {
	seed   int
	dir    string // "/h1"
	lie    lie
	record *keyRecord
	faults []string

	mu   sync.Mutex
	seen map[string]keyNode // what some client saw last; guarded by mu
	next int                // value; guarded by mu
}

// history makes one.
func (b *brain) history(seed int, l lie) *history {
	b.t.Helper()
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	b.runs++
	h := &history{
		seed: seed, dir: fmt.Sprintf("/h%d", b.runs), lie: l, record: &keyRecord{began: time.Now()}, seen: map[string]keyNode{},
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	var wg sync.WaitGroup
	for i, at := range rng.Perm(len(b.doors))[:linearDoors] {
		for j := range linearEach {
			client := linearEach*i + j
			wg.Go(func() { h.client(ctx, client, b.doors[at], rand.New(rand.NewPCG(uint64(seed), uint64(client+1)))) })
		}
	}
	h.faults = b.harass(rng, linearFaults)
	cancel()
	wg.Wait()
	b.mend()
	b.await()
	b.forget(h.dir)
	return h
}

// callTimeout is how long a client waits for an answer.
const callTimeout = 2 * time.Second

// client makes one call after another until ctx ends. What is under way then has no answer.
func (h *history) client(ctx context.Context, client int, d *door, rng *rand.Rand) {
	for ctx.Err() == nil {
		in := h.choose(rng)
		op := h.record.begin(client, in)
		calling, cancel := context.WithTimeout(ctx, callTimeout)
		out, err := h.lie(calling, d, in, rng)
		cancel()
		pause := time.Duration(rng.IntN(15)) * time.Millisecond
		switch {
		case err == nil:
			h.record.end(op, out)
			h.remember(in, out)
		case errors.Is(err, errNeverSent), in.verb == verbGet, in.verb == verbList:
			h.record.drop(op)
			fallthrough
		default:
			pause += 100 * time.Millisecond // one that failed at once would fill the history
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// choose makes up a call.
func (h *history) choose(rng *rand.Rand) keyCall {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	in := keyCall{value: fmt.Sprintf("v%d", h.next), api: 2 + rng.IntN(2)}
	if n := rng.IntN(linearFiles + 1); n < linearFiles {
		in.key = fmt.Sprintf("%s/k%d", h.dir, n)
		return h.onFile(in, rng)
	}
	in.key, in.api = h.dir+"/q", 2
	head := h.seen[in.key]
	switch n := rng.IntN(4); {
	case n == 0 && head.exists:
		in.verb, in.old, in.index, in.value = verbPop, head.value, head.index, ""
	case n <= 1:
		in.verb, in.value = verbList, ""
	default:
		in.verb = verbPush
	}
	return in
}

// onFile makes up a call on one file.
func (h *history) onFile(in keyCall, rng *rand.Rand) keyCall {
	known := h.seen[in.key]
	in.old, in.index = known.value, known.index
	switch n := rng.IntN(20); {
	case n < 7:
		in.verb = verbGet
	case n < 16:
		in.verb = verbPut
		in.demand = []demand{nothing, nothing, absent, present, sameValue, sameValue, sameIndex, sameIndex, sameIndex}[n-7]
	default:
		in.verb = verbDelete
		in.demand = []demand{nothing, sameValue, sameIndex, sameIndex}[n-16]
		if in.demand == nothing && in.api == 2 {
			in.demand = present // version 2 refuses to delete what is not there
		}
	}
	if !known.exists && (in.demand == sameValue || in.demand == sameIndex) {
		in.verb, in.demand = verbPut, absent
	}
	if in.demand != sameValue && in.demand != sameIndex {
		in.old, in.index = "", unanswered
	}
	if in.verb != verbPut {
		in.value = ""
	}
	return in
}

// remember keeps what an answer tells, for others to compare with.
func (h *history) remember(in keyCall, out keyAnswer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case in.verb == verbPush, in.verb == verbPut && out.outcome == done:
		h.seen[in.key] = keyNode{exists: true, value: in.value, index: out.node.index}
	case in.verb == verbGet && out.node.exists:
		h.seen[in.key] = out.node
	}
}

// tally counts how operations ended.
type tally struct{ done, refused, unclear int }

func (s *tally) add(h *history) {
	more := h.tally()
	s.done, s.refused, s.unclear = s.done+more.done, s.refused+more.refused, s.unclear+more.unclear
}

func (h *history) tally() (s tally) {
	for _, op := range h.record.operations {
		switch op.Output.(keyAnswer).outcome {
		case done:
			s.done++
		case refused:
			s.refused++
		default:
			s.unclear++
		}
	}
	return s
}

func (s tally) String() string {
	return fmt.Sprintf("%d operations done, %d refused, %d with an answer that is lost", s.done, s.refused, s.unclear)
}
