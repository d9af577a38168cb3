//go:build lab

package keysapi

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestLabClients runs unmodified clients of version 2, and one of version 3 on the same keys.
func TestLabClients(t *testing.T) {
	base, etcd := startServer(t)
	v3 := etcd.Client.Endpoints()[0]
	steps := []struct {
		command string // ENDPOINT and V3 are the servers
		want    string
		fails   bool
	}{
		{command: "etcdctl set /web/a 1", want: "1"},
		{command: "etcdctl get /web/a", want: "1"},
		{command: "etcdctl mk /web/a 2", want: "Error:  105: Key already exists (/web/a)", fails: true},
		{command: "etcdctl update /web/a 2", want: "2"},
		{command: "etcdctl set --swap-with-value 2 /web/a 3", want: "3"},
		{command: "etcdctl set --swap-with-value 2 /web/a 4", want: "Error:  101: Compare failed ([2 != 3])", fails: true},
		{command: "etcdctl mkdir /web/d"},
		{command: "etcdctl setdir /web/e"},
		{command: "etcdctl mk --in-order /web/q job", want: "job"},
		{command: "etcdctl ls --sort /web", want: "/web/a\n/web/d\n/web/e\n/web/q"},
		{command: "etcdctl ls --recursive -p /web/d"},
		{command: "etcdctl rmdir /web", want: "Error:  108: Directory not empty (/web)", fails: true},
		{command: "etcdctl rmdir /web/d"},
		{command: "etcdctl rm --recursive /web/q"},
		{command: "etcdctl get --quorum /web/a", want: "3"},
		{command: "etcdctl set --ttl 100 /web/ttl x", want: "x"},
		{command: "etcdctl updatedir --ttl 100 /web/e"},
		{command: "etcdctl rm /web/ttl", want: "PrevNode.Value: x"},
		{command: "etcdctl watch --after-index 2 --recursive /web", want: "[update] /web/a\n2"},
		{command: "etcdctl cluster-health", want: "cluster is healthy"},
		{command: "etcdctl member list", want: "1f: name=ours peerURLs= clientURLs=ENDPOINT isLeader=true"},
		{command: "curl -sL ENDPOINT/v1/keys/web/a", want: `{"action":"get","key":"/web/a","value":"3","index":`},
		{command: "curl -sL ENDPOINT/v1/keys/web/b -d value=x", want: `{"action":"set","key":"/web/b","value":"x","newKey":true,"index":`},
		{command: "curl -sL ENDPOINT/v2/keys/web/b -XPUT -d value=y", want: `{"action":"set","node":{"key":"/web/b","value":"y"`},
		{command: "v3 get --print-value-only /app/web/b", want: "y"},
		{command: "v3 put /app/web/v3/x three", want: "OK"},
		{command: "etcdctl get /web/v3/x", want: "three"},
		{command: "v3 del /app/web/v3/x", want: "1"},
		{command: "etcdctl get /web/v3/x", want: "Error:  100: Key not found (/web/v3)", fails: true},
	}
	for _, step := range steps {
		fields := strings.Fields(strings.NewReplacer("ENDPOINT", base).Replace(step.command))
		env := append(os.Environ(), "ETCDCTL_API=2", "ETCDCTL_ENDPOINTS="+base)
		if fields[0] == "v3" {
			fields[0] = "etcdctl"
			env = append(os.Environ(), "ETCDCTL_API=3", "ETCDCTL_ENDPOINTS="+v3)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		cmd := exec.CommandContext(ctx, fields[0], fields[1:]...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		cancel()
		if (err != nil) != step.fails {
			t.Errorf("%s: %v: %s", step.command, err, out)
		}
		if want := strings.NewReplacer("ENDPOINT", base).Replace(step.want); !strings.Contains(string(out), want) {
			t.Errorf("%s: got %s, want %s", step.command, out, want)
		}
	}
}
