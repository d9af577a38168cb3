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
	last := ""
	large := strings.Repeat("x", 512<<10)
	for n := 0; ; n++ {
		key, value := fmt.Sprintf("/app/%d", n%4), fmt.Sprintf("%d%s", n, large)
		if err, last = write(key, value, 0), value; err != nil {
			break
		}
		if want[key] = value; n > 10*quota/len(large) {
			t.Fatal("the store does not fill")
		}
	}
	if !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "remove keys") {
		t.Errorf("a write to the full store: %v", err)
	}
	for key := range want { // the write that fills it may be written all the same
		if item, err := st.Get(t.Context(), key); err == nil && string(item.Value) == last {
			want[key] = last
		}
	}
	c.reads(t, st, want)

	var kinds []membership.UpkeepKind
	done, leads := membership.Upkeep{}, uint64(0)
	order := map[uint64]bool{}
	for compacted := false; !slices.Contains(kinds, membership.Disarm); { // the alarm comes a moment after the error
		if leads, err = c.leader(t, control); err == nil {
			done, err = control.Maintain(t.Context(), compacted)
		}
		if err != nil {
			t.Fatal(err)
		}
		if done.Kind == membership.UpkeepNone {
			rest := time.NewTimer(100 * time.Millisecond)
			select {
			case <-rest.C:
			case <-t.Context().Done():
				t.Fatalf("upkeep did %v and rests: %s", kinds, done.Reason)
			}
			continue
		}
		compacted = compacted || done.Kind == membership.Compact
		if kinds = append(kinds, done.Kind); done.Kind == membership.Defragment {
			if done.Member == leads && len(order) < 2 {
				t.Errorf("the leader's database was defragmented first: %x after %v", done.Member, order)
			}
			order[done.Member] = true
			c.reads(t, st, want) // of whichever member
		}
		if done.Kind == membership.Disarm && strings.Contains(done.Reason, "that answer") {
			t.Skipf("a member did not answer within %v, so there is no order of all three to see", probeTimeout)
		}
	}
	if first, last := kinds[0], kinds[len(kinds)-1]; first != membership.Compact || last != membership.Disarm || len(order) != 3 {
		t.Errorf("upkeep did %v, and defragmented %v", kinds, order)
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
