package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/musterhq/muster/providers"
)

// Every container has a control group of its own, since two systemds in one would take each other's units for theirs. Where
// systemd is in charge of this machine, it makes the group, a scope that it leaves alone (Delegate=); elsewhere it is one at
// the top of the hierarchy.

// booted is a directory where systemd is in charge: sd_booted(3).
const booted = "/run/systemd/system"

// groupsRoot is where the unified hierarchy of control groups (cgroups(7), version 2) is mounted.
func groupsRoot() (string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		// ID parent major:minor root mount-point options fields... - type source options (proc_pid_mountinfo(5))
		front, back, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(front); len(fields) > 4 && strings.HasPrefix(back, "cgroup2 ") {
			return fields[4], nil
		}
	}
	return "", fmt.Errorf("`boot: %s` needs control groups, version 2; run `mount -t cgroup2 cgroup2 /sys/fs/cgroup`: %w",
		bootNspawn, providers.ErrInvalid)
}

// limits tells whether a process's control group can limit something. Where version 1 is mounted beside, that has most of
// the controllers.
func limits(root string, pid int, controller string) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	_, path, _ := strings.Cut("\n"+string(data), "\n0::") // hierarchy 0 is the unified one
	path, _, _ = strings.Cut(path, "\n")
	available, err := os.ReadFile(filepath.Join(root, path, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(available)), controller)
}

// group puts a container's first process into its control group, before it starts others.
func (h host) group(ctx context.Context, pid int) error {
	if info, err := os.Lstat(booted); err == nil && info.IsDir() {
		return h.scope(ctx, pid)
	}
	root, err := groupsRoot()
	if err != nil {
		return err
	}
	handDown(root)
	dir := filepath.Join(root, h.groupName())
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make a control group: %w: %w", err, providers.ErrInvalid)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("cannot put the container into its control group: %w", err)
	}
	return nil
}

// handDown lets the groups in one have its controllers, each that can be had: nobody else does where no systemd is in
// charge. It stays so, since others may rely on it by then.
func handDown(dir string) {
	controllers, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	for _, controller := range strings.Fields(string(controllers)) {
		// One at a time: a single one that is refused would refuse them all.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
	}
}

// scope has systemd make a scope (systemd.scope(5)) of a process.
func (h host) scope(ctx context.Context, pid int) error {
	manager, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot ask systemd for a scope: %w", err)
	}
	defer manager.Close()
	done := make(chan string, 1)
	_, err = manager.StartTransientUnitContext(ctx, h.groupName()+".scope", "fail", []dbus.Property{
		dbus.PropDescription("muster host " + h.identity().Host), dbus.PropSlice("machine.slice"), dbus.PropPids(uint32(pid)),
		{Name: "Delegate", Value: godbus.MakeVariant(true)},
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}, done)
	if err != nil {
		return fmt.Errorf("cannot make a scope: %w", err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("cannot make a scope: systemd says %q: %w", result, providers.ErrUnavailable)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// groupPatience is how long a control group may last whose processes have ended.
const groupPatience = 10 * time.Second

// removeGroup removes a control group in which nothing runs any more. systemd removes those that it made.
func (h host) removeGroup(ctx context.Context) error {
	root, err := groupsRoot()
	if err != nil {
		return nil // then there is none
	}
	dir := filepath.Join(root, h.groupName())
	for began := time.Now(); ; {
		err := removeGroups(dir)
		if err == nil {
			return nil
		}
		if time.Since(began) > groupPatience {
			return fmt.Errorf("cannot remove the control group: %w: %w", err, providers.ErrUnavailable)
		}
		if err := providers.Pause(ctx, lookPause); err != nil {
			return err
		}
	}
}

// removeGroups removes a group and those in it, innermost first. Files of groups cannot be removed, and need not be.
func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, removeGroups(filepath.Join(dir, entry.Name())))
		}
	}
	if err != nil {
		return err
	}
	if err := os.Remove(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
