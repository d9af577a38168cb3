package agent

import (
	"cmp"
	"fmt"

	"github.com/musterhq/muster/agent/quadlet"
	"github.com/musterhq/muster/agent/unitfile"
)

// containers makes services of units that are containers, for what this host has. It looks anew for each: an engine may be
// installed later.
type containers struct {
	systemd bool                                 // runs the units
	find    func(program string) (string, error) // os/exec.LookPath
}

// render makes the service. Its errors are what the cluster shows of the unit.
func (c containers) render(unit string, f unitfile.File) (unitfile.File, error) {
	h, err := c.host(f.Muster(unit).Engine)
	if err != nil {
		return unitfile.File{}, err
	}
	if f.Muster(unit).Strict && !heldByUnit(f, h) {
		return unitfile.File{}, fmt.Errorf("cannot run a container with Singleton=strict here: nothing on this host could end it "+
			"in time, since it does not run in the control group of its unit; that takes podman, a host with systemd "+
			"(this one has %s), and no CgroupsMode=, PodmanArgs= or GlobalArgs=", h.Engine)
	}
	return quadlet.Render(unit, f, h)
}

// health is how to ask whether a container is well, see quadlet.Health.
func (c containers) health(unit string, f unitfile.File) (words []string, well string, err error) {
	h, err := c.host(f.Muster(unit).Engine)
	if err != nil {
		return nil, "", err
	}
	return quadlet.Health(unit, f, h)
}

// heldByUnit says whether killing the unit kills the container: it is in the unit's control group, and no engine's.
func heldByUnit(f unitfile.File, h quadlet.Host) bool {
	for _, key := range []string{"CgroupsMode", "PodmanArgs", "GlobalArgs"} {
		if len(f.Values("Container", key)) > 0 {
			return false
		}
	}
	return h.Systemd && h.Engine == unitfile.Podman
}

// host is this host with the engine that a unit wants, or with the one that it has: podman rather than docker.
func (c containers) host(wanted string) (quadlet.Host, error) {
	for _, engine := range []string{unitfile.Podman, unitfile.Docker} {
		if engine != cmp.Or(wanted, engine) {
			continue
		}
		if path, err := c.find(engine); err == nil {
			return quadlet.Host{Engine: engine, Path: path, Systemd: c.systemd}, nil
		}
	}
	return quadlet.Host{}, fmt.Errorf("cannot find %s on this host; install it, or give the unit hosts that have it "+
		"(MachineMetadata= in [X-Fleet])", cmp.Or(wanted, "podman or docker"))
}
