package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/agent/locksmith"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// TestRebootLock has an operator, a host with its own certificate and clients of FleetLock use the lock of a real voter.
func TestRebootLock(t *testing.T) {
	o := newOperator(t)
	voter, worker := o.host(1, true), o.host(2, false)
	open := voter.Address + ":7480"
	o.files = map[string]string{fleetLockPath: fmt.Sprintf(`{"listen": %q}`, open)}
	o.form(voter)
	c := o.client()
	ctx := t.Context()
	o.eventually("the first order", func() error {
		return c.OrderLock(ctx, "default", api.LockMax, api.LockOrder{Max: 1, Reason: "test"})
	})
	o.enrol(c, worker)
	order := func(verb, holder string, force bool, says string) {
		t.Helper()
		err := c.OrderLock(ctx, "default", verb, api.LockOrder{Holder: holder, Force: force, Reason: "test"})
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s %s: %v, want %q", verb, holder, err, says)
		}
	}
	claim := &lock.Claim{Store: o.dialAs(worker.Name, voter.ClientURL()), Host: worker.ID, Boot: "1"}
	var ticket int64
	o.eventually("a host has the lock", func() (err error) {
		if ticket, err = claim.Ask(ctx, "default", "update"); err != nil {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return claim.Await(waiting, ticket)
	})
	o.otherwise(claim)
	order(api.LockHold, "me", false, "1 of 1 places are held")
	order(api.LockRelease, worker.Name, false, "as host")
	if status := postFleetLock(t, http.DefaultClient, "http://"+open, "a"); status != http.StatusConflict {
		t.Errorf("FleetLock of a lock that is held: %d", status)
	}
	if err := claim.Release(ctx, "healthy"); err != nil {
		t.Fatal(err)
	}
	o.eventually("the host has given it back", func() error {
		holds, err := claim.Holds(ctx, ticket)
		if holds {
			err = errors.New("not yet")
		}
		return err
	})
	order(api.LockHold, voter.Name, false, "it votes")
	order(api.LockHold, worker.Name, false, "")
	order(api.LockRelease, worker.Name, false, "")
	order(api.LockRelease, worker.Name, false, "does not hold")
	if status := postFleetLock(t, http.DefaultClient, "http://"+open, "a"); status != http.StatusOK {
		t.Errorf("FleetLock without a certificate: %d", status)
	}
	order(api.LockRelease, "a", true, "")
	operator := &http.Client{Transport: &http.Transport{TLSClientConfig: pki.ClientConfig(o.root.Cert, o.source, "")}}
	defer operator.CloseIdleConnections()
	if status := postFleetLock(t, operator, "https://"+voter.APIAddress()+"/fleetlock", "b"); status != http.StatusOK {
		t.Errorf("FleetLock with a certificate: %d", status)
	}
	o.remembers(c)
	order(api.LockRelease, "b", true, "")
	o.locksmithctl(worker)
}

// locksmithctl is it on a host that does not vote.
func (o *operator) locksmithctl(h roster.Host) {
	o.t.Helper()
	at := "http://" + h.Address + ":4001/v2/keys" + locksmith.Root + "/semaphore"
	call := func(method, query, value string) (status int, index string) {
		r, err := http.NewRequestWithContext(o.t.Context(), method, at+"?"+query, strings.NewReader(url.Values{"value": {value}}.Encode()))
		if err != nil {
			o.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			o.t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		var body struct {
			Node struct {
				ModifiedIndex int64 `json:"modifiedIndex"`
			} `json:"node"`
		}
		if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
			o.t.Fatal(err)
		}
		return answer.StatusCode, fmt.Sprint(body.Node.ModifiedIndex)
	}
	for _, step := range []struct {
		holders string
		status  int
	}{{`0,"max":1,"holders":["x"]`, 401}, {`0,"max":1,"holders":["` + h.ID + `"]`, 200}, {`1,"max":1,"holders":null`, 200}} {
		_, index := call(http.MethodGet, "quorum=false", "")
		if status, _ := call(http.MethodPut, "prevIndex="+index, `{"semaphore":`+step.holders+"}"); status != step.status {
			o.t.Errorf("locksmithctl, %s: %d, want %d", step.holders, status, step.status)
		}
	}
}

// dialAs is the store as a host has it.
func (o *operator) dialAs(name, url string) store.Store {
	o.t.Helper()
	storage, err := join.OpenStorage(o.roots[name])
	if err != nil {
		o.t.Fatal(err)
	}
	o.eventually(name+" has joined", func() error {
		_, err := os.Stat(storage.CertFile())
		return err
	})
	source, err := pki.NewSource(storage.CertFile(), storage.KeyFile())
	if err != nil {
		o.t.Fatal(err)
	}
	s, err := store.DialEtcd(o.t.Context(), store.EtcdConfig{
		Endpoints: []string{url}, TLS: pki.ClientConfig(o.root.Cert, source, pki.VoterName), Log: o.log,
	})
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = s.Close() })
	return s
}

// otherwise checks that a host may not write the lock itself, its grant, or what another host wants.
func (o *operator) otherwise(c *lock.Claim) {
	o.t.Helper()
	for _, key := range []string{
		store.KeyLock, store.LockKey("default"), store.GrantKey(c.Host), store.RebootKey(id(1)),
	} {
		_, err := c.Store.Commit(o.t.Context(), store.Commit{Ops: []store.Op{store.Put(key, []byte("{}"))}})
		if !errors.Is(err, store.ErrDenied) {
			o.t.Errorf("a host writes %s: %v", key, err)
		}
	}
}

// postFleetLock asks for the lock as Zincati does.
func postFleetLock(t *testing.T, c *http.Client, base, id string) int {
	t.Helper()
	body := strings.NewReader(`{"client_params":{"id":"` + id + `","group":"default"}}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/pre-reboot", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("fleet-lock-protocol", "true")
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// remembers checks what the lock tells of all this.
func (o *operator) remembers(c *api.Client) {
	o.t.Helper()
	locks, err := c.Locks(o.t.Context())
	if err != nil || len(locks) != 1 {
		o.t.Fatalf("%+v, %v", locks, err)
	}
	var got []string
	for _, e := range locks[0].History {
		got = append(got, e.What+" "+e.Host+e.ID[:min(len(e.ID), 1)]+" "+e.By)
	}
	first := id(2)[:1]
	want := []string{
		"granted node-2" + first + " host", "released node-2" + first + " host",
		"granted node-2" + first + " operator", "released node-2" + first + " operator",
		"granted a FleetLock", "forced a operator", "granted b FleetLock",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		o.t.Errorf("the history is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if h := locks[0].Holders; len(h) != 1 || h[0].ID != "b" || h[0].Kind != string(store.HolderFleetLock) {
		o.t.Errorf("held by %+v", h)
	}
}
