package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/cluster/roster"
)

// TestFullStore fills the store of a voter with keys that are needed. Who writes is told so, by whatever way, and so is who asks
// for the status. Then the agent begins anew, so that no leader of the scheduling is left and none can be elected. Units go
// on. When the keys are removed the store takes writes again by itself. That three voters do so one after another, which
// takes more of a machine, is for a test of voters alone.
func TestFullStore(t *testing.T) {
	awaitHangUp(t)
	o := newOperator(t)
	o.quota = 12 << 20
	h := o.host(1, true)
	ends := o.formEach(roster.Roster{h})
	c := o.client()
	o.eventually("form", voting(t.Context(), c, "node-1"))
	for _, unit := range []api.Unit{{Name: "sleep@.service", Content: sleeper}, {Name: "sleep@1.service", Desired: "launched"}} {
		if _, err := c.PutUnit(t.Context(), unit); err != nil {
			t.Fatal(err)
		}
	}
	runs := func() error {
		s, err := c.Status(t.Context())
		if err != nil {
			return err
		}
		return running(s, "sleep@1.service@node-1")
	}
	o.eventually("run", runs)
	before := o.starts()

	o.fill(h)
	o.eventually("an operator is refused", func() error {
		_, err := c.PutUnit(t.Context(), api.Unit{Name: "sleep@2.service", Desired: "launched"})
		if refusal := (*api.Error)(nil); !errors.As(err, &refusal) || refusal.Status != http.StatusInsufficientStorage {
			return fmt.Errorf("submitting a unit: %w", err)
		}
		return nil
	})
	o.eventually("the status tells", func() error { return o.warned(c, true) })
	ends[h.Name]()
	o.start(h.Name)
	o.eventually("the status tells again", func() error { return o.warned(c, true) })

	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://" + h.Address + ":4001"}, Logger: zap.NewNop(), DialTimeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	o.eventually("remove keys", func() error {
		_, err := client.Delete(t.Context(), "/fill/", clientv3.WithPrefix())
		return err
	})
	o.within(2*time.Minute, "there is room", func() error { return o.warned(c, false) })
	o.eventually("write again", func() error {
		_, err := c.PutUnit(t.Context(), api.Unit{Name: "sleep@2.service", Desired: "inactive"})
		return err
	})
	o.eventually("still run", runs)
	if after := o.starts(); !maps.Equal(after, before) {
		t.Errorf("units were started again: %v, then %v", before, after)
	}
}

// fill writes keys by version 2 until the store takes no more.
func (o *operator) fill(h roster.Host) {
	o.t.Helper()
	value := strings.Repeat("x", 256<<10)
	for n := range 2 * int(o.quota) / len(value) {
		refusal, err := o.putKey(h, fmt.Sprintf("fill/%d", n), value)
		if err != nil {
			o.t.Fatal(err)
		}
		if refusal.Code == 0 {
			continue
		}
		if refusal.Code != keys.CodeRaft || !strings.Contains(refusal.Cause, "the store is full") {
			o.t.Errorf("a write to the full store: %+v", refusal)
		}
		return
	}
	o.t.Fatal("the store does not fill")
}

// putKey writes a key by version 2 and returns why it was refused, if it was.
func (o *operator) putKey(h roster.Host, key, value string) (refusal keys.Error, err error) {
	body := strings.NewReader(url.Values{"value": {value}}.Encode())
	r, err := http.NewRequestWithContext(o.t.Context(), http.MethodPut, "http://"+h.Address+":4001/v2/keys/"+key, body)
	if err != nil {
		return refusal, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return refusal, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode < 300 {
		return refusal, nil
	}
	var said struct {
		Code  int    `json:"errorCode"`
		Cause string `json:"cause"`
	}
	err = json.NewDecoder(answer.Body).Decode(&said)
	return keys.Error{Code: said.Code, Cause: said.Cause}, err
}

// warned is a check of whether the status tells, with the voter well, that the store is full and what to do.
func (o *operator) warned(c *api.Client, want bool) error {
	s, err := c.Status(o.t.Context())
	if err != nil {
		return err
	}
	got := slices.ContainsFunc(s.Warnings, func(line string) bool {
		return strings.Contains(line, "is full") && strings.Contains(line, "remove keys")
	})
	if got != want || s.Voters.Healthy != 1 {
		return fmt.Errorf("%d voters are well, warnings %q", s.Voters.Healthy, s.Warnings)
	}
	return nil
}
