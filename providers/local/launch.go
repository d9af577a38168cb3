package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/crashsafe"
)

// systemPath is where units find programs that are neither the cluster's nor muster's. It does not follow the operator's
// own PATH, so that hosts are the same whoever starts them (the directories are those of systemd.exec(5), and sbin).
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// look is what one operation sees of this machine's processes. It reads the whole table at most once.
type look struct {
	table
	all func() ([]process, error)
}

func (p *Provider) look() *look {
	return &look{table: p.processes, all: sync.OnceValues(p.processes.all)}
}

// keeper finds the process that keeps a host running, its musterd or the first one around its container: the process of its
// pid file, or else one that was started just before a crash prevented the file from being written.
func (l *look) keeper(h host) (process, bool, error) {
	pid, started, err := h.readPID()
	if err != nil {
		return process{}, false, err
	}
	if p, ok := l.one(pid); ok && p.started == started {
		reap(p)
		if !p.zombie && p.instance() == h.InstanceID {
			return p, true, nil
		}
	}
	all, err := l.all()
	if err != nil {
		return process{}, false, fmt.Errorf("cannot read the process table: %w", err)
	}
	i := slices.IndexFunc(all, func(p process) bool { return h.startedAs(p) })
	if i < 0 {
		return process{}, false, nil
	}
	return all[i], true, nil
}

// startedAs tells whether a process is what launch starts for the host.
func (h host) startedAs(p process) bool {
	if p.zombie || p.session != p.pid || p.instance() != h.InstanceID {
		return false
	}
	if h.Container != nil {
		return slices.Contains(p.args, h.directoryArgument())
	}
	i := slices.Index(p.args, "--root")
	return i > 0 && i+1 < len(p.args) && p.args[i+1] == h.dir
}

// readPID reads the pid file. Without one the pid is 0, which no process has.
func (h host) readPID() (pid int, started string, err error) {
	data, err := os.ReadFile(h.path(pidFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	if _, err := fmt.Sscanf(string(data), "%d %q", &pid, &started); err != nil {
		return 0, "", nil // a torn file after a power cut names no process that still runs
	}
	return pid, started, nil
}

func (h host) writePID(p process) error {
	return crashsafe.WriteFile(h.path(pidFile), fmt.Appendf(nil, "%d %q\n", p.pid, p.started), 0o600)
}

// launch starts a host's keeper, unless it runs, in a session of its own, and writes the pid file.
func (p *Provider) launch(ctx context.Context, h host) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	running, found, err := p.look().keeper(h)
	if err == nil && !found {
		running, err = p.start(ctx, h)
	}
	if err == nil {
		err = p.step("launched")
	}
	if err != nil {
		return err
	}
	p.log.DebugContext(ctx, "the host runs", "provider", p.name, "host", h.identity().Host, "pid", running.pid,
		"directory", h.dir, "adopted", found)
	return h.writePID(running)
}

func (p *Provider) start(ctx context.Context, h host) (process, error) {
	if h.Container != nil {
		return p.startContainer(ctx, h)
	}
	cmd := exec.Command(p.musterd, "--root", h.dir)
	cmd.Env = p.environment(h)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives the terminal and its signals
	return p.execute(h, cmd)
}

// execute starts a command as a host's keeper.
func (p *Provider) execute(h host, cmd *exec.Cmd) (process, error) {
	logPath := h.logPath()
	if err := os.MkdirAll(filepath.Dir(logPath), 0o700); err != nil {
		return process{}, err
	}
	out, err := os.OpenFile(logPath, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return process{}, err
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.dir, out, out
	if err := errors.Join(cmd.Start(), out.Close()); err != nil {
		return process{}, fmt.Errorf("cannot start %s: %w: %w", cmd.Path, err, providers.ErrInvalid)
	}
	// Nobody waits for it: it outlives this process. Should it end before, reap takes its status.
	defer func() { _ = cmd.Process.Release() }()
	started, ok := p.processes.one(cmd.Process.Pid)
	if !ok {
		return process{}, fmt.Errorf("cannot start %s: it ended at once, see %s: %w", cmd.Path, logPath, providers.ErrInvalid)
	}
	return started, nil
}

// environment is the whole environment of a host's musterd.
func (p *Provider) environment(h host) []string {
	dirs := append(slices.Clone(p.path), filepath.Dir(p.musterd), systemPath)
	env := []string{
		"PATH=" + strings.Join(dirs, string(os.PathListSeparator)),
		"HOME=" + h.dir,
		instanceVariable + "=" + h.InstanceID,
	}
	for _, name := range []string{"LANG", "TZ"} {
		if value := cmp.Or(h.Env[name], os.Getenv(name)); value != "" {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.Env)) {
		if name != "LANG" && name != "TZ" {
			env = append(env, name+"="+h.Env[name])
		}
	}
	return env
}
