package voter

import (
	"bytes"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/musterhq/muster/cluster/store"
)

var hostA, hostB = fmt.Sprintf("%032x", 0xa), fmt.Sprintf("%032x", 0xb)

func TestMayWrite(t *testing.T) {
	cases := []struct {
		name, key, end string
		want           bool
	}{
		{"own", store.AliveKey(hostA), "", true},
		{"own, as a range", store.AliveKey(hostA), store.AliveKey(hostA) + "\x00", true},
		{"own, and the next", store.AliveKey(hostA), store.AliveKey(hostA) + "\x01", false},
		{"own, and all after it", store.AliveKey(hostA), "\x00", false},
		{"another's", store.AliveKey(hostB), "", false},
		{"all hosts'", store.PrefixAlive, "/muster/alive0", false},
		{"parts of its states", store.StatesKey(hostA) + "/", store.StatesKey(hostA) + "0", true},
		{"from its states to their parts", store.StatesKey(hostA), store.StatesKey(hostA) + "0", false},
		{"parts of another's", store.StatesKey(hostB) + "/1", "", false},
		{"parts of its facts", store.HostKey(hostA) + "/1", "", false},
		{"applications'", store.FirstApp, store.EndApp, true},
		{"more than applications'", store.FirstApp, store.EndApp + "\x00", false},
		{"before them", "/app", store.EndApp, false},
		{"everything", "\x00", "\x00", false},
		{"nothing", "", "", false},
	}
	for _, tc := range cases {
		if got := mayWrite(hostA, []byte(tc.key), []byte(tc.end)); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}

// TestChangesOf has requests that are not those of keys; access_test.go has these, at a real etcd.
func TestChangesOf(t *testing.T) {
	cases := []struct {
		request any
		want    bool
	}{
		{&pb.RangeRequest{}, true},
		{&pb.AlarmRequest{Action: pb.AlarmRequest_GET}, true},
		{&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE}, false},
		{&pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE}, false},
		{&pb.CompactionRequest{}, false},
		{&pb.AuthDisableRequest{}, false},
		{&pb.TxnRequest{Success: []*pb.RequestOp{{}}}, false},
		{nil, false},
	}
	for _, tc := range cases {
		if _, got := changesOf(hostA, tc.request); got != tc.want {
			t.Errorf("%T: %t", tc.request, got)
		}
	}
}

// keysOfAll are keys of everybody, and those at the edges of what a host may write.
func keysOfAll() (own, others []string) {
	parts := store.StatesKey(hostA) + "/"
	own = append(writable(hostA), parts, parts+"1", store.FirstApp, store.PrefixApp, store.PrefixApp+"x")
	others = append(writable(hostB), store.EndApp, "/app", "/app-", store.Prefix, accessKey, accessPrefix+hostA, store.KeyCluster,
		store.StatesKey(hostA)+"0", store.StatesKey(hostA)+".", store.StatesKey(hostB)+"/1", store.ScheduleKey(hostA),
		store.RosterKey(hostA), store.TokenKey("00"), store.PrefixLeader+"1", "\x00", "~")
	for _, key := range writable(hostA) {
		others = append(others, key+"\x00", key[:len(key)-1])
	}
	return own, others
}

// FuzzChangesOf has what may pass, whatever it is, leave everything alone that is not the host's: it is carried out by
// rules of its own on keys of everybody.
func FuzzChangesOf(f *testing.F) {
	own, others := keysOfAll()
	seed := func(r *pb.TxnRequest) {
		data, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, key := range append(own, others...) {
		put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Lease: 1}}}
		inner := &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: []*pb.RequestOp{put}}}}
		seed(&pb.TxnRequest{Success: []*pb.RequestOp{put, inner}})
		for _, end := range []string{"", "\x00", key + "\x00", "~", store.EndApp} {
			del := &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}
			seed(&pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}}}})
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &pb.TxnRequest{}
		if proto.Unmarshal(data, r) != nil {
			return
		}
		if _, ok := changesOf(hostA, r); !ok {
			return
		}
		for _, key := range others {
			if touches(r, []byte(key)) {
				t.Errorf("%v changes %q", r, key)
			}
		}
	})
}

// touches reports whether a transaction writes or deletes a key in any branch.
func touches(r *pb.TxnRequest, key []byte) bool {
	for _, op := range append(r.Success, r.Failure...) {
		if put := op.GetRequestPut(); put != nil && bytes.Equal(put.Key, key) {
			return true
		}
		if del := op.GetRequestDeleteRange(); del != nil {
			after := bytes.Compare(key, del.Key) >= 0
			switch {
			case len(del.RangeEnd) == 0 && bytes.Equal(key, del.Key):
				return true
			case len(del.RangeEnd) == 1 && del.RangeEnd[0] == 0 && after:
				return true
			case after && bytes.Compare(key, del.RangeEnd) < 0:
				return true
			}
		}
		if txn := op.GetRequestTxn(); txn != nil && touches(txn, key) {
			return true
		}
	}
	return false
}
