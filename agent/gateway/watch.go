package gateway

import (
	"context"
	"errors"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// maxWatches bounds the watches of one stream. A clientv3 has one stream for all of its watches.
const maxWatches = 1024

// watches is etcd's service Watch on the subtree. A caller's stream is one stream to a voter.
type watches struct {
	pb.UnimplementedWatchServer
	voters Voters
}

type (
	callersWatch = grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]
	votersWatch  = grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse]
)

// Watch implements pb.WatchServer. The goroutine that hears the caller ends when the stream does, which is when this returns.
func (s *watches) Watch(caller callersWatch) error {
	ctx, cancel := context.WithCancel(caller.Context())
	defer cancel()
	client, err := s.voters.Client(ctx)
	if err != nil {
		return toCaller(err)
	}
	voter, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx, answerSize)
	if err != nil {
		return streamEnded(err)
	}
	w := watching{caller: caller, voter: voter, spellings: map[int64]spelling{}}
	asked, told := make(chan error, 1), make(chan error, 1)
	go func() { asked <- w.ask() }()
	go func() { told <- w.tell() }()
	select {
	case err = <-asked:
		cancel()
		<-told
	case err = <-told:
	}
	return err
}

// watching is a caller's stream and the one that it became.
type watching struct {
	caller callersWatch
	voter  votersWatch

	mu        sync.Mutex
	begun     []spelling         // guarded by mu: of watches that a voter has not confirmed yet; it does so in order
	spellings map[int64]spelling // of watches, by their IDs; tell's own
}

// ask passes on what the caller wants to watch until it wants no more.
func (w *watching) ask() error {
	wanted := 0
	for {
		r, err := w.caller.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		known(r)
		switch u := r.RequestUnion.(type) {
		case *pb.WatchRequest_CreateRequest:
			if wanted++; wanted > maxWatches || u.CreateRequest == nil {
				return rpctypes.ErrGRPCRequestTooManyRequests
			}
			err = w.begin(u.CreateRequest)
		case *pb.WatchRequest_CancelRequest:
			wanted = max(0, wanted-1)
		case *pb.WatchRequest_ProgressRequest:
		default:
			continue
		}
		if err != nil {
			return err
		}
		if err := w.voter.Send(r); err != nil && !errors.Is(err, io.EOF) { // after io.EOF tell knows why
			return streamEnded(err)
		}
	}
}

func (w *watching) begin(r *pb.WatchCreateRequest) error {
	s, err := moveWatch(r)
	if err == nil {
		w.mu.Lock()
		w.begun = append(w.begun, s)
		w.mu.Unlock()
	}
	return err
}

// tell passes on what happens.
func (w *watching) tell() error {
	for {
		r, err := w.voter.Recv()
		if err != nil {
			return streamEnded(err)
		}
		if r.Created {
			w.confirmed(r.WatchId)
		}
		for _, e := range r.Events {
			w.spellings[r.WatchId].show(e.Kv, e.PrevKv)
		}
		if r.Canceled {
			delete(w.spellings, r.WatchId)
		}
		if err := w.caller.Send(r); err != nil {
			return err
		}
	}
}

func (w *watching) confirmed(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.begun) > 0 {
		w.spellings[id], w.begun = w.begun[0], w.begun[1:]
	}
}
