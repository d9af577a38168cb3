package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

// EnvParent is the environment variable that names the directory of all clusters' directories.
const EnvParent = "MUSTER_STATE_DIR"

// ErrNoCluster says that there is no state directory for a cluster.
var ErrNoCluster = errors.New("nothing is known of the cluster on this machine")

// Parent tells where the directories of all clusters are: $MUSTER_STATE_DIR, else $XDG_STATE_HOME/muster, else
// ~/.local/state/muster (XDG Base Directory Specification 0.8). getenv is os.Getenv.
func Parent(getenv func(string) string) (string, error) {
	if dir := getenv(EnvParent); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "muster"), nil
	}
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("cannot tell where to keep the cluster's state: neither %s, XDG_STATE_HOME nor HOME is set", EnvParent)
	}
	return filepath.Join(home, ".local", "state", "muster"), nil
}

var clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Reserved is the one name that no cluster may have: drivers keep their own files in a directory of this name beside
// the clusters' (providers.Environment.StateDir).
const Reserved = "providers"

// pathOf is the directory of a cluster. The name becomes a part of a path, so it is checked here again.
func pathOf(parent, name string) (string, error) {
	switch {
	case !clusterName.MatchString(name):
		return "", fmt.Errorf("cannot use `%s` as a cluster's name: it is not a DNS label", name)
	case name == Reserved:
		return "", fmt.Errorf("cannot use `%s` as a cluster's name: it is reserved; choose another", name)
	}
	return filepath.Join(parent, name), nil
}

// removedPath is where Remove puts a directory, so that it vanishes at once, before it deletes the files one by one. The
// leading dot keeps it apart from every cluster.
func removedPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".removed")
}

// checkPrivate refuses a directory that others own or may look into.
func checkPrivate(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("cannot use %s: it is not a directory", path)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("cannot use state directory %s: it belongs to user %d", path, owner.Uid)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("cannot use state directory %s: it holds keys and others may read it (mode %04o); run `chmod 700 %s`",
			path, mode, path)
	}
	return nil
}
