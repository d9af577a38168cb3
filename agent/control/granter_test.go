package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// TestGranter has three voters and two others reboot one after the other, while the voters' health cannot be asked at first.
// All have their turn, the leader of etcd last.
func TestGranter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := store.NewMemory(time.Now)
		defer m.Close()
		var ids []string
		var voters []lock.Voter
		for n := range 5 {
			h := roster.Host{ID: fmt.Sprintf("h%d", n), Name: fmt.Sprintf("node-%d", n), Provider: "p", Voter: n < 3}
			if ids = append(ids, h.ID); h.Voter {
				voters = append(voters, lock.Voter{Host: h.ID, Healthy: true, Leader: n == 0})
			}
			member, err := store.Marshal(store.RosterRecord{Host: h})
			if err != nil {
				t.Fatal(err)
			}
			alive, _ := store.Marshal(store.Alive{})
			if _, err := m.Commit(ctx, store.Commit{Ops: []store.Op{
				store.Put(store.RosterKey(h.ID), member), store.Put(store.AliveKey(h.ID), alive),
			}}); err != nil {
				t.Fatal(err)
			}
		}
		healthyAt := time.Now().Add(time.Minute)
		g := &Granter{Store: m, Now: time.Now, Log: quiet(), Voters: func(context.Context) ([]lock.Voter, error) {
			if time.Now().Before(healthyAt) {
				return nil, errors.New("nobody answers")
			}
			return voters, nil
		}}
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx, unfenced) }()
		turns := make(chan string, len(ids))
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				claim := &lock.Claim{Store: m, Host: id, Boot: "1"}
				ticket, err := claim.Ask(ctx, "default", "update")
				if err == nil {
					err = claim.Await(ctx, ticket)
				}
				if err != nil {
					t.Error(err)
					return
				}
				turns <- id
				_ = pause.For(ctx, time.Second)
				if err := (&lock.Claim{Store: m, Host: id, Boot: "2"}).Release(ctx, "healthy"); err != nil {
					t.Error(err)
				}
			})
		}
		var order []string
		for range ids {
			order = append(order, <-turns)
		}
		if last := order[len(order)-1]; last != "h0" || time.Now().Before(healthyAt) {
			t.Errorf("the order is %v", order)
		}
		wg.Wait()
		cancel()
		<-done
	})
}
