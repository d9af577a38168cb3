package voter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/store"
)

// TestFullStore really fills the databases of three members. Writes fail and say what to do, reads and signs of life go on. Upkeep
// removes old revisions, makes room in one member after another, the leader's last, and ends the alarm; then writes go on,
// and nothing that was acknowledged is lost.
func TestFullStore(t *testing.T) {
	const quota = 24 << 20
	c := newCluster(t, 3, 0)
	c.quota = quota
	c.form(t.Context())
	control := c.control()
	if err := control.EnsureAuth(t.Context(), c.hosts); err != nil {
		t.Fatal(err)
	}
	st, err := store.DialEtcd(t.Context(), store.EtcdConfig{Endpoints: c.endpoints(), TLS: c.controlTLS(0)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	session, err := st.NewSession(t.Context(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	write := func(key, value string, lease int64) error {
		for { // it may be repeated: the same value under the same key
			_, err := st.Commit(t.Context(), store.Commit{Ops: []store.Op{{Key: key, Value: []byte(value), Session: lease}}})
			if !errors.Is(err, store.ErrUnavailable) || t.Context().Err() != nil {
				return err
			}
		}
	}
	alive := store.AliveKey(c.hosts[0].ID)
	if err := write(alive, "x", session.ID()); err != nil {
		t.Fatal(err)
	}

	want := map[string]string{} // as acknowledged
	key, last := "", ""
	large := strings.Repeat("x", 512<<10)
	for n := 0; ; n++ {
		key, last = fmt.Sprintf("/app/%d", n%4), fmt.Sprintf("%d%s", n, large)
		if err = write(key, last, 0); err != nil {
			break
		}
		if want[key] = last; n > 10*quota/len(large) {
			t.Fatal("the store does not fill")
		}
	}
	if !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "remove keys") {
		t.Errorf("a write to the full store: %v", err)
	}
	for !c.alarmed(t, control) { // the member that took the first write may have had room: then only the next one raises it
		_ = write(key, last, 0)
	}
	for key := range want { // the write that fills it may be written all the same
		if item, err := st.Get(t.Context(), key); err == nil && string(item.Value) == last {
			want[key] = last
		}
	}
	c.reads(t, st, want)

	var kinds []membership.UpkeepKind
	deadline := time.Now().Add(5 * time.Minute)
	done, leads := membership.Upkeep{}, uint64(0)
	led, after := uint64(0), 0 // the leader, once its database was defragmented, and how many were after it
	for compacted := false; !slices.Contains(kinds, membership.Disarm); {
		if leads, err = c.leader(t, control); err == nil {
			done, err = control.Maintain(t.Context(), compacted)
		}
		if err != nil {
			t.Fatal(err)
		}
		if done.Kind == membership.UpkeepNone {
			if time.Now().After(deadline) {
				t.Fatalf("upkeep did %v and rests: %s", kinds, done.Reason)
			}
			<-time.After(100 * time.Millisecond)
			continue
		}
		compacted = compacted || done.Kind == membership.Compact
		if kinds = append(kinds, done.Kind); done.Kind == membership.Defragment {
			if led != 0 && led == leads {
				after++
			}
			if done.Member == leads {
				led = leads
			}
			c.reads(t, st, want) // of whichever member
		}
	}
	if kinds[0] != membership.Compact || !slices.Contains(kinds, membership.Defragment) || after > 0 {
		t.Errorf("upkeep did %v, and defragmented %d databases after the leader's", kinds, after)
	}
	health, err := control.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range health {
		if len(h.Alarms) > 0 {
			t.Errorf("%+v", h)
		}
	}
	if err := write("/app/again", "y", 0); err != nil {
		t.Errorf("a write when there is room: %v", err)
	}
	c.reads(t, st, want)
	if item, err := st.Get(t.Context(), alive); err != nil || item.Session != session.ID() {
		t.Errorf("the sign of life is %+v, %v", item, err)
	}
}

// alarmed tells whether any member complains.
func (c *cluster) alarmed(t *testing.T, control *Control) bool {
	t.Helper()
	all, err := control.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(all, func(h Health) bool { return len(h.Alarms) > 0 })
}

// leader is the member that leads, 0 while none does.
func (c *cluster) leader(t *testing.T, control *Control) (uint64, error) {
	t.Helper()
	all, err := control.Health(t.Context())
	for _, h := range all {
		if h.Leads {
			return h.Member, err
		}
	}
	return 0, err
}

// reads holds every key to what was acknowledged.
func (c *cluster) reads(t *testing.T, st store.Store, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if item, err := st.Get(t.Context(), key); err != nil || string(item.Value) != value {
			t.Errorf("%s has %d bytes, want %d: %v", key, len(item.Value), len(value), err)
		}
	}
}
