package voter

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// TestRestoreForOthers restores for other hosts than the snapshot has. From the first answer on the roster is theirs, and they
// have access, although no leader has done anything; and all voters have the same data.
func TestRestoreForOthers(t *testing.T) {
	c := newCluster(t, 3, 2)
	voters, control := c.form(t.Context()), c.control()
	stranger, newcomer := c.hosts[3], c.hosts[4]
	for _, h := range c.hosts[:4] {
		c.enter(t, control, h)
	}
	if err := control.EnsureAuth(t.Context(), c.hosts[:4]); err != nil {
		t.Fatal(err)
	}
	put(t, c.client(c.tls(c.hostPair(stranger))), store.HostKey(stranger.ID), "{}")
	path := filepath.Join(t.TempDir(), "etcd.db")
	if _, err := control.Snapshot(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	closeAll(voters)
	members := append(slices.Clone(c.hosts[:3]), newcomer)
	members[1].Labels = map[string]string{"now": "another"}
	c.restore(t, voters, path, members)

	client := c.client(c.tls(c.hostPair(newcomer)))
	put(t, client, store.HostKey(newcomer.ID), "{}")
	found, err := client.Get(t.Context(), store.PrefixRoster, clientv3.WithPrefix())
	if err != nil || len(found.Kvs) != len(members) {
		t.Fatalf("the roster has %d hosts: %v", len(found.Kvs), err)
	}
	for i, kv := range found.Kvs { // by ID, as the members are
		r, err := store.Unmarshal[store.RosterRecord](kv.Value)
		if err != nil || r.ID != members[i].ID || !maps.Equal(r.Labels, members[i].Labels) {
			t.Errorf("the roster has %+v, want %+v: %v", r.Host, members[i], err)
		}
	}
	if got := get(t, c.client(c.controlTLS(0)), store.HostKey(stranger.ID)); got != "{}" {
		t.Errorf("what a host wrote that is gone is %q", got)
	}
	hashes := map[uint32]bool{}
	for _, url := range c.endpoints() {
		sum, err := c.client(c.controlTLS(0)).HashKV(t.Context(), url, found.Header.Revision)
		if err != nil {
			t.Fatal(err)
		}
		hashes[sum.Hash] = true
	}
	if len(hashes) != 1 {
		t.Errorf("the voters' data differs: %v", hashes)
	}
	if err := c.control().EnsureAuth(t.Context(), members); err != nil {
		t.Fatal(err)
	}
}

// TestSettlementToken tells apart what voters would write.
func TestSettlementToken(t *testing.T) {
	tokenOf := func(members ...roster.Host) string {
		s, err := newSettlement(members)
		if err != nil {
			t.Fatal(err)
		}
		return s.token("x")
	}
	a, b := roster.Host{ID: strings.Repeat("a", 32), Name: "a"}, roster.Host{ID: strings.Repeat("b", 32), Name: "b"}
	tokens := map[string]bool{tokenOf(): true, tokenOf(a): true, tokenOf(a, b): true, tokenOf(b, a): true}
	if len(tokens) != 4 || !tokens[tokenOf(a, b)] {
		t.Errorf("tokens %v", tokens)
	}
}
