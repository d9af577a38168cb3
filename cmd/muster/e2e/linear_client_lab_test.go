//go:build lab

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// errNeverSent is for calls that certainly did nothing: nobody took the connection.
var errNeverSent = errors.New("nobody answers there")

// errUnclear is for calls that may have been done, or be done yet, or never.
var errUnclear = errors.New("the answer is lost")

// door is the gateway of one host, as programs of that host see it.
type door struct {
	host, address string // address:port
	web           *http.Client
	kv            pb.KVClient
	maintenance   pb.MaintenanceClient
	close         func()
}

// openDoor makes clients of versions 2 and 3 that are on the host's network.
func openDoor(n *spaces, host, address string) (*door, error) {
	dial := n.dialer(host)
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, "tcp", address) }),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 16}
	return &door{
		host: host, address: address, web: &http.Client{Transport: transport},
		kv: pb.NewKVClient(conn), maintenance: pb.NewMaintenanceClient(conn),
		close: func() { _ = conn.Close(); transport.CloseIdleConnections() },
	}, nil
}

// dialer connects from a host's network namespace: a socket stays in the one in which it was made.
func (n *spaces) dialer(host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		runtime.LockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return nil, err
		}
		defer func() { _ = own.Close() }()
		there, err := os.Open("/run/netns/" + n.space(host))
		if err != nil {
			return nil, err
		}
		defer func() { _ = there.Close() }()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			return nil, err
		}
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
			return nil, back // the thread ends with its goroutine, since it is locked
		}
		runtime.UnlockOSThread()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNeverSent, err)
		}
		return c, nil
	}
}

// wireNode and wireAnswer are version 2's, as far as the model knows them.
type wireNode struct {
	Key      string      `json:"key"`
	Value    string      `json:"value"`
	Modified int64       `json:"modifiedIndex"`
	Nodes    []*wireNode `json:"nodes"`
}

type wireAnswer struct {
	Code int       `json:"errorCode"`
	Node *wireNode `json:"node"`
	Prev *wireNode `json:"prevNode"`
}

func (n *wireNode) node() keyNode {
	if n == nil {
		return keyNode{}
	}
	return keyNode{exists: true, value: n.Value, index: n.Modified}
}

// call does what a call of the model asks for.
func (d *door) call(ctx context.Context, in keyCall) (keyAnswer, error) {
	if in.api == 3 {
		return d.call3(ctx, in)
	}
	return d.call2(ctx, in)
}

// call2 speaks version 2.
func (d *door) call2(ctx context.Context, in keyCall) (keyAnswer, error) {
	method, key, form := request2(in)
	answer, err := d.ask2(ctx, method, key, form)
	if err != nil {
		return keyAnswer{}, err
	}
	switch {
	case in.verb == verbList:
		return listed(answer)
	case in.verb == verbGet:
		return keyAnswer{outcome: done, node: answer.Node.node()}, nil
	case answer.Code != 0:
		return keyAnswer{outcome: refused, code: answer.Code}, nil
	case in.verb == verbPush:
		name, err := strconv.ParseInt(path.Base(answer.Node.Key), 10, 64)
		return keyAnswer{outcome: done, node: keyNode{exists: true, index: name}}, err
	case in.verb == verbPop:
		return keyAnswer{outcome: done}, nil
	}
	before := answer.Prev.node()
	return keyAnswer{outcome: done, node: keyNode{exists: in.verb == verbPut, index: answer.Node.Modified}, before: &before}, nil
}

// request2 is a call in version 2's terms.
func request2(in keyCall) (method, key string, form url.Values) {
	form = url.Values{}
	switch in.demand {
	case absent:
		form.Set("prevExist", "false")
	case present:
		form.Set("prevExist", "true")
	case sameValue:
		form.Set("prevValue", in.old)
	case sameIndex:
		form.Set("prevIndex", fmt.Sprint(in.index))
	}
	switch in.verb {
	case verbPush:
		form.Set("value", in.value)
		return http.MethodPost, in.key, form
	case verbPut:
		form.Set("value", in.value)
		return http.MethodPut, in.key, form
	case verbPop:
		return http.MethodDelete, fmt.Sprintf("%s/%020d", in.key, in.index), url.Values{}
	case verbDelete:
		form.Del("prevExist")
		return http.MethodDelete, in.key, form
	}
	return http.MethodGet, in.key, url.Values{"quorum": {"true"}, "sorted": {"true"}}
}

