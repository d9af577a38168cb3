package canary

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// CommandLines calls yield with the command line of every process, which everybody on a machine can read (proc(5)), and
// with a place that names its program. Arguments end in NUL.
func CommandLines(yield func(place string, line []byte)) error {
	return processes("cmdline", "the command line of ", yield)
}

// Environments calls yield as CommandLines does, with the environment of every process of this user.
func Environments(yield func(place string, environment []byte)) error {
	return processes("environ", "the environment of ", yield)
}

func processes(file, place string, yield func(place string, content []byte)) error {
	paths, err := filepath.Glob(filepath.Join("/proc", "[0-9]*", file))
	if err != nil {
		return err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ESRCH):
			continue // it has ended, or is another user's
		case err != nil:
			return err
		}
		program, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "comm")) // none when it has ended now
		yield(place+strings.TrimSpace(string(program)), content)
	}
	return nil
}
