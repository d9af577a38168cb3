package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// bootID tells one boot from another (random(4)).
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// kernelThread marks the kernel's own (PF_KTHREAD in include/linux/sched.h).
const kernelThread = 0x00200000

// inspect reads /proc/PID/stat (proc_pid_stat(5)).
func inspect(pid int) (look, error) { return inspectInto(pid, make([]byte, 0, 512)) }

func inspectInto(pid int, buffer []byte) (look, error) {
	data, err := slurp(pid, "stat", buffer)
	if err != nil {
		return look{}, err
	}
	// The second field is the name in parentheses and may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 50 {
		return look{}, fmt.Errorf("cannot read /proc/%d/stat: %d fields", pid, len(fields))
	}
	l := look{id: id{PID: pid}}
	l.Zombie = strings.Contains("ZXx", fields[0])
	l.Parent, _ = strconv.Atoi(fields[1])            // field 4
	l.Session, _ = strconv.Atoi(fields[3])           // field 6
	flags, _ := strconv.ParseUint(fields[6], 10, 32) // field 9
	l.Kernel = flags&kernelThread != 0
	if l.Start, err = strconv.ParseUint(fields[19], 10, 64); err != nil {
		return look{}, fmt.Errorf("cannot read /proc/%d/stat: start time %q", pid, fields[19])
	}
	status, _ := strconv.ParseUint(fields[49], 10, 32) // field 52
	l.Status = unix.WaitStatus(status)
	return l, nil
}

// slurp reads a small file of a process into a buffer, which it lets grow. os.ReadFile costs twice as much, for asking
// whether the file can be polled, and there are many.
func slurp(pid int, name string, buffer []byte) ([]byte, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for buffer = buffer[:0]; ; {
		if len(buffer) == cap(buffer) {
			buffer = slices.Grow(buffer, cap(buffer)+512)
		}
		n, err := unix.Read(fd, buffer[len(buffer):cap(buffer)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return buffer, err
		}
		buffer = buffer[:len(buffer)+n]
	}
}

// zombieExit returns how a zombie ended. The kernel shows that to who may trace the process, and zero to others.
func zombieExit(l look) (exit, error) {
	info, err := os.Stat("/proc/" + strconv.Itoa(l.PID))
	if err != nil {
		return exit{}, errUnseen
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) != os.Geteuid() && !mayTrace() {
		return exit{}, errUnseen
	}
	return fromWait(l.Status), nil
}

// mayTrace says whether this process has CAP_SYS_PTRACE (capabilities(7)).
var mayTrace = sync.OnceValue(func() bool {
	const sysPtrace = 19
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<sysPtrace) != 0
})

// all returns every process that runs.
func all() ([]look, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	var found []look
	buffer := make([]byte, 0, 512)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		l, err := inspectInto(pid, buffer)
		if err == nil && !l.Zombie && !l.Kernel {
			found = append(found, l)
		}
	}
	return found, nil
}

// environment returns what a process was started with, empty where that may not be read.
func environment(pid int) [][]byte {
	data, err := slurp(pid, "environ", make([]byte, 0, 4096))
	if err != nil {
		return nil
	}
	return bytes.Split(data, []byte{0})
}

// isKeeper says whether a process is a keeper, by its arguments.
func isKeeper(pid int) bool {
	data, err := slurp(pid, "cmdline", make([]byte, 0, 4096))
	return err == nil && bytes.HasPrefix(data, []byte("sh\x00-c\x00"+keeperScript+"\x00"+keeperName+"\x00"))
}

// mustDie says whether the signal ends the process at once: it is neither caught nor ignored nor blocked (proc(5)).
func mustDie(pid int, s unix.Signal) bool {
	if s == unix.SIGKILL {
		return true
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	seen := 0
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if name == "SigBlk" || name == "SigIgn" || name == "SigCgt" {
			mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil || mask&(1<<(s-1)) != 0 {
				return false
			}
			seen++
		}
	}
	return seen == 3
}

// handle is a process that stays the same though its number is given away: a pidfd (pidfd_open(2)), or on kernels
// before 5.10 the number, looked at right before it is used.
type handle struct {
	id
	file *os.File
}

// open returns a handle, or an error when the process is no more.
func open(i id) (*handle, error) {
	fd, err := unix.PidfdOpen(i.PID, unix.PIDFD_NONBLOCK)
	h := &handle{id: i}
	switch {
	case err == nil:
		h.file = os.NewFile(uintptr(fd), "pidfd")
	case errors.Is(err, unix.ESRCH):
		return nil, fs.ErrNotExist
	}
	if !i.exists() {
		h.Close()
		return nil, fs.ErrNotExist
	}
	return h, nil
}

func (h *handle) Close() {
	if h.file != nil {
		_ = h.file.Close()
	}
}

func (h *handle) signal(s unix.Signal) error {
	if h.file == nil {
		if !h.exists() {
			return fs.ErrNotExist
		}
		return unix.Kill(h.PID, s)
	}
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return err
	}
	return sent
}

// wait returns when the process has ended, or with an error when ctx does. It costs no thread.
func (h *handle) wait(ctx context.Context) error {
	if h.file == nil {
		return poll(ctx, h.id)
	}
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, h.Close)
	defer stop()
	err = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
