package lock

import (
	"errors"
	"testing"

	"github.com/musterhq/muster/cluster/store"
)

// The voters of small clusters go for an operator or a client only where the cluster file says that an outage is allowed, and one
// of a cluster of three never needs that.
func TestKeeperAllowsOutage(t *testing.T) {
	hold := store.LockHolder{ID: "v1", Kind: store.HolderOperator, Host: "v1"}
	client := store.LockHolder{ID: "v1", Kind: store.HolderFleetLock, Host: "v1"}
	for _, tt := range []struct {
		name    string
		hosts   []string
		allow   bool
		granted bool
	}{
		{name: "one voter", hosts: []string{"v1"}},
		{name: "one voter, allowed", hosts: []string{"v1"}, allow: true, granted: true},
		{name: "two voters", hosts: []string{"v1", "v2"}},
		{name: "two voters, allowed", hosts: []string{"v1", "v2"}, allow: true, granted: true},
		{name: "three voters", hosts: []string{"v1", "v2", "v3"}, granted: true},
	} {
		for _, h := range []store.LockHolder{hold, client} {
			t.Run(tt.name+" "+string(h.Kind), func(t *testing.T) {
				k, m := keeper(t, tt.hosts...)
				data, err := store.Marshal(store.UpdateRecord{Settings: store.UpdateSettings{AllowOutage: tt.allow}})
				if err != nil {
					t.Fatal(err)
				}
				put := store.Commit{Ops: []store.Op{store.Put(store.UpdateKey(store.UpdateGroup), data)}}
				if _, err := m.Commit(t.Context(), put); err != nil {
					t.Fatal(err)
				}
				err = k.Lock(t.Context(), DefaultGroup, h, "operator", "")
				if refused := (*Refused)(nil); (err == nil) != tt.granted || err != nil && !errors.As(err, &refused) {
					t.Errorf("the lock: %v", err)
				}
			})
		}
	}
}
