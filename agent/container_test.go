package agent

import (
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

func TestContainerEngine(t *testing.T) {
	for _, tt := range []struct {
		has, wanted, want, err string
	}{
		{"podman", "", "/bin/podman", ""},
		{"docker", "", "/bin/docker", ""},
		{"docker podman", "", "/bin/podman", ""},
		{"docker podman", "docker", "/bin/docker", ""},
		{"docker", "podman", "", "cannot find podman on this host; install it"},
		{"", "", "", "cannot find podman or docker on this host; install it"},
	} {
		c := containers{find: func(program string) (string, error) {
			if strings.Contains(tt.has, program) {
				return "/bin/" + program, nil
			}
			return "", exec.ErrNotFound
		}}
		h, err := c.host(tt.wanted)
		if h.Path != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("has %q, wants %q: %+v, %v", tt.has, tt.wanted, h, err)
		}
	}
}

// TestContainerUnits runs a unit that is a container on a host with an engine, and tells what is missing on one without.
func TestContainerUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		const text = "[Container]\nImage=localhost/web\n[X-Fleet]\nMachineID="
		w.submit("here.service", text+id(1)+"\n", store.DesiredLaunched)
		w.submit("there.service", text+id(2)+"\n", store.DesiredLaunched)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("with an engine", "1: here.service", "2:")
		loaded := w.hosts[1].runtime.file("here.service")
		if start, _ := loaded.Value("Service", "ExecStart"); !strings.HasPrefix(start, "/usr/bin/podman run ") || loaded.IsContainer() {
			t.Errorf("the runtime was given\n%s", loaded.Bytes())
		}
		states := w.view().States[id(2)].Record.Units
		if len(states) != 1 || states[0].Load != "error" || !strings.Contains(states[0].Reason, "cannot find podman or docker") {
			t.Errorf("without an engine: %+v", states)
		}
	})
}

// TestStrictContainers refuses containers that would outlive the end of their unit.
func TestStrictContainers(t *testing.T) {
	for _, tt := range []struct {
		has, more string
		systemd   bool
		ok        bool
	}{
		{"podman", "[X-Muster]\nSingleton=strict\n", true, true},
		{"podman", "[X-Muster]\nSingleton=strict\n", false, false},
		{"docker", "[X-Muster]\nSingleton=strict\n", true, false},
		{"docker", "", true, true},
		{"podman", "CgroupsMode=enabled\n[X-Muster]\nSingleton=strict\n", true, false},
		{"podman", "PodmanArgs=--cgroup-parent=a\n[X-Muster]\nSingleton=strict\n", true, false},
	} {
		c := containers{systemd: tt.systemd, find: func(program string) (string, error) {
			if program == tt.has {
				return "/bin/" + program, nil
			}
			return "", exec.ErrNotFound
		}}
		f, _, err := unitfile.Parse("a.service", []byte("[Container]\nImage=localhost/web\n"+tt.more))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.render("a.service", f); (err == nil) != tt.ok {
			t.Errorf("%s, systemd %v, %q: %v", tt.has, tt.systemd, tt.more, err)
		}
	}
}
