package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/agent/runtime"
)

// phase is systemd's SubState.
type phase string

const (
	dead         phase = "dead"
	failed       phase = "failed"
	startPre     phase = "start-pre"
	start        phase = "start"
	startPost    phase = "start-post"
	running      phase = "running"
	exited       phase = "exited"
	reload       phase = "reload"
	stop         phase = "stop"
	stopSigterm  phase = "stop-sigterm"
	stopSigkill  phase = "stop-sigkill"
	stopPost     phase = "stop-post"
	finalSigterm phase = "final-sigterm"
	finalSigkill phase = "final-sigkill"
	autoRestart  phase = "auto-restart"
)

// active is the ActiveState of each phase.
var active = map[phase]string{
	dead: "inactive", failed: "failed",
	startPre: "activating", start: "activating", startPost: "activating", autoRestart: "activating",
	running: "active", exited: "active", reload: "reloading",
	stop: "deactivating", stopSigterm: "deactivating", stopSigkill: "deactivating", stopPost: "deactivating",
	finalSigterm: "deactivating", finalSigkill: "deactivating",
}

// proc is a process that runs below a keeper.
type proc struct {
	id
	Keeper id     `json:"keeper"`
	Exit   string `json:"exit"` // name of the file for the second choice of its exit status
}

// record is everything about a unit that must survive the agent. It is a value: steps make a new one.
type record struct {
	Version int       `json:"version"`
	Boot    string    `json:"boot"` // processes are of this boot
	Phase   phase     `json:"phase"`
	Since   time.Time `json:"since"`
	// Deadline ends the phase, zero for never.
	Deadline time.Time `json:"deadline,omitzero"`
	// Index counts the command lines of the phase.
	Index int `json:"index,omitempty"`
	// Expired is true when the deadline of a reload has passed, and its command is being killed.
	Expired bool `json:"expired,omitempty"`
	// Running are the contents that the unit was started with.
	Running *contents `json:"running,omitempty"`
	// Main is the process of ExecStart, until all that belongs to it is cleared away; MainExit is set once it has ended.
	Main     *proc  `json:"main,omitempty"`
	MainExit *exit  `json:"main_exit,omitempty"`
	Control  *proc  `json:"control,omitempty"` // of every other Exec line
	Result   result `json:"result,omitzero"`
	// StopWanted and StartWanted are what was asked for while the unit was busy.
	StopWanted  bool        `json:"stop_wanted,omitempty"`
	StartWanted bool        `json:"start_wanted,omitempty"`
	Starts      []time.Time `json:"starts,omitempty"` // those within StartLimitIntervalSec
	Restarts    int         `json:"restarts,omitempty"`
	// Ends counts how often the unit came to rest, GaveUp is true when something survived that.
	Ends   int  `json:"ends,omitempty"`
	GaveUp bool `json:"gave_up,omitempty"`
	// Text is what the service says of itself (sd_notify STATUS=).
	Text string `json:"text,omitempty"`
}

// contents are a unit file under the hash that the caller gave it.
type contents struct {
	Hash string `json:"hash"`
	Text string `json:"text"`
}

// loaded is unit.json.
type loaded struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	contents
}

// version of the files. An older agent refuses newer ones rather than misread them.
const version = 1

var errVersion = errors.New("the file is of an unknown version")

func (r record) resting() bool { return r.Phase == dead || r.Phase == failed }

// mainRuns is true from the start of the main process until its exit was seen.
func (r record) mainRuns() bool { return r.Main != nil && r.MainExit == nil }

// status is what the runtime tells of the unit.
func (r record) status(name string, d definition) runtime.Status {
	s := runtime.Status{
		Name: name, Hash: d.Hash, Load: "loaded", Active: active[r.Phase], Sub: string(r.Phase), Since: r.Since,
		Reason: r.reason(),
	}
	if r.Running != nil && !r.resting() {
		s.RunningHash = r.Running.Hash
	}
	if d.problem != "" {
		s.Load = "error"
		if r.resting() {
			s.Reason = d.problem
		}
	}
	return s
}

func (r record) reason() string {
	switch {
	case r.Phase == autoRestart && r.Result.Text != "":
		return r.Result.Text + ", starts again"
	case r.Result.Text != "":
		return r.Result.Text
	}
	return r.Text
}

// putAside renames a file that cannot be read, so that the unit can be loaded anew.
func putAside(dir, name string) error {
	err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, name+".bad"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readRecord reads state.json. A file that is missing gives a unit at rest.
func readRecord(dir string) (record, error) {
	r := record{Version: version, Phase: dead}
	err := readJSON(filepath.Join(dir, stateFile), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil && r.Version != version {
		err = fmt.Errorf("cannot read %s: %w %d", filepath.Join(dir, stateFile), errVersion, r.Version)
	}
	if err == nil && active[r.Phase] == "" {
		err = fmt.Errorf("cannot read %s: unknown phase %q", filepath.Join(dir, stateFile), r.Phase)
	}
	return r, err
}

const (
	unitFile   = "unit.json"
	stateFile  = "state.json"
	logFile    = "log"
	oldLogFile = "log.1"
	startsFile = "starts.jsonl"
)

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces a file as a whole. It does not wait for the disk: after a power cut no process is left to which
// the file could refer.
func writeJSON(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("cannot replace %s: %w", path, err)
	}
	return nil
}
