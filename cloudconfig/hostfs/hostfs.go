package hostfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Root is a directory that stands for a host's root.
type Root struct {
	root   *os.Root
	dir    string
	real   bool // the machine's own
	owners bool // and we may give files away
}

// Open opens a root directory.
func Open(dir string) (*Root, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	privileged := os.Geteuid() == 0
	return &Root{root: root, dir: abs, real: abs == "/", owners: abs == "/" && privileged}, nil
}

// Close ends the use of a Root.
func (r *Root) Close() error { return r.root.Close() }

// Dir is the absolute path of the root directory.
func (r *Root) Dir() string { return r.dir }

// Real reports whether the root is the machine's own.
func (r *Root) Real() bool { return r.real }

// Owners reports whether files get the owners that are asked for.
func (r *Root) Owners() bool { return r.owners }

// IDs are the numbers of an owner.
type IDs struct{ User, Group int }

// Written describes a file that was written.
type Written struct {
	Path   string `json:"path"`
	Mode   string `json:"mode"`   // four octal digits
	SHA256 string `json:"sha256"` // of the content, hexadecimal
}

// Describe is what Write would return for a file.
func Describe(path string, data []byte, mode fs.FileMode) Written {
	sum := sha256.Sum256(data)
	return Written{Path: path, Mode: octal(mode), SHA256: hex.EncodeToString(sum[:])}
}

func octal(mode fs.FileMode) string {
	bits := uint32(mode.Perm())
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return fmt.Sprintf("%04o", bits)
}

// Write puts a file in its place by a rename, after its bytes are on the disk. Missing directories are made with mode
// 0755. A link of that name is replaced, not followed. who may be nil: the caller's own.
func (r *Root) Write(path string, data []byte, mode fs.FileMode, who *IDs) (Written, error) {
	name, err := r.name(path)
	if err != nil {
		return Written{}, err
	}
	dir := filepath.Dir(name)
	if err := r.root.MkdirAll(dir, 0o755); err != nil {
		return Written{}, err
	}
	temporary := filepath.Join(dir, temporaryName(filepath.Base(name)))
	if err := r.root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Written{}, err
	}
	if err = r.fill(temporary, data, mode, who); err == nil {
		r.label(name, temporary)
		err = r.root.Rename(temporary, name)
	}
	if err != nil {
		_ = r.root.Remove(temporary) // the next run would, too
		return Written{}, err
	}
	return Describe(path, data, mode), r.sync(dir)
}

// Replace is Write for a file that keeps the mode and the owner that it has. A new one gets mode and who.
func (r *Root) Replace(path string, data []byte, mode fs.FileMode, who *IDs) (Written, error) {
	if info, err := r.Lstat(path); err == nil && info.Mode().IsRegular() {
		mode = info.Mode() &^ fs.ModeType
		who = ownerOf(info)
	}
	if os.Geteuid() != 0 {
		who = nil // it is ours
	}
	return r.Write(path, data, mode, who)
}

// temporaryName is where a file is made ready. Names have at most 255 bytes.
func temporaryName(base string) string {
	if len(base) > 240 {
		sum := sha256.Sum256([]byte(base))
		base = hex.EncodeToString(sum[:])
	}
	return ".muster-" + base
}

// fill makes a file with everything that it shall have.
func (r *Root) fill(name string, data []byte, mode fs.FileMode, who *IDs) (err error) {
	f, err := r.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if who != nil {
		if err := f.Chown(who.User, who.Group); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil { // after chown, which clears set-user-ID
		return err
	}
	return f.Sync()
}

// sync makes a rename in a directory last.
func (r *Root) sync(dir string) error {
	d, err := r.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Symlink makes a link, in place of whatever file or link has its name. The target is not checked.
func (r *Root) Symlink(target, path string) error {
	name, err := r.name(path)
	if err != nil {
		return err
	}
	if have, err := r.root.Readlink(name); err == nil && have == target {
		return nil
	}
	dir := filepath.Dir(name)
	if err := r.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temporary := filepath.Join(dir, temporaryName(filepath.Base(name)))
	_ = r.root.Remove(temporary)
	if err := r.root.Symlink(target, temporary); err != nil {
		return err
	}
	if err := r.root.Rename(temporary, name); err != nil {
		_ = r.root.Remove(temporary)
		return err
	}
	return r.sync(dir)
}

// MkdirAll makes a directory and those above it. The last one gets mode and owner, also when it is there.
func (r *Root) MkdirAll(path string, mode fs.FileMode, who *IDs) error {
	name, err := r.name(path)
	if err != nil {
		return err
	}
	if err := r.root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	if who != nil {
		if err := r.root.Lchown(name, who.User, who.Group); err != nil {
			return err
		}
	}
	return r.root.Chmod(name, mode)
}

// EnsureDir makes a directory and those above it, with mode 0755. One that is there is left as it is.
func (r *Root) EnsureDir(path string) error {
	name, err := r.name(path)
	if err != nil {
		return err
	}
	return r.root.MkdirAll(name, 0o755)
}

// ReadDir lists the names in a directory in their order, none when there is no such directory.
func (r *Root) ReadDir(path string) ([]string, error) {
	name, err := r.name(path)
	if err != nil {
		return nil, err
	}
	d, err := r.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// ReadFile reads a regular file of at most limit bytes.
func (r *Root) ReadFile(path string, limit int64) ([]byte, error) {
	name, err := r.name(path)
	if err != nil {
		return nil, err
	}
	f, err := r.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, err
}

// Lstat describes a file, not what a link leads to.
func (r *Root) Lstat(path string) (fs.FileInfo, error) {
	name, err := r.name(path)
	if err != nil {
		return nil, err
	}
	return r.root.Lstat(name)
}

// Exists reports whether something that is no dangling link has this path.
func (r *Root) Exists(path string) bool {
	name, err := r.name(path)
	if err != nil {
		return false
	}
	_, err = r.root.Stat(name)
	return err == nil
}

// Remove removes a file, if it is there.
func (r *Root) Remove(path string) error {
	name, err := r.name(path)
	if err != nil {
		return err
	}
	if err := r.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// name is a path as os.Root wants it.
func (r *Root) name(p string) (string, error) {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
		return "", fmt.Errorf("the path `%s` is not absolute and clean", p)
	}
	if r.real {
		var err error
		if p, err = resolve(p); err != nil {
			return "", err
		}
	}
	return strings.TrimPrefix(p, "/"), nil
}

// resolve follows the symbolic links among the directories of an absolute path.
func resolve(path string) (string, error) {
	dir, rest := filepath.Dir(path), filepath.Base(path)
	for {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return "", err
		}
		dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest)
	}
}
