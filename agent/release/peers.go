package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/musterhq/muster/agent/pause"
)

// Peer is another host that may have files.
type Peer struct {
	ID   string       // that all hosts know it by
	URL  string       // of its Shelf, without the SHA-256 and the slash before it
	HTTP *http.Client // that reaches it as this host
	Self bool         // this host itself, which is not asked, and has its place in the order
}

// The patience of a host with its peers.
const (
	askPeers    = 8                // of the first in order, and as many others by chance
	askTimeout  = 3 * time.Second  // for one answer
	askInterval = time.Second      // between rounds
	maxStandby  = 60 * time.Second // without a peer's getting on
)

// pending is the answer of a peer that is fetching the file itself, or has too many readers.
type pending struct {
	busy bool
	have int64 // bytes received so far
}

// Error implements error.
func (p *pending) Error() string {
	if p.busy {
		return "too many are reading there"
	}
	return fmt.Sprintf("it is fetching the file itself, and has %d bytes so far", p.have)
}

// fromPeers gets a file from a peer that has it. While others are fetching it, the first of them in an order that all hosts
// know goes to the origin, and the rest waits for it; so a fleet that begins at once takes about one copy. It is false when the
// origin is to be asked.
func (d *download) fromPeers(ctx context.Context, file File) (bool, error) {
	if d.c.cfg.Peers == nil {
		return false, nil
	}
	var refusals []*Refusal
	moved, best := d.c.cfg.Now(), int64(-1)
	for again := true; ; again = false {
		round := d.ask(ctx, file)
		refusals = append(refusals, round.refusals...)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if round.got {
			d.accuse(refusals)
			return true, nil
		}
		if round.have > best || round.busy {
			moved, best = d.c.cfg.Now(), max(best, round.have)
		}
		if again && round.asked {
			round.wait = true // who begins with this host, and comes before it, may not have said so yet
		}
		if !round.wait || d.c.cfg.Now().Sub(moved) > maxStandby {
			return false, nil
		}
		if err := pause.For(ctx, askInterval+rand.N(askInterval/2)); err != nil {
			return false, err
		}
	}
}

// round is what came of asking peers once.
type round struct {
	got      bool
	asked    bool // somebody comes before this host in the order, and was reached
	wait     bool // another has it or is fetching it
	busy     bool // another has it, and too many readers
	have     int64
	refusals []*Refusal
}

// ask asks some peers for a file, the first in order first.
func (d *download) ask(ctx context.Context, file File) round {
	r := round{have: -1}
	before := true // the peers asked so far come before this host in the order
	for _, peer := range sample(inOrder(d.c.cfg.Peers(ctx), file.SHA256)) {
		if peer.Self {
			before = false
			continue
		}
		err := d.fromPeer(ctx, peer, file)
		if err == nil {
			r.got = true
			return r
		}
		if ctx.Err() != nil {
			return r
		}
		r.note(err, before)
	}
	return r
}

// note is what a peer's refusal means. Who has begun is waited for by all, and who has not by those after it.
func (r *round) note(err error, before bool) {
	var refusal *Refusal
	var answer *pending
	r.asked = r.asked || before && !errors.Is(err, errSilent)
	switch {
	case errors.As(err, &refusal):
		r.refusals = append(r.refusals, refusal)
	case !errors.As(err, &answer):
	case answer.busy:
		r.wait, r.busy = true, true
	case before || answer.have > 0:
		r.wait, r.have = true, max(r.have, answer.have)
	}
}

// fromPeer gets a file from a peer. One that does not answer at all is not asked again for this release.
func (d *download) fromPeer(ctx context.Context, peer Peer, file File) error {
	if d.silent[peer.ID] {
		return errSilent
	}
	r := d.c.remote
	r.http, r.begin = peer.HTTP, askTimeout
	err := d.from(ctx, source{url: peer.URL + "/" + file.SHA256, name: peer.URL, remote: r}, file)
	if unreachable := (*url.Error)(nil); errors.Is(err, errSilent) || errors.As(err, &unreachable) {
		d.silent[peer.ID] = true
		return errSilent
	}
	return err
}

// inOrder sorts peers into an order that all hosts know, and that is another for each file (rendezvous hashing).
func inOrder(peers []Peer, sum string) []Peer {
	weight := func(p Peer) [sha256.Size]byte { return sha256.Sum256([]byte(sum + p.ID)) }
	weights := map[string][sha256.Size]byte{}
	for _, p := range peers {
		weights[p.ID] = weight(p)
	}
	peers = slices.Clone(peers)
	slices.SortFunc(peers, func(a, b Peer) int {
		x, y := weights[a.ID], weights[b.ID]
		return bytes.Compare(x[:], y[:])
	})
	return peers
}

// sample keeps the first, this host itself, and some others by chance, in order.
func sample(peers []Peer) []Peer {
	if len(peers) <= 2*askPeers {
		return peers
	}
	chosen := map[int]bool{}
	for i := range askPeers {
		chosen[i] = true
	}
	for len(chosen) < 2*askPeers {
		chosen[rand.IntN(len(peers))] = true
	}
	var kept []Peer
	for i, p := range peers {
		if chosen[i] || p.Self {
			kept = append(kept, p)
		}
	}
	return kept
}

// pendingIn reads what a peer says of a file that it does not give.
func pendingIn(resp *http.Response) error {
	if resp.StatusCode == http.StatusServiceUnavailable {
		return &pending{busy: true}
	}
	have, err := strconv.ParseInt(resp.Header.Get(headerComing), 10, 64)
	if err != nil || have < 0 {
		return errAbsent
	}
	return &pending{have: have}
}
