package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

const keysFile = `version: 1
cluster: keys
voters: 1
lease: 5s
providers:
  p: {driver: local}
hosts:
  node: {count: 2, provider: p}
`

// ask makes a request of the keys, as curl does.
func ask(t *testing.T, method, address, path, form string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// TestKeys has programs of two hosts, one of which does not vote, share keys through every version of etcd's API, and
// people look at them.
func TestKeys(t *testing.T) {
	c := newCluster(t, keysFile, nil)
	c.must("up", "--yes")
	s := c.eventually(30*time.Second, whole(2, 1, 0))
	if len(s.Warnings) > 0 {
		t.Errorf("warnings: %q", s.Warnings)
	}
	var at []string // host's address, voters first
	for _, h := range s.Hosts {
		if h.Voter {
			at = append([]string{h.Address}, at...)
		} else {
			at = append(at, h.Address)
		}
	}
	voter, other := at[0], at[1]

	if code, body := ask(t, "PUT", other+":4001", "/v2/keys/database", "value=10.0.0.7:5432"); code != 201 || !strings.Contains(body, `"action":"set"`) {
		t.Errorf("v2 set at a host that does not vote: %d %s", code, body)
	}
	for _, address := range []string{voter + ":4001", other + ":2379"} {
		if code, body := ask(t, "GET", address, "/v2/keys/database?quorum=true", ""); code != 200 || !strings.Contains(body, `"value":"10.0.0.7:5432"`) {
			t.Errorf("v2 get at %s: %d %s", address, code, body)
		}
	}
	if code, body := ask(t, "GET", other+":4001", "/v2/members", ""); code != 200 || !strings.Contains(body, "http://"+other+":4001") {
		t.Errorf("v2 members: %d %s", code, body)
	}
	c.etcdctl(voter, other)
	c.kv(other)
}

// etcdctl is that of version 3, at both hosts.
func (c *cluster) etcdctl(voter, other string) {
	c.t.Helper()
	path, err := exec.LookPath("etcdctl")
	if err != nil {
		c.t.Log("without etcdctl (Debian: etcd-client)")
		return
	}
	for _, tt := range []struct{ at, args, want string }{
		{other, "put /a/b one", "OK"},
		{voter, "get --prefix /a", "/a/b\none"},
		{voter, "get /database", "10.0.0.7:5432"},
		{other, "get --prefix /muster", ""},
		{other, "endpoint health", "is healthy"},
		{other, "lock /l -- echo held", "held"},
	} {
		cmd := exec.CommandContext(c.t.Context(), path, append([]string{"--endpoints=" + tt.at + ":2379"}, strings.Fields(tt.args)...)...)
		cmd.Env = []string{"ETCDCTL_API=3", "PATH=/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			c.t.Errorf("etcdctl %s at %s: %q, %v; want %q", tt.args, tt.at, got, err, tt.want)
		}
	}
}

// kv is what people have.
func (c *cluster) kv(other string) {
	c.t.Helper()
	watching := c.command(c.t.Context(), nil, "kv", "watch", "/team", "--recursive", "-o", "json")
	events, err := watching.StdoutPipe()
	if err == nil {
		err = watching.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	seen := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(events).ReadString('\n')
		seen <- line
	}()
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"kv get /nothing", 1, "Key not found"},
		{"kv get /team/nothing", 1, "`muster kv ls /team` lists what is beside it"},
		{"kv rm nothing", 1, "`muster kv ls /` lists what is beside it"},
		{"kv put /team/a first", 0, ""},
		{"kv put team/b second --ttl 1h", 0, ""},
		{"kv get /team/a", 0, "first\n"},
		{"kv get /team/b -o json", 0, `"ttl": 3`},
		{"kv get /team --recursive", 0, "/team/a\tfirst\n"},
		{"kv get /team", 1, "directory"},
		{"kv ls", 0, "/database\n"},
		{"kv ls /team", 0, "/team/a\n/team/b\n"},
		{"kv ls / --recursive", 0, "/team/b\n"},
		{"kv ls /team -o json", 0, `"key": "/team/b"`},
		{"kv get /team --recursive -o json", 0, `"value": "second"`},
		{"__complete kv get /te", 0, "/team/\n"},
		{"__complete kv rm /team/", 0, "/team/a\n/team/b\n"},
		{"kv put /team/c x -o json", 0, `"key": "/team/c"`},
		{"kv rm /team/c -o json", 0, `"key": "/team/c"`},
		{"kv rm /team", 1, "--recursive"},
		{"kv rm /team --recursive", 0, ""},
		{"kv ls /team", 1, "Key not found"},
		{"kv put /team/a x --ttl -1s", 2, ""},
		{"kv put /team/a", 2, ""},
	} {
		r := c.run(30*time.Second, nil, strings.Fields(tt.args)...)
		if r.code != tt.code || !strings.Contains(r.output(), tt.want) {
			c.t.Errorf("muster %s: exit status %d, %q; want %d, %q", tt.args, r.code, r.output(), tt.code, tt.want)
		}
		if tt.args == "kv put /team/a first" {
			if code, body := ask(c.t.(*testing.T), "GET", other+":4001", "/v2/keys/team/a?quorum=true", ""); code != 200 || !strings.Contains(body, `"value":"first"`) {
				c.t.Errorf("a program sees %d %s", code, body)
			}
		}
	}
	var event struct{ Action, Key, Value string }
	if line := <-seen; json.Unmarshal([]byte(line), &event) != nil || event.Action != "set" || event.Key != "/team/a" || event.Value != "first" {
		c.t.Errorf("watched %q", line)
	}
	if err := watching.Process.Kill(); err != nil {
		c.t.Error(err)
	}
	_ = watching.Wait()
}

// TestKeysPortTaken has another program where the keys of a host are served: the status says so, until it is gone.
func TestKeysPortTaken(t *testing.T) {
	c := newCluster(t, keysFile, nil)
	c.must("up", "--yes")
	s := c.eventually(30*time.Second, whole(2, 1, 0))
	host := s.Hosts[1]
	daemon := c.hostProcesses(host.Name, true)
	c.signal(syscall.SIGTERM, daemon)
	c.eventually(30*time.Second, func(api.Status) error {
		if slices.ContainsFunc(c.processes(), func(p process) bool { return p.pid == daemon[0].pid }) {
			return errors.New("musterd has not ended")
		}
		return nil
	})
	taken, err := net.Listen("tcp", host.Address+":4001")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	c.must("up", "--yes")
	c.eventually(30*time.Second, func(s api.Status) error {
		if err := whole(2, 1, 0)(s); err != nil {
			return err
		}
		if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], host.Name) || !strings.Contains(s.Warnings[0], ":4001") {
			return fmt.Errorf("warnings: %q", s.Warnings)
		}
		return nil
	})
	if code, body := ask(t, "GET", host.Address+":2379", "/v2/keys/", ""); code != 200 {
		t.Errorf("the other port answers %d %s", code, body)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	c.eventually(time.Minute, func(s api.Status) error {
		if len(s.Warnings) != 0 {
			return fmt.Errorf("warnings: %q", s.Warnings)
		}
		return nil
	})
}
