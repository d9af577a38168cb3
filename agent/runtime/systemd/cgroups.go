package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchies are where systemd's control groups may be (systemd.io/CGROUP_DELEGATION): unified, hybrid, legacy.
var hierarchies = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/systemd"}

// hierarchy is the directory of systemd's control groups, "" if there is none to be seen.
func hierarchy(root string) string {
	for _, dir := range hierarchies {
		dir = filepath.Join(root, dir)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return dir
		}
	}
	return ""
}

// groups are the control groups of units, by name. They are looked for, so that no bus is needed: below slices, since what
// is below anything else is nothing of the host's own systemd.
func groups(hierarchy string, units map[string]bool) (dirs []string) {
	entries, err := os.ReadDir(hierarchy)
	if err != nil {
		return nil // it is gone, with all in it
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(hierarchy, e.Name())
		switch {
		case units[e.Name()], units[strings.TrimPrefix(e.Name(), "_")]: // names that the kernel could have have a _
			dirs = append(dirs, dir)
		case strings.HasSuffix(e.Name(), ".slice"):
			dirs = append(dirs, groups(dir, units)...)
		}
	}
	return dirs
}

// The pauses between two looks at who is left, and for how long nobody may have been left: systemd may be about to run the
// next command of a unit whose last was killed.
const (
	killPause = 10 * time.Millisecond
	calm      = 200 * time.Millisecond
)

// killUnits kills every process of units, those that appear meanwhile too, and returns when none is left. It calls found
// before it kills any.
func killUnits(ctx context.Context, hierarchy string, units map[string]bool, found func()) error {
	again := time.NewTicker(killPause)
	defer again.Stop()
	var last time.Time
	for {
		var errs []error
		killed := false
		for _, dir := range groups(hierarchy, units) {
			some, err := killGroup(dir, found)
			killed, errs = killed || some, append(errs, err)
		}
		now := time.Now()
		if killed {
			last = now
		}
		if err := errors.Join(errs...); err != nil || last.IsZero() || now.Sub(last) > calm {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("there are still processes of them: %w", ctx.Err())
		}
	}
}

// killGroup kills what is in a control group and below it, and says whether there was anything. The kernel does it at
// once and leaves nobody out (cgroup.kill, since Linux 5.14), or else one after the other.
func killGroup(dir string, found func()) (some bool, err error) {
	pids, err := processesIn(dir)
	if err != nil || len(pids) == 0 {
		return false, err
	}
	found()
	err = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	if err == nil || errors.Is(err, unix.ENODEV) { // ENODEV: the group is being removed
		return true, nil
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return true, fmt.Errorf("cannot kill process %d: %w", pid, err)
		}
	}
	return true, nil
}

// processesIn are those of a control group and of what is below it.
func processesIn(group string) (pids []int, err error) {
	err = filepath.WalkDir(group, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return gone(err)
		}
		text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			if errors.Is(err, unix.EOPNOTSUPP) { // of threads, whose processes the group above has
				return nil
			}
			return gone(err)
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, gone(err)
}

// gone takes what was removed meanwhile for empty.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
