package local

import (
	"errors"
	"os"
	"strings"
	"syscall"
)

// instanceVariable marks every process of a host: musterd inherits it from this package and hands it on to units.
const instanceVariable = "MUSTER_INSTANCE"

// process is one process of this machine, as it was when it was looked at.
type process struct {
	pid, parent, session int
	// started tells two processes apart that had the same pid one after the other.
	started string
	zombie  bool
	args    []string
	env     []string // empty for processes of other users
}

// table shows this machine's processes.
type table interface {
	// all returns every process.
	all() ([]process, error)
	// one returns the process that has a pid now.
	one(pid int) (process, bool)
}

// instance is the identifier of the host that the process belongs to by its own word, or "".
func (p process) instance() string {
	for _, pair := range p.env {
		if value, ok := strings.CutPrefix(pair, instanceVariable+"="); ok {
			return value
		}
	}
	return ""
}

// kin is what is known of a host's processes. A process is the host's when it carries the host's identifier, or, since a
// program may overwrite its environment, when it was seen as the child of such a process or in the session that one led.
// Processes that carry another identifier belong to that host, and this process belongs to none.
type kin struct {
	instance string
	known    map[int]string // pid → start of every process that was ever seen to be the host's
}

func newKin(instance string) *kin { return &kin{instance: instance, known: map[int]string{}} }

// live returns the host's live processes among all, and remembers them.
func (k *kin) live(all []process) []process {
	now := make(map[int]process, len(all))
	for _, p := range all {
		now[p.pid] = p
	}
	var live []process
	for more := true; more; {
		more = false
		for _, p := range all {
			if k.has(p) || !k.proves(p, now) {
				continue
			}
			k.known[p.pid], more = p.started, true
		}
	}
	for _, p := range all {
		if k.has(p) && !p.zombie {
			live = append(live, p)
		}
	}
	return live
}

// reap takes the exit status of every process of the host that this process started.
func (k *kin) reap(all []process) {
	for _, p := range all {
		if k.has(p) {
			reap(p)
		}
	}
}

func (k *kin) has(p process) bool {
	started, ok := k.known[p.pid]
	return ok && started == p.started
}

// proves tells whether a process is the host's, by what is known and by the table of now.
func (k *kin) proves(p process, now map[int]process) bool {
	id := p.instance()
	if p.pid == os.Getpid() || id != "" {
		return id == k.instance && p.pid != os.Getpid()
	}
	if k.has(now[p.parent]) {
		return true
	}
	// The pid of a session's leader is not given to another while the session lasts (setsid(2), POSIX.1 3.272), but the
	// session of that pid may be another's.
	_, led := k.known[p.session]
	leader, there := now[p.session]
	return led && p.pid != p.session && (!there || k.has(leader))
}

// sendSignal sends a signal to exactly the process that was looked at. That it is gone is no error.
func sendSignal(processes table, p process, sig syscall.Signal) error {
	// On Linux the handle is a pidfd: once the process behind it is the right one, it stays so.
	handle, err := os.FindProcess(p.pid)
	if err != nil {
		return nil
	}
	defer func() { _ = handle.Release() }()
	now, ok := processes.one(p.pid)
	if !ok || now.started != p.started {
		return nil
	}
	err = handle.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// reap takes a zombie's exit status when it is a child of this process, which nobody else waits for.
func reap(p process) {
	if p.zombie && p.parent == os.Getpid() {
		_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
	}
}
