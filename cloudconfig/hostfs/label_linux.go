package hostfs

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const selinuxLabel = "security.selinux"

// label gives a new file the SELinux label of the one that it will replace: a rename would change it, and with it who
// may read, for example, /etc/shadow. Where there is no SELinux there is nothing to do.
func (r *Root) label(name, temporary string) {
	old, err := r.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer old.Close()
	value := make([]byte, 256)
	n, err := unix.Fgetxattr(int(old.Fd()), selinuxLabel, value)
	if err != nil || n == 0 {
		return
	}
	if f, err := r.root.Open(temporary); err == nil {
		_ = unix.Fsetxattr(int(f.Fd()), selinuxLabel, value[:n], 0)
		_ = f.Close()
	}
}

// ownerOf is who a file belongs to.
func ownerOf(info os.FileInfo) *IDs {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return &IDs{int(stat.Uid), int(stat.Gid)}
	}
	return nil
}
