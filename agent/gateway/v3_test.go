package gateway

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/musterhq/muster/cluster/store"
)

// beside are keys of the store that no caller may see or change.
var beside = []string{store.KeyCluster, store.FirstApp + "node/a", "/app", store.EndApp, "/apple", "zzz", "\x00"}

// full is a world with keys of applications and of others, and a client of its gateway.
func full(t *testing.T) (*world, *clientv3.Client) {
	w := newWorld(t)
	for _, key := range beside {
		w.put(key, "secret")
	}
	for _, key := range []string{"a", "a/b", "b", "c/d"} {
		w.put(store.PrefixApp+key, "value of "+key)
	}
	return w, w.client("http://" + w.gateway(Policy{}))
}

// untouched fails if any of the keys, which are beside the subtree, has changed.
func (w *world) untouched(keys []string) {
	w.Helper()
	for _, key := range keys {
		resp, err := w.voter.Get(w.Context(), key)
		if err != nil {
			w.Fatal(err)
		}
		if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "secret" || resp.Kvs[0].Version != 1 {
			w.Errorf("%q was changed: %v", key, resp.Kvs)
		}
	}
}

func names(kvs []*mvccpb.KeyValue) string {
	var list []string
	for _, kv := range kvs {
		list = append(list, string(kv.Key))
	}
	return strings.Join(list, " ")
}

func TestRanges(t *testing.T) {
	w, c := full(t)
	for _, tt := range []struct {
		key  string
		opts []clientv3.OpOption
		want string
	}{
		{"a", nil, "a"},
		{"/a", nil, "/a"},
		{"/a/b", nil, "/a/b"},
		{"//a", nil, ""},
		{"x", nil, ""},
		{"", []clientv3.OpOption{clientv3.WithPrefix()}, "a a/b b c/d"},
		{"", []clientv3.OpOption{clientv3.WithFromKey()}, "a a/b b c/d"},
		{"/", []clientv3.OpOption{clientv3.WithPrefix()}, "/a /a/b /b /c/d"},
		{"a", []clientv3.OpOption{clientv3.WithPrefix()}, "a a/b"},
		{"/a/", []clientv3.OpOption{clientv3.WithPrefix()}, "/a/b"},
		{"/b", []clientv3.OpOption{clientv3.WithFromKey()}, "/b /c/d"},
		{"/b", []clientv3.OpOption{clientv3.WithRange("zzz")}, "/b /c/d"},
		{"/a", []clientv3.OpOption{clientv3.WithRange("-")}, ""},
		{"b", []clientv3.OpOption{clientv3.WithRange("/")}, ""},
		{"\x00", []clientv3.OpOption{clientv3.WithRange("\xff\xff")}, "a a/b b c/d"},
		{"", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(2)}, "c/d b"},
	} {
		resp, err := c.Get(t.Context(), tt.key, tt.opts...)
		if err != nil {
			t.Errorf("%q: %v", tt.key, err)
			continue
		}
		if got := names(resp.Kvs); got != tt.want {
			t.Errorf("%q has %q, want %q", tt.key, got, tt.want)
		}
	}
	if resp, err := c.Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || resp.Count != 4 {
		t.Errorf("all are %v, %v", resp, err)
	}
	w.untouched(beside)
}

