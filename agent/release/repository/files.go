package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/musterhq/muster/agent/release"
)

// writeFile has readers, and a machine that loses power, see the old content or the new one.
func writeFile(name string, content []byte, mode fs.FileMode) error {
	_, err := place(filepath.Dir(name), mode, func(w io.Writer) (string, error) {
		_, err := w.Write(content)
		return filepath.Base(name), err
	})
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return nil
}

// place writes a file to a directory under the name that write returns when it is done.
func place(dir string, mode fs.FileMode, write func(io.Writer) (string, error)) (name string, err error) {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if name, err = write(f); err != nil {
		return "", err
	}
	if err = errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		return "", err
	}
	if err = f.Close(); err != nil {
		return "", err
	}
	if err = os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return "", err
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	return name, errors.Join(d.Sync(), d.Close())
}

// copyTarget brings a file into the repository, under its SHA-256 and its name.
func copyTarget(ctx context.Context, dir, from, name string) (release.File, error) {
	in, err := os.Open(from)
	if err != nil {
		return release.File{}, err
	}
	defer func() { _ = in.Close() }()
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() {
		return release.File{}, errors.Join(err, fmt.Errorf("%s is no regular file", from))
	}
	file := release.File{Name: name}
	_, err = place(dir, 0o644, func(w io.Writer) (string, error) {
		sum := sha256.New()
		n, err := io.Copy(io.MultiWriter(w, sum), reader{ctx, in})
		file.Size, file.SHA256 = n, hex.EncodeToString(sum.Sum(nil))
		return file.SHA256 + "." + name, err
	})
	return file, err
}

// reader is one that ends with a context.
type reader struct {
	ctx  context.Context
	from io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.from.Read(b)
}

// lock keeps others from changing the repository, until the function that it returns is called.
func lock(dir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the repository's keys: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("cannot change the repository: another `muster release` is changing it; try again: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
