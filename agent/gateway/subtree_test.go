package gateway

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/musterhq/muster/cluster/store"
)

// inside tells whether a range of the store lies in the subtree.
func inside(key, end []byte) bool {
	first, last := []byte(store.PrefixApp), []byte(store.EndApp)
	switch {
	case bytes.Compare(key, first) < 0 || bytes.Compare(key, last) >= 0:
		return false
	case len(end) == 0:
		return true
	}
	return bytes.Compare(end, first) >= 0 && bytes.Compare(end, last) <= 0
}

// FuzzMove moves ranges in every kind of request: wherever they begin and end, they stay in the subtree, and what a voter
// answers gets back the name that was asked for.
func FuzzMove(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""},
		{"\x00", "\x00"},
		{"a", "b"},
		{"/a", "/b"},
		{"/", "0"},
		{"/", "\xff"},
		{"/x", "."},
		{"../muster", ""},
		{"a", "/"},
		{"\xff\xff", "\x00"},
		{"0", "\x00"},
		{"b", "a"},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, key, end []byte) {
		get := &pb.RangeRequest{Key: key, RangeEnd: end}
		if s, err := moveRange(get); err == nil {
			if !inside(get.Key, get.RangeEnd) {
				t.Errorf("range %q %q became %q %q", key, end, get.Key, get.RangeEnd)
			}
			if name, ok := s.out(get.Key); !ok || !bytes.Equal(name, key) {
				t.Errorf("range %q comes back as %q", key, name)
			}
		}
		del := &pb.DeleteRangeRequest{Key: key, RangeEnd: end}
		if _, err := moveDelete(del); err == nil && !inside(del.Key, del.RangeEnd) {
			t.Errorf("deletion %q %q became %q %q", key, end, del.Key, del.RangeEnd)
		}
		watch := &pb.WatchCreateRequest{Key: key, RangeEnd: end}
		if _, err := moveWatch(watch); err == nil && !inside(watch.Key, watch.RangeEnd) {
			t.Errorf("watch %q %q became %q %q", key, end, watch.Key, watch.RangeEnd)
		}
		cmp := &pb.Compare{Key: key, RangeEnd: end}
		if err := moveCompare(cmp); err == nil && !inside(cmp.Key, cmp.RangeEnd) {
			t.Errorf("comparison %q %q became %q %q", key, end, cmp.Key, cmp.RangeEnd)
		}
		put := &pb.PutRequest{Key: key}
		if _, err := movePut(put); err == nil && (!inside(put.Key, nil) || string(put.Key) == store.PrefixApp) {
			t.Errorf("put %q became %q", key, put.Key)
		}
		g := grants{"/granted"}
		if g.key(key, end) == nil {
			get := &pb.DeleteRangeRequest{Key: key, RangeEnd: end}
			if _, err := moveDelete(get); err != nil {
				return
			}
			exact := string(get.Key) == "/app/granted" && len(end) == 0
			below := bytes.HasPrefix(get.Key, []byte("/app/granted/")) && (len(end) == 0 || bytes.Compare(get.RangeEnd, []byte("/app/granted0")) <= 0)
			if !exact && !below {
				t.Errorf("%q %q is granted", key, end)
			}
		}
	})
}

func TestLeaseIDs(t *testing.T) {
	for _, id := range []int64{1, 7, 1<<63 - 1} {
		in, err := leaseIn(id)
		if err != nil || in >= 0 || leaseOut(in) != id {
			t.Errorf("%x became %x, %v, and %x", id, in, err, leaseOut(in))
		}
	}
	for _, id := range []int64{-1, leaseMark} {
		if _, err := leaseIn(id); err == nil {
			t.Errorf("%x is taken", id)
		}
	}
	if leaseOut(5) != 0 {
		t.Error("a session's lease has a name")
	}
}