func TestWrites(t *testing.T) {
	w, c := full(t)
	ctx := t.Context()
	for _, key := range []string{"../muster/cluster", "/../muster/cluster", "0", "/0", "\xff", "//x"} {
		if _, err := c.Put(ctx, key, "x"); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range []string{"", "/", strings.Repeat("k", maxKey+1)} {
		if _, err := c.Put(ctx, key, "x"); err == nil {
			t.Errorf("a key of %d bytes was written", len(key))
		}
	}
	if _, err := c.Put(ctx, "big", strings.Repeat("x", maxValue+1)); err == nil {
		t.Error("a value that is too large was written")
	}
	put, err := c.Put(ctx, "/a", "new", clientv3.WithPrevKV())
	if err != nil || string(put.PrevKv.Key) != "/a" || string(put.PrevKv.Value) != "value of a" {
		t.Errorf("a put answers %v, %v", put, err)
	}
	if item, err := w.voter.Get(ctx, store.PrefixApp+"a"); err != nil || string(item.Kvs[0].Value) != "new" {
		t.Errorf("the store has %v, %v", item, err)
	}
	del, err := c.Delete(ctx, "a", clientv3.WithPrefix(), clientv3.WithPrevKV())
	if err != nil || names(del.PrevKvs) != "a a/b" {
		t.Errorf("a deletion answers %v, %v", del, err)
	}
	if _, err := c.Compact(ctx, put.Header.Revision); status.Code(err) != codes.PermissionDenied && !strings.Contains(fmt.Sprint(err), "compact") {
		t.Errorf("a compaction: %v", err)
	}
	if _, err := c.Delete(ctx, "", clientv3.WithFromKey()); err != nil {
		t.Error(err)
	}
	if left, err := w.voter.Get(ctx, store.PrefixApp, clientv3.WithRange(store.EndApp)); err != nil || left.Count != 0 {
		t.Errorf("after everything was deleted there are %v, %v", left, err)
	}
	w.untouched(beside)
}

func TestTransactions(t *testing.T) {
	w, c := full(t)
	ctx := t.Context()
	inner := clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value("/b"), "=", "value of b")},
		[]clientv3.Op{clientv3.OpGet("/b"), clientv3.OpPut("new", "x")},
		[]clientv3.Op{clientv3.OpGet("a")},
	)
	all := clientv3.Compare(clientv3.ModRevision("a").WithPrefix(), ">", 0)
	resp, err := c.Txn(ctx).If(all).Then(inner, clientv3.OpDelete("c/d", clientv3.WithPrevKV()), clientv3.OpGet("/", clientv3.WithPrefix())).Commit()
	if err != nil || !resp.Succeeded {
		t.Fatalf("%v, %v", resp, err)
	}
	nested := resp.Responses[0].GetResponseTxn()
	if got := names(nested.Responses[0].GetResponseRange().Kvs); got != "/b" {
		t.Errorf("the nested read has %q", got)
	}
	if got := names(resp.Responses[1].GetResponseDeleteRange().PrevKvs); got != "c/d" {
		t.Errorf("the deletion has %q", got)
	}
	if got := names(resp.Responses[2].GetResponseRange().Kvs); got != "/a /a/b /b /new" {
		t.Errorf("the last read has %q", got)
	}
	other, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version("a"), "=", 0)).Then(clientv3.OpPut("z", "")).Else(clientv3.OpGet("a")).Commit()
	if err != nil || other.Succeeded || names(other.Responses[0].GetResponseRange().Kvs) != "a" {
		t.Errorf("the branch that failed answers %v, %v", other, err)
	}
	deep := clientv3.OpGet("a")
	for range maxDepth {
		deep = clientv3.OpTxn(nil, []clientv3.Op{deep}, nil)
	}
	if _, err := c.Do(ctx, clientv3.OpTxn(nil, []clientv3.Op{deep}, nil)); err == nil {
		t.Error("transactions may be nested without bound")
	}
	if _, err := c.Txn(ctx).Then(slices.Repeat([]clientv3.Op{clientv3.OpGet("a")}, maxOps+1)...).Commit(); err == nil {
		t.Error("transactions may have any number of operations")
	}
	w.untouched(beside)
}

func TestWatches(t *testing.T) {
	w, c := full(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watches := map[string]clientv3.WatchChan{
		"everything":    c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify()),
		"from the root": c.Watch(ctx, "/", clientv3.WithPrefix(), clientv3.WithCreatedNotify()),
		"one key":       c.Watch(ctx, "/a", clientv3.WithCreatedNotify()),
		"from a key":    c.Watch(ctx, "a", clientv3.WithFromKey(), clientv3.WithCreatedNotify()),
	}
	for name, ch := range watches {
		if first := <-ch; !first.Created {
			t.Fatalf("%s: %v", name, first)
		}
	}
	w.put(store.KeyCluster+"x", "other")
	w.put(store.EndApp+"x", "other")
	w.put(store.PrefixApp+"a", "changed")
	for name, want := range map[string]string{"everything": "a", "from the root": "/a", "one key": "/a", "from a key": "a"} {
		got := <-watches[name]
		if len(got.Events) != 1 || string(got.Events[0].Kv.Key) != want {
			t.Errorf("%s: %v", name, got.Events)
		}
		if prev := got.Events[0].PrevKv; name == "everything" && (prev == nil || string(prev.Key) != "a" || string(prev.Value) != "value of a") {
			t.Errorf("%s: it was %v before", name, prev)
		}
	}
	if err := c.RequestProgress(ctx); err != nil {
		t.Error(err)
	}
	past := <-c.Watch(ctx, "/c/d", clientv3.WithRev(1))
	if len(past.Events) != 1 || string(past.Events[0].Kv.Key) != "/c/d" {
		t.Errorf("history has %v, %v", past.Events, past.Err())
	}
}

