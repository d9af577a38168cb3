package voter

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/roster"
)

// TestRestore takes a snapshot of three voters, loses them all, and starts three others from it: what was written before is
// there, what was written after is not, and whoever watches from an old revision learns that it has to read anew.
func TestRestore(t *testing.T) {
	c := newCluster(t, 3, 0)
	voters := c.form(t.Context())
	client := c.client(c.controlTLS(0))
	for n := range 50 {
		put(t, client, fmt.Sprintf("/before/%d", n), "x")
	}
	control := c.control()
	path := filepath.Join(t.TempDir(), "etcd.db")
	revision, err := control.Snapshot(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, client, "/after", "y")
	closeAll(voters)

	c.restore(t, voters, path, c.hosts)
	client = c.client(c.controlTLS(0))
	found, err := client.Get(t.Context(), "/before/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || found.Count != 50 || get(t, client, "/after") != "" {
		t.Errorf("%d of 50 keys are back, and %q: %v", found.Count, get(t, client, "/after"), err)
	}
	if found.Header.Revision < revision+bump {
		t.Errorf("the revision was %d and is %d", revision, found.Header.Revision)
	}
	watch := <-client.Watch(t.Context(), "/before/", clientv3.WithRev(revision+1))
	if !errors.Is(watch.Err(), rpctypes.ErrCompacted) {
		t.Errorf("a watch from before: %v", watch.Err())
	}
}

// restore starts voters from a snapshot, of whatever they had before. They are closed at the end of the test.
func (c *cluster) restore(t *testing.T, voters []*Voter, path string, members roster.Roster) {
	t.Helper()
	role := c.role()
	role.ClusterToken, role.Restore = "another", &join.Restore{ID: "r1", Roster: members}
	var wg sync.WaitGroup
	errs := make([]error, len(voters))
	for i := range voters {
		wg.Go(func() {
			cfg := c.config(i, role)
			if errs[i] = FinishRestore(cfg.Dir, "r1"); !errors.Is(errs[i], ErrNotRestored) {
				errs[i] = fmt.Errorf("finished what was not begun: %w", errs[i])
				return
			}
			for range 2 { // it may be repeated
				if errs[i] = PrepareRestore(t.Context(), path, cfg.Dir, cfg.Host, role); errs[i] != nil {
					return
				}
			}
			for range 2 {
				if errs[i] = FinishRestore(cfg.Dir, "r1"); errs[i] != nil {
					return
				}
			}
			if voters[i], errs[i] = Start(t.Context(), cfg); errs[i] == nil {
				errs[i] = voters[i].WaitReady(t.Context())
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() { closeAll(voters) })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotIsChecked(t *testing.T) {
	c := newCluster(t, 1, 0)
	c.form(t.Context())
	path := filepath.Join(t.TempDir(), "etcd.db")
	if _, err := c.control().Snapshot(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	role := c.role()
	role.InitialCluster = maps.Clone(role.InitialCluster)
	role.Restore = &join.Restore{ID: "r1"}
	if err := PrepareRestore(t.Context(), path, filepath.Join(t.TempDir(), "etcd"), c.hosts[0], role); err == nil {
		t.Error("restored from a damaged snapshot")
	}
}

// TestMaintain has nothing to do on a cluster that is well, and lifts an alarm of one that has room.
func TestMaintain(t *testing.T) {
	c := newCluster(t, 3, 0)
	voters := c.form(t.Context())
	control := c.control()
	if done, err := control.Maintain(t.Context(), false); err != nil || done.Kind != membership.UpkeepNone {
		t.Errorf("%+v, %v", done, err)
	}
	put(t, c.client(c.controlTLS(0)), "/x", "y")
	if err := raiseAlarm(t, voters[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client(c.controlTLS(0)).Put(t.Context(), "/x", "z"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("a write to a full store: %v", err)
	}
	var did []membership.UpkeepKind
	for len(did) == 0 || did[len(did)-1] != membership.UpkeepNone {
		done, err := control.Maintain(t.Context(), len(did) > 0)
		if err != nil {
			t.Fatalf("%+v, %v", done, err)
		}
		did = append(did, done.Kind)
	}
	// A voter that has not heard yet that the alarm is lifted has it lifted once more.
	want := []membership.UpkeepKind{membership.Compact, membership.Disarm, membership.UpkeepNone}
	if !slices.Equal(slices.Compact(did), want) {
		t.Fatalf("did %v, want %v", did, want)
	}
	put(t, c.client(c.controlTLS(0)), "/x", "z")
}

// raiseAlarm has a voter complain that its quota is used up.
func raiseAlarm(t *testing.T, v *Voter) error {
	_, err := v.etcd.Server.Alarm(t.Context(), &pb.AlarmRequest{
		MemberID: v.MemberID(), Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE,
	})
	return err
}
