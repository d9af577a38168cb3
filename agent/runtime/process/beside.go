package process

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/musterhq/muster/agent/unitfile"
)

// lastWords is how long the output of a command is waited for that was ended.
const lastWords = time.Second

// Beside prepares a command that runs beside a service, as it runs itself: with its user, directory and environment. Of the
// configuration it needs what concerns processes. When ctx ends, so does the command, with all that it started in its
// group; it must be waited for.
func (c Config) Beside(ctx context.Context, name string, file unitfile.File, argv []string) (*exec.Cmd, error) {
	s, _ := file.Service(name) // whoever loaded it knows what is wrong; of a container it says little
	s, err := expand(s, name, c.Host)
	if err != nil {
		return nil, fmt.Errorf("cannot run a command beside %s: %w", name, err)
	}
	env, err := c.environment(name, s.Process)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = assignments(env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if cmd.SysProcAttr.Credential, err = credential(s.Process); err != nil {
		return nil, err
	}
	if cmd.Dir, err = directory(s.Process.WorkingDirectory, env["HOME"]); err != nil {
		return nil, err
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = lastWords
	return cmd, nil
}
