package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/musterhq/muster/agent/api"
)

// load is an application that writes numbered keys, each once, through one host's gateway for as long as the test lets it,
// and remembers which of them were acknowledged.
type load struct {
	name  string // of its directory among the keys, and in the log
	stop  context.CancelFunc
	done  chan struct{}
	acked []string      // keys; each has itself as its value
	gap   time.Duration // the longest time without an acknowledgement
	after string        // the last error within that gap
}

// loadPause bounds the rate: how many writes fit into a second is another test's affair. loadPatience is how long a write may
// take: one that was on its way to the leader when that died is never answered, and etcd itself gives it up after 6 s.
const (
	loadPause    = 2 * time.Millisecond
	loadPatience = time.Second
)

// begin writes with put until the load is stopped.
func begin(t *testing.T, name string, put func(ctx context.Context, key string) error) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{name: name, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		last, failure := time.Now(), ""
		for n := 0; ctx.Err() == nil; n++ {
			key := fmt.Sprintf("/load/%s/%06d", name, n)
			attempt, cancel := context.WithTimeout(ctx, loadPatience)
			err := put(attempt, key)
			cancel()
			if err == nil {
				l.acked = append(l.acked, key)
				if gap := time.Since(last); gap > l.gap {
					l.gap, l.after = gap, failure
				}
				last, failure = time.Now(), ""
			} else if ctx.Err() == nil {
				failure = err.Error()
			}
			select {
			case <-ctx.Done():
			case <-time.After(loadPause):
			}
		}
	}()
	t.Cleanup(func() { l.end() })
	return l
}

func (l *load) end() {
	l.stop()
	<-l.done
}

// putV2 writes as curl does, at a host's port 4001.
func putV2(address string) func(context.Context, string) error {
	return func(ctx context.Context, key string) error {
		body := strings.NewReader(url.Values{"value": {key}}.Encode())
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+address+":4001/v2/keys"+key, body)
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			return fmt.Errorf("%s: %s", key, resp.Status)
		}
		return nil
	}
}

// putV3 writes as etcd's clients do, at a host's port 2379.
func putV3(t *testing.T, address string) func(context.Context, string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + address + ":2379"}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return func(ctx context.Context, key string) error {
		_, err := client.Put(ctx, key, key)
		return err
	}
}

// check ends the load and reads, through another host's gateway and as of now, every key that was acknowledged.
func (l *load) check(t *testing.T, address string) {
	t.Helper()
	l.end()
	code, body := ask(t, http.MethodGet, address, "/v2/keys/load/"+l.name+"?quorum=true&recursive=true", "")
	var answer struct {
		Node struct{ Nodes []struct{ Key, Value string } }
	}
	if err := json.Unmarshal([]byte(body), &answer); code != http.StatusOK || err != nil {
		t.Fatalf("cannot read the keys of %s at %s: %d, %v", l.name, address, code, err)
	}
	there := make(map[string]bool, len(answer.Node.Nodes))
	for _, n := range answer.Node.Nodes {
		there[n.Key] = n.Value == n.Key
	}
	var lost []string
	for _, key := range l.acked {
		if !there[key] {
			lost = append(lost, key)
		}
	}
	t.Logf("%s: %d writes were acknowledged, %d of them are lost; the longest gap was %s (%s)",
		l.name, len(l.acked), len(lost), l.gap.Round(time.Millisecond), l.after)
	if len(lost) > 0 || len(l.acked) == 0 {
		t.Errorf("%s: %d of %d acknowledged writes are lost: %v", l.name, len(lost), len(l.acked), lost[:min(len(lost), 10)])
	}
}

// TestVoterCountUnderLoad changes the number of voters in the cluster file, from 1 to 3, 5 and back to 3, while applications
// write through the gateways of the first voter and of a host that comes to vote: none of their acknowledged writes is lost,
// and no unit is stopped.
func TestVoterCountUnderLoad(t *testing.T) {
	c := sleepers(t, 5, 1, 5)
	c.must("up", "--yes")
	s := c.eventually(30*time.Second, whole(5, 1, 5))
	units := c.unitPIDs()
	first, last := s.Hosts[0], s.Hosts[4]
	loads := []*load{
		begin(t, "v2-at-"+first.Name, putV2(first.Address)),
		begin(t, "v3-at-"+first.Name, putV3(t, first.Address)),
		begin(t, "v2-at-"+last.Name, putV2(last.Address)),
	}
	was := 1
	for _, is := range []int{3, 5, 3} {
		c.edit(fmt.Sprintf("voters: %d\n", was), fmt.Sprintf("voters: %d\n", is))
		began := time.Now()
		c.must("up", "--yes")
		s := c.eventually(time.Minute, func(s api.Status) error {
			if s.Voters.Total != is || s.Voters.Healthy != is || s.Stale {
				return fmt.Errorf("want %d voters: %+v", is, s.Voters)
			}
			return nil
		})
		t.Logf("from %d to %d voters in %s, led by %s", was, is, time.Since(began).Round(time.Millisecond), s.Voters.Leader)
		was = is
	}
	for _, l := range loads {
		l.check(t, s.Hosts[2].Address+":4001")
	}
	if after := c.unitPIDs(); !equal(units, after) {
		t.Errorf("units did not run on: before %v, after %v", units, after)
	}
	if r := c.must("plan"); !strings.Contains(r.output(), "nothing to do") {
		t.Errorf("there is more to change:\n%s", r.output())
	}
}

// TestVoterReplacedUnderLoad kills the voter that leads etcd, for good, under the same load: the standby host takes its place
// after the grace, and no acknowledged write is lost.
func TestVoterReplacedUnderLoad(t *testing.T) {
	c := sleepers(t, 4, 3, 4)
	c.edit("voters: 3\n", "voters: 3\nvoter_grace: 5s\n")
	c.must("up", "--yes")
	s := c.eventually(30*time.Second, whole(4, 3, 4))
	leader := s.Voters.Leader
	left := slices.DeleteFunc(slices.Clone(s.Hosts), func(h api.HostStatus) bool { return h.Name == leader })
	var loads []*load
	for _, h := range []api.HostStatus{left[0], left[2]} { // a voter and the standby
		loads = append(loads, begin(t, "v2-at-"+h.Name, putV2(h.Address)), begin(t, "v3-at-"+h.Name, putV3(t, h.Address)))
	}
	began := time.Now()
	c.signal(syscall.SIGKILL, c.hostProcesses(leader, false))
	c.eventually(time.Minute, whoVotes(left[0].Name, left[1].Name, left[2].Name))
	t.Logf("%s led and was killed; %s voted in its place after %s", leader, left[2].Name, time.Since(began).Round(time.Millisecond))
	for _, l := range loads {
		l.check(t, left[1].Address+":4001")
	}
}
