package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// example copies an example into a test's own directory, with words of its cluster file replaced: old, new, ...
func example(t testing.TB, name string, replace ...string) *cluster {
	t.Helper()
	source := filepath.Join(repoRoot(), "examples", name)
	file, err := os.ReadFile(filepath.Join(source, "cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, strings.NewReplacer(replace...).Replace(string(file)), nil)
	paths, err := filepath.Glob(filepath.Join(source, "*"))
	units, err2 := filepath.Glob(filepath.Join(source, "units", "*"))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, units...) {
		name, _ := strings.CutPrefix(path, source+"/")
		if content, err := os.ReadFile(path); err == nil && name != "cluster.yaml" {
			c.writeFile(name, string(content))
		}
	}
	return c
}

// sleepers is a cluster of n hosts over two clouds with units that only sleep.
func sleepers(t testing.TB, n, voters, units int) *cluster {
	t.Helper()
	return newCluster(t, sleeperFile(n, voters, units), map[string]string{"nap@.service": napUnit})
}

const napUnit = "[Unit]\nDescription=Sleeps\n\n[Service]\nExecStart=/bin/sleep infinity\n"

func sleeperFile(n, voters, units int) string {
	file := fmt.Sprintf(`version: 1
cluster: e2e
voters: %d
lease: 5s
providers:
  cloud-a: {driver: local}
  cloud-b: {driver: local}
hosts:
  node:
    count: %d
    spread: [cloud-a, cloud-b]
`, voters, n)
	if units > 0 {
		file += fmt.Sprintf("units:\n  - file: units/nap@.service\n    instances: [1..%d]\n", units)
	}
	return file
}

func TestExampleLives(t *testing.T) {
	c := example(t, "local")
	up := c.must("up", "--yes")
	for _, next := range []string{"muster status", "muster down"} {
		if !strings.Contains(up.output(), next) {
			t.Errorf("up does not tell about `%s`:\n%s", next, up.output())
		}
	}
	s := c.eventually(30*time.Second, whole(3, 3, 8))
	if got := hostsOf(s, "lb@"); len(slices.Compact(got)) != 2 {
		t.Errorf("both balancers are on one host: %v", got)
	}
	for _, host := range hostsOf(s, "lb@") {
		answersFromAll(t, s, host)
	}

	second := c.must("up", "--yes", "-o", "json")
	for _, line := range strings.Split(strings.TrimSpace(second.stdout), "\n") {
		var event struct{ Phase string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("up -o json printed %q: %v", line, err)
		}
	}
	plan := c.must("plan")
	if !strings.Contains(plan.output(), "nothing to do") {
		t.Errorf("the plan after up is not empty:\n%s", plan.output())
	}

	c.must("down", "--yes")
	c.nothingLeft()
}

// hostsOf lists the hosts of the units whose name begins with prefix.
func hostsOf(s api.Status, prefix string) []string {
	var hosts []string
	for _, u := range s.Units {
		if strings.HasPrefix(u.Name, prefix) {
			hosts = append(hosts, u.Host)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// answersFromAll asks the balancer on a host until each of six API servers has answered.
func answersFromAll(t *testing.T, s api.Status, host string) {
	t.Helper()
	address := ""
	for _, h := range s.Hosts {
		if h.Name == host {
			address = h.Address
		}
	}
	seen := map[string]bool{}
	deadline := time.Now().Add(20 * time.Second)
	for len(seen) < 6 && time.Now().Before(deadline) {
		if instance, err := get("http://" + address + ":8000/"); err == nil {
			seen[instance] = true
		} else {
			<-time.After(50 * time.Millisecond)
		}
	}
	if len(seen) != 6 {
		t.Errorf("the balancer on %s answers from %d of 6 servers: %v", host, len(seen), seen)
	}
}

func get(url string) (string, error) {
	client := http.Client{Timeout: 2 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	var reply struct{ Instance string }
	if err := json.Unmarshal(body, &reply); err != nil {
		return "", fmt.Errorf("status %d, body %q: %w", answer.StatusCode, body, err)
	}
	return reply.Instance, nil
}

func TestScale(t *testing.T) {
	c := sleepers(t, 3, 3, 4)
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 4))

	c.writeFile("cluster.yaml", sleeperFile(5, 3, 8))
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(5, 3, 8))

	c.writeFile("cluster.yaml", sleeperFile(3, 3, 8))
	if r := c.run(time.Minute, nil, "up"); r.code != 2 || !strings.Contains(r.output(), "--yes") {
		t.Errorf("up destroys hosts without asking: exit status %d\n%s", r.code, r.output())
	}
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 8))
}
