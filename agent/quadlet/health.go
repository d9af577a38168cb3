package quadlet

import "github.com/musterhq/muster/agent/unitfile"

// Health is how to ask a host's engine whether a container is well, by its HealthCmd=: a command, and what it prints of one
// that is, "" if its exit status tells. Podman makes the check then; docker makes it by itself, and is asked what came of
// the last one.
func Health(name string, f unitfile.File, h Host) (words []string, well string, err error) {
	d := read(name, f)
	if err := d.problems.Err(); err != nil {
		return nil, "", err
	}
	container, err := unitfile.Expand(d.name(), name, unitfile.HostSpecifiers{})
	if err != nil {
		return nil, "", err
	}
	if h.Engine == unitfile.Podman {
		return []string{h.Path, "healthcheck", "run", container}, "", nil
	}
	return []string{h.Path, "inspect", "--format", "{{.State.Health.Status}}", container}, "healthy", nil
}
