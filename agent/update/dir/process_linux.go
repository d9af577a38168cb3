package dir

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/pki"
)

// dieWithParent has a musterd end with its boot loader, as both would with the machine. The signal is bound to the thread that
// starts the process (prctl(2), PR_SET_PDEATHSIG), which therefore has to live.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// keepThread keeps the loader on the thread that starts its children, until what it returns is called.
func keepThread() func() {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}

// reapEvery is how often the loader looks for children that ended behind another one.
const reapEvery = 2 * time.Second

// reapOthers takes the exit status of every child but one: a musterd that became the loader had units as children.
func reapOthers(ctx context.Context, but int) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for {
		for {
			var info unix.Siginfo
			err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
			pid := childOf(&info)
			if err != nil || pid == 0 || pid == but {
				break
			}
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
		case <-tick.C:
		}
	}
}

// childOf is si_pid of sigaction(2), the first field after three numbers and what aligns the rest to a pointer.
func childOf(info *unix.Siginfo) int {
	at := unsafe.Add(unsafe.Pointer(info), siginfoPID)
	return int(*(*int32)(at))
}

// siginfoPID is where si_pid is in siginfo_t: after si_signo, si_errno and si_code, aligned as a pointer is.
const siginfoPID = (3*4 + unsafe.Sizeof(uintptr(0)) - 1) / unsafe.Sizeof(uintptr(0)) * unsafe.Sizeof(uintptr(0))

const (
	metaDataFile     = "meta-data.json"
	instanceVariable = "MUSTER_INSTANCE="
	endTime          = 5 * time.Second // for processes to end by themselves
)

// endOthers ends every process of this host but this one, politely first. They carry the host's instance ID.
func endOthers(ctx context.Context, root string) error {
	meta, err := readMeta(root)
	if err != nil {
		return err
	}
	id, _ := meta["instance_id"].(string)
	if id == "" {
		return fmt.Errorf("cannot end this host's processes: %s has no instance_id", metaDataFile)
	}
	began := time.Now()
	for {
		left := others(id)
		sig := syscall.SIGTERM
		if time.Since(began) > endTime {
			sig = syscall.SIGKILL
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, sig)
		}
		if len(left) == 0 {
			return nil
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// others are the live processes of an instance but this one and what it started.
func others(instance string) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || isZombie(dir) {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		for v := range strings.SplitSeq(string(env), "\x00") {
			if v == instanceVariable+instance {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func isZombie(dir string) bool {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	i := strings.LastIndex(string(stat), ") ")
	return err != nil || i < 0 || strings.HasPrefix(string(stat[i+2:]), "Z")
}

// newBoot gives the host another boot ID, as its provider does.
func newBoot(root string) error {
	meta, err := readMeta(root)
	if err != nil {
		return err
	}
	meta["boot_id"] = uuid.NewString()
	data, err := json.MarshalIndent(meta, "", "  ")
	if err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(root, metaDataFile), append(data, '\n'))
}

func readMeta(root string) (map[string]any, error) {
	data, err := os.ReadFile(filepath.Join(root, metaDataFile))
	var meta map[string]any
	if err == nil {
		err = json.Unmarshal(data, &meta)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the instance's metadata: %w", err)
	}
	return meta, nil
}
