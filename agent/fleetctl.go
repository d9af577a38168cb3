package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// fleetctlPath is where a host has what `fleetctl --tunnel` runs on it: musterd under that name.
const fleetctlPath = "/usr/local/bin/fleetctl"

// offerFleetctl lets operators' fleetctl reach the cluster through SSH to this host. Only a host that is a machine of its
// own gets it, and only if it has no fleetctl already.
func (a *agent) offerFleetctl() {
	self, err := os.Executable()
	if err != nil || filepath.Clean(a.root) != "/" || filepath.Base(self) != "musterd" {
		return
	}
	if found, err := exec.LookPath("fleetctl"); err == nil && found != fleetctlPath {
		return
	}
	if err := linkFleetctl(fleetctlPath, self); err != nil {
		a.log.Info("fleetctl --tunnel cannot use this host", "err", err)
	}
}

// linkFleetctl makes a link to musterd, in place of one to a musterd elsewhere, but not of anything else.
func linkFleetctl(path, musterd string) error {
	was, err := os.Readlink(path)
	switch {
	case err == nil && was == musterd:
		return nil
	case err == nil && filepath.Base(was) == filepath.Base(musterd):
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("cannot replace the link to musterd: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil
	}
	if err := os.Symlink(musterd, path); err != nil {
		return fmt.Errorf("cannot link musterd: %w", err)
	}
	return nil
}
