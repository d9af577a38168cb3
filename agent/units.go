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
	env := []string{"MUSTER_HOST=" + a.self.Name, "MUSTER_ADDRESS=" + a.self.Address, "MUSTER_SOCKET=" + socket}
	rt, err := a.newRuntime(context.WithoutCancel(ctx), env)
	if err != nil {
		return err
	}
	a.runtime = rt
	a.onClose("the runtime", rt.Close)
	return nil
}

// newRuntime opens the runtime that the host's configuration names. env is for every unit.
func (a *agent) newRuntime(ctx context.Context, env []string) (runtime.Runtime, error) {
	switch a.Runtime {
	case "process":
		return process.New(ctx, process.Config{
			Dir:      filepath.Join(a.root, unitsPath),
			Instance: a.instance,
			Host:     unitfile.HostSpecifiers{MachineID: a.self.ID, BootID: a.facts.BootID, Hostname: a.self.Name},
			Env:      env,
			Path:     cmp.Or(os.Getenv("PATH"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
			Log:      a.log,
		})
	case "systemd":
		return systemd.New(ctx, systemd.Config{Root: a.root, Env: append(env, "MUSTER_INSTANCE="+a.instance), Log: a.log})
	}
	return nil, fmt.Errorf("this musterd cannot run units with %q; it has the runtimes process and systemd", a.Runtime)
}
