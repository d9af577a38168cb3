package datasource

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mount mounts a device below a directory.
func mount(below, device, kind string) (string, func() error, error) {
	dir, err := os.MkdirTemp(below, "muster-seed-")
	if err != nil {
		return "", nil, err
	}
	err = unix.Mount(device, dir, kind, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("cannot mount %s as %s: %w", device, kind, err), os.Remove(dir))
	}
	return dir, func() error { return errors.Join(unix.Unmount(dir, 0), os.Remove(dir)) }, nil
}
