package gateway

import (
	"bytes"
	"math"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"

	"github.com/musterhq/muster/cluster/store"
)

// The subtree is all keys of the store that begin with store.PrefixApp, and the whole key space of callers. Their key /a/b is
// the store's /app/a/b, which v1 and v2 call /a/b as well. The key a/b is another spelling of it: a caller is answered in the
// spelling of the question.
type spelling bool

const (
	slashed spelling = true  // keys that begin with a slash
	bare    spelling = false // and those that do not
)

func spellingOf(key []byte) spelling { return spelling(bytes.HasPrefix(key, []byte{'/'})) }

// prefix is what the store has before the caller's name of a key.
func (s spelling) prefix() []byte {
	if s == slashed {
		return []byte(strings.TrimSuffix(store.PrefixApp, "/"))
	}
	return []byte(store.PrefixApp)
}

// in moves a key into the subtree.
func (s spelling) in(key []byte) []byte { return append(s.prefix(), key...) }

// inEnd moves the end of a range whose first key has this spelling. Ranges that go on beyond a spelling end with it.
func (s spelling) inEnd(end []byte) []byte {
	switch {
	case len(end) == 0:
		return nil // the range is one key
	case bytes.Equal(end, toEnd), s == slashed && end[0] > '/':
		return []byte(store.EndApp)
	case s == slashed && end[0] < '/':
		return []byte(store.PrefixApp) // before the first key
	}
	return s.in(end)
}

// out is the caller's name of a key. Only keys of the subtree have one.
func (s spelling) out(key []byte) (name []byte, ok bool) {
	if !bytes.HasPrefix(key, []byte(store.PrefixApp)) {
		return nil, false
	}
	return bytes.CutPrefix(key, s.prefix())
}

// Bounds of a request, which are those of etcd itself unless told otherwise.
const (
	maxValue = 1 << 20 // bytes; etcd takes a request of half as much again
	maxKey   = 4 << 10 // bytes
	maxOps   = 128     // of one transaction, nested ones included
	maxDepth = 8       // of nested transactions
)

// toEnd is the end of a range that has none (rpc.proto, RangeRequest.range_end).
var toEnd = []byte{0}

// Leases of callers have the sign bit in the store, which etcd sets in no ID that it chooses itself, and which callers do not
// see. So a lease that was not made through a gateway has no name here.
const leaseMark = math.MinInt64

// leaseIn is the store's ID of a caller's lease; 0, for none, stays 0.
func leaseIn(id int64) (int64, error) {
	switch {
	case id < 0:
		return 0, rpctypes.ErrGRPCLeaseNotFound
	case id == 0:
		return 0, nil
	}
	return id | leaseMark, nil
}

// leaseOut is the caller's ID of a lease, 0 if it has none.
func leaseOut(id int64) int64 {
	if id >= 0 {
		return 0
	}
	return id &^ leaseMark
}

// known drops what a newer client may have put into a message and a newer store might understand.
func known(m proto.Message) { m.ProtoReflect().SetUnknown(nil) }

func checkKey(key []byte) error {
	switch {
	case len(key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case len(key) > maxKey:
		return rpctypes.ErrGRPCRequestTooLarge
	}
	return nil
}

// moveRange moves a request into the subtree, as the other functions of this kind do. What they refuse must not be passed on.
func moveRange(r *pb.RangeRequest) (spelling, error) {
	s := spellingOf(r.GetKey())
	if err := checkKey(r.GetKey()); err != nil {
		return s, err
	}
	known(r)
	r.Key, r.RangeEnd = s.in(r.Key), s.inEnd(r.RangeEnd)
	return s, nil
}

func movePut(r *pb.PutRequest) (spelling, error) {
	s := spellingOf(r.GetKey())
	if err := checkKey(bytes.TrimPrefix(r.GetKey(), []byte{'/'})); err != nil {
		return s, err
	}
	if len(r.Value) > maxValue {
		return s, rpctypes.ErrGRPCRequestTooLarge
	}
	lease, err := leaseIn(r.Lease)
	if err != nil {
		return s, err
	}
	known(r)
	r.Key, r.Lease = s.in(r.Key), lease
	return s, nil
}

func moveDelete(r *pb.DeleteRangeRequest) (spelling, error) {
	s := spellingOf(r.GetKey())
	if err := checkKey(r.GetKey()); err != nil {
		return s, err
	}
	known(r)
	r.Key, r.RangeEnd = s.in(r.Key), s.inEnd(r.RangeEnd)
	return s, nil
}

func moveCompare(c *pb.Compare) error {
	if err := checkKey(c.GetKey()); err != nil {
		return err
	}
	if lease, ok := c.TargetUnion.(*pb.Compare_Lease); ok {
		id, err := leaseIn(lease.Lease)
		if err != nil {
			return err
		}
		lease.Lease = id
	}
	known(c)
	s := spellingOf(c.Key)
	c.Key, c.RangeEnd = s.in(c.Key), s.inEnd(c.RangeEnd)
	return nil
}

// moveWatch moves what a watch is to watch. A watch without a key begins with the first.
func moveWatch(r *pb.WatchCreateRequest) (spelling, error) {
	s := spellingOf(r.GetKey())
	if len(r.GetKey()) > maxKey {
		return s, rpctypes.ErrGRPCRequestTooLarge
	}
	known(r)
	r.Key, r.RangeEnd = s.in(r.Key), s.inEnd(r.RangeEnd)
	return s, nil
}

// show gives a key and its lease the caller's names. A key of elsewhere, which no voter sends, becomes nothing.
func (s spelling) show(kvs ...*mvccpb.KeyValue) {
	for _, kv := range kvs {
		if kv == nil {
			continue
		}
		name, ok := s.out(kv.Key)
		if !ok {
			proto.Reset(kv)
			continue
		}
		kv.Key, kv.Lease = name, leaseOut(kv.Lease)
	}
}
