package agent

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/agent/runtime/systemd"
	"github.com/musterhq/muster/agent/unitfile"
)

// openRuntime takes charge of the units that run.
func (a *agent) openRuntime(ctx context.Context) error {
	socket, err := filepath.Abs(filepath.Join(a.root, socketPath))
	if err != nil {
		return fmt.Errorf("cannot find the host's directory: %w", err)
	}
	a.unitEnv = []string{
		"MUSTER_HOST=" + a.self.Name, "MUSTER_ADDRESS=" + a.self.Address, "MUSTER_SOCKET=" + socket,
		"MUSTER_KEYS=http://" + a.keysAddresses()[0].String(),
	}
	rt, err := a.newRuntime(context.WithoutCancel(ctx), a.unitEnv)
	if err != nil {
		return err
	}
	a.runtime = rt
	a.onClose("the runtime", rt.Close)
	return nil
}

// The runtimes that a host can have.
const (
	runtimeSystemd = "systemd"
	runtimeProcess = "process"
)

// bootedWithSystemd is a directory where systemd is the system manager: sd_booted(3).
const bootedWithSystemd = "/run/systemd/system"

// chosenRuntime is systemd where it is the host's system manager and all of the host is the agent's. A host that is a
// directory of a machine shares that with others, and systemd is not its own.
func chosenRuntime(root, systemd string) string {
	if info, err := os.Lstat(systemd); err == nil && info.IsDir() && filepath.Clean(root) == "/" {
		return runtimeSystemd
	}
	return runtimeProcess
}

// runtimeName is the runtime that the host's configuration names, or else that suits the host.
func (a *agent) runtimeName() string {
	return cmp.Or(a.Runtime, chosenRuntime(a.root, bootedWithSystemd))
}

// processes is what processes of units run with.
func (a *agent) processes(env []string) process.Config {
	return process.Config{
		Dir:      filepath.Join(a.root, unitsPath),
		Instance: a.instance,
		Host:     unitfile.HostSpecifiers{MachineID: a.self.ID, BootID: a.facts.BootID, Hostname: a.self.Name},
		Env:      env,
		Path:     cmp.Or(os.Getenv("PATH"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
		Log:      a.log,
	}
}

// newRuntime opens the host's runtime. env is for every unit.
func (a *agent) newRuntime(ctx context.Context, env []string) (runtime.Runtime, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find the program of the guard: %w", err)
	}
	switch name := a.runtimeName(); name {
	case runtimeProcess:
		config := a.processes(env)
		config.Guard = []string{program, "guard"}
		return process.New(ctx, config)
	case runtimeSystemd:
		return systemd.New(ctx, systemd.Config{
			Root: a.root, Env: append(env, "MUSTER_INSTANCE="+a.instance), Guard: []string{program, "guard", "-systemd"}, Log: a.log,
		})
	default:
		return nil, fmt.Errorf("this musterd cannot run units with %q; it has the runtimes process and systemd", name)
	}
}
