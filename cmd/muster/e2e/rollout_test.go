package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// rolled is a template of six whose health is a file's: /bin/true is well, /bin/false is not.
func rolled(version, check string) string {
	return fmt.Sprintf(`[Service]
Environment=VERSION=%s
ExecStart=/bin/sleep 3600

[X-Muster]
Replicas=6
Spread=host
HealthCheck=exec:%s
HealthInterval=500ms
HealthStartPeriod=2s
HealthRetries=2
UpdateParallel=2
`, version, check)
}

// TestRollout rolls good contents out two at a time, and has bad ones rolled back by the cluster itself.
func TestRollout(t *testing.T) {
	c := newCluster(t, sleeperFile(3, 1, 0), map[string]string{"web@.service": rolled("1", "/bin/true")})
	c.must("up", "--yes")
	c.must("units", "start", "units/web@.service")
	well := func(s api.Status) error {
		healthy := 0
		for _, u := range s.Units {
			if u.Replicas == nil && u.State == api.UnitRunning && u.Health == "healthy" {
				healthy++
			}
		}
		if healthy != 6 {
			return fmt.Errorf("%d of 6 are well", healthy)
		}
		return nil
	}
	c.eventually(time.Minute, well)

	c.writeFile("units/web@.service", rolled("2", "/bin/true"))
	if r := c.must("units", "start", "units/web@.service"); !strings.Contains(r.stdout, "web@.service: rolling out, 2 of 6 instances at a time") {
		t.Errorf("start says nothing of the rollout:\n%s", r.output())
	}
	most := c.awayUntil("done")
	if most == 0 || most > 2 {
		t.Errorf("%d were away at once, want at most 2", most)
	}
	c.wantVersion("2")
	c.eventually(time.Minute, well)

	c.writeFile("units/web@.service", rolled("3", "/bin/false"))
	c.must("units", "submit", "units/web@.service")
	if most := c.awayUntil("failed"); most > 2 {
		t.Errorf("%d were away at once, want at most 2", most)
	}
	r := c.run(time.Minute, nil, "rollout", "status", "web@", "--wait")
	if r.code != 1 || !strings.Contains(r.output(), "is unhealthy: /bin/false: exit status 1") {
		t.Errorf("rollout status: exit status %d\n%s", r.code, r.output())
	}
	if r := c.must("rollout", "status", "web@.service"); !strings.Contains(r.stdout, "failed") {
		t.Errorf("rollout status:\n%s", r.stdout)
	}
	if r := c.must("why", "web@1.service"); !strings.Contains(r.stdout, "failed and was rolled back") {
		t.Errorf("why does not mention it:\n%s", r.stdout)
	}
	c.wantVersion("2")
	if s := c.eventually(time.Minute, well); !strings.Contains(strings.Join(s.Warnings, "\n"), "rollout of web@.service failed") {
		t.Errorf("warnings %q", s.Warnings)
	}
}

// awayUntil asks how the cluster is until the rollout has come to a phase, and returns how many instances were not well at
// once meanwhile.
func (c *cluster) awayUntil(phase string) int {
	c.t.Helper()
	most := 0
	c.eventually(2*time.Minute, func(s api.Status) error {
		away := 0
		for _, u := range s.Units {
			if u.Replicas == nil && (u.State != api.UnitRunning || u.Health != "healthy") {
				away++
			}
		}
		if len(s.Rollouts) != 1 {
			return fmt.Errorf("%d rollouts", len(s.Rollouts))
		}
		if most = max(most, away); s.Rollouts[0].Phase != phase {
			return fmt.Errorf("the rollout is %+v", s.Rollouts[0])
		}
		return nil
	})
	return most
}

// wantVersion looks at what the instances' processes are told.
func (c *cluster) wantVersion(version string) {
	c.t.Helper()
	r := c.must("units", "cat", "web@.service")
	if !strings.Contains(r.stdout, "VERSION="+version+"\n") {
		c.t.Errorf("the cluster has other contents than version %s:\n%s", version, r.stdout)
	}
	r = c.must("rollout", "status", "-o", "json")
	var list []api.Rollout
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list) != 1 || list[0].Total != 6 {
		c.t.Errorf("%v\n%s", err, r.stdout)
	}
}