// TestLeases has an application's lease, and the cluster's, which none of the calls finds.
func TestLeases(t *testing.T) {
	w, c := full(t)
	ctx := t.Context()
	own, err := c.Grant(ctx, 60)
	if err != nil || own.ID <= 0 {
		t.Fatalf("%v, %v", own, err)
	}
	if _, err := c.Put(ctx, "/leased", "x", clientv3.WithLease(own.ID)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(ctx, "leased"); err != nil || got.Kvs[0].Lease != int64(own.ID) {
		t.Errorf("the key has %v, %v", got, err)
	}
	if got, err := w.voter.Get(ctx, store.PrefixApp+"leased"); err != nil || got.Kvs[0].Lease >= 0 {
		t.Errorf("the store has %v, %v", got, err)
	}
	session, err := w.voter.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	w.put(store.AliveKey("1"), "x", clientv3.WithLease(session.ID))
	for _, id := range []clientv3.LeaseID{session.ID, clientv3.LeaseID(leaseMark) | own.ID, 0, -1} {
		if _, err := c.Revoke(ctx, id); err == nil {
			t.Errorf("lease %x was revoked", int64(id))
		}
		if resp, err := c.KeepAliveOnce(ctx, id); err == nil {
			t.Errorf("lease %x was kept alive: %v", int64(id), resp)
		}
		if resp, err := c.TimeToLive(ctx, id, clientv3.WithAttachedKeys()); err == nil && resp.TTL > 0 {
			t.Errorf("lease %x was looked at: %v", int64(id), resp)
		}
		if _, err := c.Put(ctx, "/x", "x", clientv3.WithLease(id)); err == nil && id != 0 {
			t.Errorf("lease %x was given a key", int64(id))
		}
	}
	if _, err := c.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue("leased"), "=", own.ID)).Commit(); err != nil {
		t.Error(err)
	}
	list, err := c.Leases(ctx)
	if err != nil || len(list.Leases) != 1 || list.Leases[0].ID != own.ID {
		t.Errorf("there are leases %v, %v", list, err)
	}
	ttl, err := c.TimeToLive(ctx, own.ID, clientv3.WithAttachedKeys())
	if err != nil || ttl.TTL <= 0 || ttl.ID != own.ID || string(bytes.Join(ttl.Keys, nil)) != "/leased" {
		t.Errorf("the lease is %v, %v", ttl, err)
	}
	if kept, err := c.KeepAliveOnce(ctx, own.ID); err != nil || kept.TTL != 60 || kept.ID != own.ID {
		t.Errorf("it was kept alive: %v, %v", kept, err)
	}
	if _, err := c.Revoke(ctx, own.ID); err != nil {
		t.Error(err)
	}
	if got, err := c.Get(ctx, "leased"); err != nil || got.Count != 0 {
		t.Errorf("after its lease there is %v, %v", got, err)
	}
	if left, err := w.voter.TimeToLive(ctx, session.ID); err != nil || left.TTL <= 0 {
		t.Errorf("the session has %v, %v", left, err)
	}
	chosen, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 60})
	if err != nil || chosen.ID != 7 {
		t.Errorf("a chosen ID: %v, %v", chosen, err)
	}
}

