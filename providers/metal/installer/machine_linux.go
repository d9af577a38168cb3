package installer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Linux is the machine that the installer runs on. It takes root, and what the init of examples/image/installer mounts.
type Linux struct{}

// ioctl's numbers for block devices, from linux/fs.h.
const (
	blkRereadPartitions = 0x125f // BLKRRPART
	blkFlushBuffers     = 0x1261 // BLKFLSBUF
	blkZeroOut          = 0x127f // BLKZEROOUT
)

type blockDevice struct{ *os.File }

// Open implements Machine. A disk that something uses is refused.
func (Linux) Open(path string) (Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the disk: %w", err)
	}
	return blockDevice{f}, nil
}

// Zero implements Disk. The kernel writes zeros itself where the disk cannot make them.
func (d blockDevice) Zero(ctx context.Context, offset, size int64) error {
	const step = 64 << 20 // so that a request to stop is heard
	for end := offset + size; offset < end; offset += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := [2]uint64{uint64(offset), uint64(min(step, end-offset))}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), blkZeroOut, uintptr(unsafe.Pointer(&part)))
		if errno != 0 {
			return fmt.Errorf("cannot write zeros at byte %d: %w", offset, errno)
		}
	}
	return nil
}

// Flush implements Disk.
func (d blockDevice) Flush() error {
	return errors.Join(d.Sync(), unix.IoctlSetInt(int(d.Fd()), blkFlushBuffers, 0))
}

const seedDirectory = "lib/cloud/seed/nocloud" // below /var, where package datasource looks

// Seed implements Machine.
func (Linux) Seed(path string, partition int, seed Seed) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write the host's data to its partition: %w", err)
		}
	}()
	if err := rereadPartitions(path); err != nil {
		return err
	}
	const at = "/run/var"
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(node(path, partition), at, "ext4", unix.MS_NOATIME|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("cannot mount %s: %w", node(path, partition), err)
	}
	return errors.Join(writeSeed(at, seed), unix.Unmount(at, 0))
}

func rereadPartitions(path string) error {
	disk, err := os.Open(path)
	if err != nil {
		return err
	}
	defer disk.Close()
	if err := unix.IoctlSetInt(int(disk.Fd()), blkRereadPartitions, 0); err != nil {
		return fmt.Errorf("the kernel does not take the new partition table of %s: %w", path, err)
	}
	return nil
}

// node is the path of a partition's device.
func node(path string, partition int) string {
	if last := path[len(path)-1]; last >= '0' && last <= '9' {
		path += "p"
	}
	return path + strconv.Itoa(partition)
}

// writeSeed writes NoCloud's two files below the root of the data partition.
func writeSeed(root string, seed Seed) error {
	directory := filepath.Join(root, seedDirectory)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	meta, err := json.Marshal(map[string]string{"instance-id": seed.Instance, "local-hostname": seed.Host})
	if err != nil {
		return err
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{{"meta-data", append(meta, '\n')}, {"user-data", seed.UserData}} {
		if err := writeSynced(filepath.Join(directory, file.name), file.content); err != nil {
			return err
		}
	}
	return nil // unmounting writes the directories
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

const (
	efiVariables = "/sys/firmware/efi/efivars"
	efiGlobal    = "-8be4df61-93ca-11d2-aa0d-00e098032b8c" // EFI_GLOBAL_VARIABLE, UEFI 2.10 section 3.3
)

// BootFrom implements Machine. A BIOS has no order that can be written: it boots its disk as it did.
func (Linux) BootFrom(p Partition, networkFirst bool) (string, error) {
	have, err := readVariables(efiVariables)
	if errors.Is(err, fs.ErrNotExist) {
		return "by BIOS, as its order says", nil
	} else if err != nil {
		return "", fmt.Errorf("cannot read the firmware's boot entries: %w", err)
	}
	name, write := PlanBoot(have, p, networkFirst)
	// The entry before the order that names it.
	for _, name := range []string{name, orderName} {
		// Kept, and seen by the firmware and the system: UEFI 2.10, section 8.2.
		attributes := []byte{7, 0, 0, 0}
		err := os.WriteFile(filepath.Join(efiVariables, name+efiGlobal), append(attributes, write[name]...), 0o644)
		if err != nil {
			return "", fmt.Errorf("cannot write the firmware's %s: %w", name, err)
		}
	}
	return name, nil
}

func readVariables(directory string) (Variables, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	have := Variables{}
	for _, entry := range entries {
		name, ours := strings.CutSuffix(entry.Name(), efiGlobal)
		if !ours || !entryForm.MatchString(name) && name != orderName && name != currentName {
			continue
		}
		value, err := os.ReadFile(filepath.Join(directory, entry.Name()))
		if err != nil {
			return nil, err
		}
		if len(value) >= 4 {
			have[name] = value[4:]
		}
	}
	return have, nil
}

// Shell implements Machine.
func (Linux) Shell(ctx context.Context) error {
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot give a shell: %w", err)
	}
	defer console.Close()
	shell := exec.CommandContext(ctx, "/bin/sh")
	shell.Stdin, shell.Stdout, shell.Stderr = console, console, console
	shell.WaitDelay = time.Second
	fmt.Fprintln(console, "muster: a shell; the machine boots again when it ends")
	if err := shell.Run(); err != nil && (shell.ProcessState == nil || !shell.ProcessState.Exited()) {
		return fmt.Errorf("cannot give a shell: %w", err)
	}
	return nil
}
