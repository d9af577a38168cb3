package gateway

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/musterhq/muster/cluster/store"
)

// TestEtcdctl drives a gateway with the program that people have.
func TestEtcdctl(t *testing.T) {
	path, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Skip("there is no etcdctl here (Debian: etcd-client)")
	}
	w := newWorld(t)
	w.put(store.KeyCluster, "secret")
	address := w.gateway(Policy{})
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), path, append([]string{"--endpoints=http://" + address}, args...)...)
		cmd.Env = []string{"ETCDCTL_API=3", "PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	for _, tt := range []struct{ args, want string }{
		{"put /a/b one", "OK"},
		{"put a/c two", "OK"},
		{"get /a/b", "/a/b\none"},
		{"get --prefix a --keys-only", "a/b\n\na/c"},
		{"get --prefix / --print-value-only", "one\ntwo"},
		{"get --from-key /muster", ""},
		{"del --prefix a --prev-kv", "2\na/b\none\na/c\ntwo"},
		{"lock /l -- /bin/echo held", "held"},
		{"endpoint health", "is healthy"},
		{"endpoint status", "3.7."},
		{"endpoint status --cluster", address},
		{"member list", "http://" + address},
		{"alarm list", ""},
		{"lease grant 60", "granted with TTL(60s)"},
		{"lease list", "leases"},
	} {
		got, err := run(strings.Fields(tt.args)...)
		if err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("etcdctl %s: %q, %v; want %q", tt.args, got, err, tt.want)
		}
	}
	for _, args := range []string{
		"compaction 2", "defrag", "snapshot save " + t.TempDir() + "/x", "user list", "role list", "auth enable",
		"member add x --peer-urls=http://127.0.0.1:1", "member remove 1", "alarm disarm", "endpoint hashkv", "move-leader 1",
		"lease revoke 694d7b0f0a0b0c0d",
	} {
		if out, err := run(strings.Fields(args)...); err == nil && args != "alarm disarm" {
			t.Errorf("etcdctl %s did: %s", args, out)
		}
	}
}
