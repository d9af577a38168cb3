package agent

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/agent/update/ab"
	"github.com/musterhq/muster/agent/update/dir"
	"github.com/musterhq/muster/agent/update/hooks"
	"github.com/musterhq/muster/cluster/store"
)

// The engines that this package makes. engineAgent updates musterd alone, without a reboot, on any host.
const (
	engineDir   = "dir"
	engineAgent = "agent"
	engineExec  = "exec"
	engineAB    = "ab"
)

// ownEngine is the engine of a host for which the cluster file names none: dir for hosts of the local provider, ab for those that
// were booted from the image with two slots, agent for all others.
func (u *updater) ownEngine() string {
	switch {
	case u.isLocal():
		return engineDir
	case ab.Fits(u.host.root):
		return engineAB
	}
	return engineAgent
}

// newEngine makes the engine that the settings name, or that is the host's own.
func (u *updater) newEngine(s store.UpdateSettings) (update.Engine, error) {
	name := cmp.Or(s.Engine, u.ownEngine())
	switch name {
	case engineDir, engineAgent:
		return u.newDir(s, name)
	case engineAB:
		return ab.New(u.host.root, ab.Command, u.log), nil
	case engineExec:
		return hooks.New(filepath.Join(u.host.root, hooks.Directory)), nil
	}
	return nil, fmt.Errorf("cannot update this host: it has no engine %q", name)
}

// isLocal says whether the host's provider gave it a boot of its own, as the local one does.
func (u *updater) isLocal() bool {
	info, err := os.Stat(filepath.Join(u.host.root, metaDataFile))
	return err == nil && info.Mode()&fs.ModeType == 0
}

func (u *updater) newDir(s store.UpdateSettings, name string) (update.Engine, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(u.host.root)
	if err != nil {
		return nil, err
	}
	if name == engineDir && !u.isLocal() {
		return nil, fmt.Errorf("cannot update this host with engine %s, which is for hosts of the local provider; use `engine: agent`", name)
	}
	health := limitsOf(s).Health
	if health <= 0 {
		health = update.DefaultHealth
	}
	return dir.New(dir.Config{
		Name: name, Root: root, Version: u.version, Program: self, Slot: dir.Loaded(), Whole: name == engineDir,
		Patience: 2 * health, Restart: func() { u.restart(ErrRestart) },
	}), nil
}
