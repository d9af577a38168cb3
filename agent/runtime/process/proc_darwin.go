package process

import (
	"context"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// bootID tells one boot from another: the time of the boot.
func bootID() (string, error) {
	t, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return "", fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	return fmt.Sprintf("%d.%06d", t.Sec, t.Usec), nil
}

// zombie is a state of a process (sys/proc.h).
const zombie = 5

func inspect(pid int) (look, error) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return look{}, err
	}
	if int(k.Proc.P_pid) != pid {
		return look{}, fs.ErrNotExist
	}
	return lookAt(k), nil
}

func lookAt(k *unix.KinfoProc) look {
	start := k.Proc.P_starttime
	return look{
		id:      id{PID: int(k.Proc.P_pid), Start: uint64(start.Sec)*1_000_000 + uint64(start.Usec)},
		Parent:  int(k.Eproc.Ppid),
		Session: int(k.Eproc.Pgid),
		Zombie:  k.Proc.P_stat == zombie,
	}
}

func zombieExit(look) (exit, error) { return exit{}, errUnseen }

func all() ([]look, error) {
	list, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	var found []look
	for i := range list {
		if l := lookAt(&list[i]); !l.Zombie {
			found = append(found, l)
		}
	}
	return found, nil
}

// isKeeper says no: keepers are never stopped here.
func isKeeper(int) bool { return false }

// environment is empty: processes are found by their process group.
func environment(int) [][]byte { return nil }

// mustDie says whether the signal ends the process at once. This system does not tell what a process does with others.
func mustDie(_ int, s unix.Signal) bool { return s == unix.SIGKILL }

// handle is a process, looked at right before it is used.
type handle struct{ id }

func open(i id) (*handle, error) {
	if !i.exists() {
		return nil, fs.ErrNotExist
	}
	return &handle{id: i}, nil
}

func (h *handle) Close() {}

func (h *handle) signal(s unix.Signal) error {
	if !h.exists() {
		return fs.ErrNotExist
	}
	return unix.Kill(h.PID, s)
}

func (h *handle) wait(ctx context.Context) error { return poll(ctx, h.id) }
