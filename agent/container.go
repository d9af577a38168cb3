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
	return quadlet.Render(unit, f, h)
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
