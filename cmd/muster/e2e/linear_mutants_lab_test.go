//go:build lab

package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// lie is what stands between a client and a gateway.
type lie func(ctx context.Context, d *door, in keyCall, rng *rand.Rand) (keyAnswer, error)

// honest passes calls on.
func honest(ctx context.Context, d *door, in keyCall, _ *rand.Rand) (keyAnswer, error) {
	return d.call(ctx, in)
}

// mutants are gateways with a fault, each made of a right one: what it does then is the same to those who ask it.
var mutants = []struct {
	name string
	lie  lie
}{
	{"a read is answered from the mirror, without a quorum", fromMirror},
	{"a read is answered by one voter, without a quorum", fromOneVoter},
	{"a swap is a read and a write", readThenWrite},
	{"a write is acknowledged when it is proposed", tooEarly},
	{"a write is repeated after its answer was lost", twice},
}

func fromMirror(ctx context.Context, d *door, in keyCall, _ *rand.Rand) (keyAnswer, error) {
	if in.api != 2 || in.verb != verbGet {
		return d.call(ctx, in)
	}
	answer, err := d.ask2(ctx, http.MethodGet, in.key, url.Values{})
	return keyAnswer{outcome: done, node: answer.Node.node()}, err
}

func fromOneVoter(ctx context.Context, d *door, in keyCall, _ *rand.Rand) (keyAnswer, error) {
	if in.api != 3 || in.verb != verbGet {
		return d.call(ctx, in)
	}
	r, err := d.kv.Range(ctx, &pb.RangeRequest{Key: []byte(in.key), Serializable: true})
	if err != nil {
		return keyAnswer{}, errors.Join(errUnclear, err)
	}
	return keyAnswer{outcome: done, node: first(r.Kvs)}, nil
}

func readThenWrite(ctx context.Context, d *door, in keyCall, _ *rand.Rand) (keyAnswer, error) {
	if in.demand != sameValue && in.demand != sameIndex {
		return d.call(ctx, in)
	}
	read, err := d.call(ctx, keyCall{key: in.key, verb: verbGet, api: in.api})
	if err != nil {
		return keyAnswer{}, errors.Join(errNeverSent, err)
	}
	if !(keyState{node: read.node}).holds(in) {
		return keyAnswer{outcome: refused, before: &read.node}, nil
	}
	in.demand, in.api = nothing, 3
	out, err := d.call(ctx, in)
	out.before = nil // it would tell
	return out, err
}

func tooEarly(ctx context.Context, d *door, in keyCall, _ *rand.Rand) (keyAnswer, error) {
	out, err := d.call(ctx, in)
	if errors.Is(err, errUnclear) && in.verb == verbPut && in.demand == nothing {
		return keyAnswer{outcome: done}, nil
	}
	return out, err
}

func twice(ctx context.Context, d *door, in keyCall, rng *rand.Rand) (keyAnswer, error) {
	out, err := d.call(ctx, in)
	if err != nil || out.outcome != done || in.verb != verbPut && in.verb != verbPush || rng.IntN(4) > 0 {
		return out, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
	return d.call(ctx, in)
}
