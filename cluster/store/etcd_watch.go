package store

import (
	"context"
	"fmt"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// Watch delivers every change of keys with prefix after a revision. It goes from member to member as Etcd does, and
// each time asks for what follows the last change that it delivered.
//
// It speaks the Watch RPC itself, one stream per watch: the client library shares a stream between watches, buffers
// without bound, and reconnects to its one member on its own.
func (s *Etcd) Watch(ctx context.Context, prefix string, after int64) <-chan Change {
	changes := make(chan Change)
	w := &etcdWatch{store: s, prefix: prefix, after: after, changes: changes}
	started := s.spawn(func() {
		defer close(changes)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := context.AfterFunc(s.ctx, cancel)
		defer stop()
		w.run(ctx)
	})
	if !started {
		close(changes)
	}
	return changes
}

type etcdWatch struct {
	store   *Etcd
	prefix  string
	after   int64 // everything up to this revision was delivered
	changes chan<- Change
}

func (w *etcdWatch) run(ctx context.Context) {
	for {
		m, err := w.store.member(ctx)
		if err != nil {
			return // ctx has ended
		}
		err = w.follow(ctx, m)
		if ctx.Err() != nil {
			return
		}
		if isFinal(err) {
			w.deliver(ctx, Change{Revision: w.after, Err: callError("watch "+w.prefix, err)})
			return
		}
		w.store.log.Debug("watch interrupted", "prefix", w.prefix, "after", w.after, "err", err)
		m.suspect()
		if !pause(ctx, retryPause) {
			return
		}
	}
}

// follow watches through one member until that fails.
func (w *etcdWatch) follow(ctx context.Context, m *member) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := pb.NewWatchClient(m.client.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return err
	}
	if err := stream.Send(w.request()); err != nil {
		_, err = stream.Recv() // Send's error says only that the stream has ended; this one says why
		return err
	}
	var events []*mvccpb.Event
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := watchError(resp); err != nil {
			return err
		}
		// A response may come in fragments, cut anywhere; a whole one ends with a whole revision.
		events = append(events, resp.Events...)
		if resp.Fragment {
			continue
		}
		if !w.take(ctx, resp, events) {
			return ctx.Err()
		}
		events = nil
	}
}

func (w *etcdWatch) request() *pb.WatchRequest {
	end := clientv3.GetPrefixRangeEnd(w.prefix)
	key := w.prefix
	if key == "" {
		key, end = "\x00", "\x00"
	}
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(key), RangeEnd: []byte(end),
		StartRevision:  w.after + 1,
		ProgressNotify: true,
		Fragment:       true,
	}}}
}

func watchError(resp *pb.WatchResponse) error {
	switch {
	case resp.CompactRevision != 0:
		return fmt.Errorf("%w: the oldest is %d", ErrCompacted, resp.CompactRevision)
	case resp.Canceled:
		return cancelError(resp.CancelReason)
	}
	return nil
}

// take delivers the events of whole revisions. A response without events tells how far the watch has come, so that it
// need not ask for compacted revisions in which nothing of its own changed.
func (w *etcdWatch) take(ctx context.Context, resp *pb.WatchResponse, events []*mvccpb.Event) bool {
	if len(events) == 0 {
		if !resp.Created {
			w.after = max(w.after, resp.Header.GetRevision())
		}
		return true
	}
	change := Change{Revision: events[len(events)-1].Kv.ModRevision, Events: make([]Event, len(events))}
	for i, e := range events {
		change.Events[i] = eventOf(e)
	}
	if !w.deliver(ctx, change) {
		return false
	}
	w.after = change.Revision
	return true
}

func (w *etcdWatch) deliver(ctx context.Context, change Change) bool {
	select {
	case w.changes <- change:
		return true
	case <-ctx.Done():
		return false
	}
}

// watchRefusals are the reasons that the server gives for ending a watch, which it sends as their full text.
var watchRefusals = []error{
	rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCUserEmpty, rpctypes.ErrGRPCInvalidAuthToken,
	rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCCompacted, rpctypes.ErrCompacted,
}

// cancelError restores the error that the server put into a watch as text.
func cancelError(reason string) error {
	for _, known := range watchRefusals {
		if reason == known.Error() {
			return known
		}
	}
	return fmt.Errorf("%w: the server ended the watch: %s", ErrUnavailable, reason)
}