// TestRecipes runs those of clientv3's package concurrency through two gateways.
func TestRecipes(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	session := func() *concurrency.Session {
		s, err := concurrency.NewSession(w.client("http://"+w.gateway(Policy{})), concurrency.WithTTL(30))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two := session(), session()
	first, second := concurrency.NewMutex(one, "/lock"), concurrency.NewMutex(two, "/lock")
	if err := first.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := second.TryLock(ctx); err != concurrency.ErrLocked {
		t.Errorf("a lock that is held: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- second.Lock(ctx) }()
	if err := first.Unlock(ctx); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	leader, follower := concurrency.NewElection(one, "vote"), concurrency.NewElection(two, "vote")
	if err := leader.Campaign(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	go func() { got <- follower.Campaign(ctx, "two") }()
	if resp, err := follower.Leader(ctx); err != nil || string(resp.Kvs[0].Value) != "one" {
		t.Errorf("the leader is %v, %v", resp, err)
	}
	if err := one.Close(); err != nil { // whose lease takes its place away
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// TestOtherCalls makes every call that etcd's services have. Those that do not stand here are refused.
func TestOtherCalls(t *testing.T) {
	w := newWorld(t)
	w.put(store.KeyCluster, "secret")
	conn, err := grpc.NewClient("passthrough:///"+w.gateway(Policy{}), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	served := map[string]bool{
		"KV/Range": true, "KV/Put": true, "KV/DeleteRange": true, "KV/Txn": true, "Watch/Watch": true,
		"Lease/LeaseGrant": true, "Lease/LeaseRevoke": true, "Lease/LeaseKeepAlive": true, "Lease/LeaseTimeToLive": true,
		"Lease/LeaseLeases": true, "Cluster/MemberList": true, "Maintenance/Status": true, "Maintenance/Alarm": true,
		"Auth/AuthStatus": true, "Auth/Authenticate": true,
	}
	calls := 0
	for _, desc := range []grpc.ServiceDesc{
		pb.KV_ServiceDesc, pb.Watch_ServiceDesc, pb.Lease_ServiceDesc, pb.Cluster_ServiceDesc, pb.Maintenance_ServiceDesc,
		pb.Auth_ServiceDesc,
	} {
		short := strings.TrimPrefix(desc.ServiceName, "etcdserverpb.")
		for _, m := range desc.Methods {
			if calls++; served[short+"/"+m.MethodName] {
				continue
			}
			// A range request is a message of the least that each of the calls has.
			err := conn.Invoke(t.Context(), "/"+desc.ServiceName+"/"+m.MethodName, &pb.RangeRequest{}, &pb.RangeResponse{})
			if c := status.Code(err); c != codes.Unimplemented && c != codes.PermissionDenied {
				t.Errorf("%s/%s: %v", short, m.MethodName, err)
			}
		}
		for _, s := range desc.Streams {
			if calls++; served[short+"/"+s.StreamName] {
				continue
			}
			stream, err := conn.NewStream(t.Context(), &s, "/"+desc.ServiceName+"/"+s.StreamName)
			if err == nil {
				if err = stream.SendMsg(&pb.RangeRequest{}); err == nil {
					err = stream.RecvMsg(&pb.RangeResponse{})
				}
			}
			if status.Code(err) != codes.Unimplemented {
				t.Errorf("%s/%s: %v", short, s.StreamName, err)
			}
		}
	}
	for _, other := range []string{"/v3lockpb.Lock/Lock", "/v3electionpb.Election/Campaign", "/etcdserverpb.KV/../Maintenance/Snapshot", "/leasepb.Lease/x"} {
		if err := conn.Invoke(t.Context(), other, &pb.RangeRequest{}, &pb.RangeResponse{}); status.Code(err) == codes.OK {
			t.Errorf("%s is served", other)
		}
	}
	disarm := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE}
	if _, err := pb.NewMaintenanceClient(conn).Alarm(t.Context(), disarm); status.Code(err) != codes.PermissionDenied {
		t.Errorf("an alarm was disarmed: %v", err)
	}
	t.Logf("%d calls", calls)
}

// TestMember is what clients are told of the cluster: the address that they came to.
func TestMember(t *testing.T) {
	w := newWorld(t)
	address := w.gateway(Policy{})
	c := w.client("http://" + address)
	list, err := c.MemberList(t.Context())
	if err != nil || len(list.Members) != 1 || list.Members[0].Name != "node-1" || !slices.Equal(list.Members[0].ClientURLs, []string{"http://" + address}) {
		t.Errorf("%v, %v", list, err)
	}
	if err := c.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	if s, err := c.Status(t.Context(), address); err != nil || s.Leader == 0 {
		t.Errorf("%v, %v", s, err)
	}
}