// ask2 makes a request. What the store could not answer, and reads that are marked as stale, are unclear.
func (d *door) ask2(ctx context.Context, method, key string, form url.Values) (wireAnswer, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+d.address+"/v2/keys"+key+"?"+form.Encode(), nil)
	if err != nil {
		return wireAnswer{}, err
	}
	resp, err := d.web.Do(r)
	if errors.Is(err, errNeverSent) {
		return wireAnswer{}, err
	}
	if err != nil {
		return wireAnswer{}, fmt.Errorf("%w: %w", errUnclear, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer wireAnswer
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return wireAnswer{}, fmt.Errorf("%w: %w", errUnclear, err)
	}
	known := map[int]bool{0: true, 100: true, 101: true, 105: true}
	if !known[answer.Code] || method == http.MethodGet && resp.Header.Get("X-Muster-Stale") != "" {
		return wireAnswer{}, fmt.Errorf("%w: %s, error code %d", errUnclear, resp.Status, answer.Code)
	}
	return answer, nil
}

// listed is what a directory of files in order has. Their names must be in order.
func listed(answer wireAnswer) (keyAnswer, error) {
	out := keyAnswer{outcome: done}
	if answer.Node == nil {
		return out, nil
	}
	for _, n := range answer.Node.Nodes {
		name, err := strconv.ParseInt(path.Base(n.Key), 10, 64)
		if err != nil || name <= out.node.index {
			return out, fmt.Errorf("%s is not in order after %d", n.Key, out.node.index)
		}
		out.items += n.Value + ","
		out.node.index = name
	}
	return out, nil
}

// call3 speaks version 3: single calls where nothing is demanded, and transactions that tell what was there otherwise.
func (d *door) call3(ctx context.Context, in keyCall) (keyAnswer, error) {
	key := []byte(in.key)
	var err error
	var out keyAnswer
	switch {
	case in.verb == verbGet:
		var r *pb.RangeResponse
		if r, err = d.kv.Range(ctx, &pb.RangeRequest{Key: key}); err == nil {
			out = keyAnswer{outcome: done, node: first(r.Kvs)}
		}
	case in.demand != nothing:
		out, err = d.txn(ctx, in)
	case in.verb == verbPut:
		var r *pb.PutResponse
		if r, err = d.kv.Put(ctx, &pb.PutRequest{Key: key, Value: []byte(in.value), PrevKv: true}); err == nil {
			out = wrote3(in, r.Header.Revision, one(r.PrevKv))
		}
	default:
		var r *pb.DeleteRangeResponse
		if r, err = d.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key, PrevKv: true}); err == nil {
			out = wrote3(in, r.Header.Revision, r.PrevKvs)
		}
	}
	switch {
	case err != nil && strings.Contains(err.Error(), errNeverSent.Error()):
		return out, fmt.Errorf("%w: %w", errNeverSent, err)
	case err != nil:
		return out, fmt.Errorf("%w: %w", errUnclear, err)
	}
	return out, nil
}

func one(kv *mvccpb.KeyValue) []*mvccpb.KeyValue {
	if kv == nil {
		return nil
	}
	return []*mvccpb.KeyValue{kv}
}

// first is the key that a range or an answer has, or nothing.
func first(kvs []*mvccpb.KeyValue) keyNode {
	if len(kvs) == 0 {
		return keyNode{}
	}
	return keyNode{exists: true, value: string(kvs[0].Value), index: kvs[0].ModRevision}
}

func wrote3(in keyCall, revision int64, before []*mvccpb.KeyValue) keyAnswer {
	prev := first(before)
	return keyAnswer{outcome: done, node: keyNode{exists: in.verb == verbPut, index: revision}, before: &prev}
}

// txn compares, and writes or tells what is there.
func (d *door) txn(ctx context.Context, in keyCall) (keyAnswer, error) {
	key := []byte(in.key)
	compare := &pb.Compare{Key: key, Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_CreateRevision{}}
	switch in.demand {
	case present:
		compare.Result = pb.Compare_GREATER
	case sameValue:
		compare.Target, compare.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: []byte(in.old)}
	case sameIndex:
		compare.Target, compare.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: in.index}
	}
	then := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: []byte(in.value), PrevKv: true}}}
	if in.verb == verbDelete {
		then = &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, PrevKv: true}}}
	}
	or := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}
	r, err := d.kv.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{compare}, Success: []*pb.RequestOp{then}, Failure: []*pb.RequestOp{or}})
	if err != nil {
		return keyAnswer{}, err
	}
	switch answer := r.Responses[0]; {
	case !r.Succeeded:
		found := first(answer.GetResponseRange().Kvs)
		return keyAnswer{outcome: refused, before: &found}, nil
	case in.verb == verbDelete:
		return wrote3(in, r.Header.Revision, answer.GetResponseDeleteRange().PrevKvs), nil
	default:
		return wrote3(in, r.Header.Revision, one(answer.GetResponsePut().PrevKv)), nil
	}
}
