// Package hooks is the update engine `exec`: the operator's own programs write releases to a host's passive slot and boot it,
// for systems whose way of updating muster does not know.
//
// They are executables in /etc/muster/update.d, one for each call of update.Engine, and keep its contract:
//
//	slots           prints what the slots hold, as JSON: {"booted": {"version": "1", "good": true, "tries_left": -1},
//	                "other": {"version": "", "good": false, "tries_left": -1}, "next": "1"}
//	stage VERSION   writes the release to the passive slot; standard input has it as JSON: {"version": "2", "files": [{"name":
//	                "root.img", "path": "/var/lib/...", "size": 1024, "sha256": "..."}]}
//	switch VERSION  has the next boot try that slot
//	reboot          reboots the host; it may be ended by that
//	good            says that the booted slot is good
//	forget VERSION  empties the passive slot if it holds that version
//
// Each has the environment of musterd, with MUSTER_UPDATE_CALL and, where there is one, MUSTER_UPDATE_VERSION. Exit status 0 is
// success; any other is a failure, told with the last line of what was printed, and the call is made again later. slots may take
// 10 seconds, stage 30 minutes and the others a minute: then the program and what it started in its process group is killed.
package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/musterhq/muster/agent/update"
)

// Directory is where the programs are, below the host's root directory.
const Directory = "etc/muster/update.d"

// How long programs may take.
const (
	slotsTime = 10 * time.Second
	stageTime = 30 * time.Minute
	otherTime = time.Minute
)

// Engine implements update.Engine.
type Engine struct{ dir string }

// New makes an engine of the programs in a directory.
func New(dir string) *Engine { return &Engine{dir} }

// Name implements update.Engine.
func (e *Engine) Name() string { return "exec" }

// slot is update.Slot as a program prints it.
type slot struct {
	Version   string `json:"version"`
	Good      bool   `json:"good"`
	TriesLeft int    `json:"tries_left"`
}

// Slots implements update.Engine.
func (e *Engine) Slots(ctx context.Context) (update.Slots, error) {
	var is struct {
		Booted slot   `json:"booted"`
		Other  slot   `json:"other"`
		Next   string `json:"next"`
	}
	out, err := e.call(ctx, slotsTime, nil, "slots")
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(out))
		d.DisallowUnknownFields()
		err = d.Decode(&is)
	}
	if err == nil && is.Booted.Version == "" {
		err = fmt.Errorf("it names no booted version")
	}
	if err != nil {
		return update.Slots{}, fmt.Errorf("cannot see what the slots hold: %w", err)
	}
	return update.Slots{Booted: update.Slot(is.Booted), Other: update.Slot(is.Other), Next: is.Next}, nil
}

// Stage implements update.Engine.
func (e *Engine) Stage(ctx context.Context, r update.Release) error {
	type file struct {
		Name   string `json:"name"`
		Path   string `json:"path"`
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
	}
	release := struct {
		Version string `json:"version"`
		Files   []file `json:"files"`
	}{Version: r.Version, Files: []file{}}
	for _, f := range r.Files {
		release.Files = append(release.Files, file(f))
	}
	input, err := json.Marshal(release)
	if err != nil {
		return err
	}
	_, err = e.call(ctx, stageTime, input, "stage", r.Version)
	return err
}

// Switch implements update.Engine.
func (e *Engine) Switch(ctx context.Context, version string) error {
	return e.do(ctx, "switch", version)
}

// Reboot implements update.Engine.
func (e *Engine) Reboot(ctx context.Context) error { return e.do(ctx, "reboot") }

// Good implements update.Engine.
func (e *Engine) Good(ctx context.Context) error { return e.do(ctx, "good") }

// Forget implements update.Engine.
func (e *Engine) Forget(ctx context.Context, version string) error {
	return e.do(ctx, "forget", version)
}

func (e *Engine) do(ctx context.Context, args ...string) error {
	_, err := e.call(ctx, otherTime, nil, args...)
	return err
}

// call runs a program and returns what it printed.
func (e *Engine) call(ctx context.Context, limit time.Duration, input []byte, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(e.dir, args[0]), args[1:]...)
	cmd.Env = append(os.Environ(), "MUSTER_UPDATE_CALL="+args[0])
	if len(args) > 1 {
		cmd.Env = append(cmd.Env, "MUSTER_UPDATE_VERSION="+args[1])
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("cannot %s: %s did not end within %s", args[0], cmd.Path, limit)
	case err != nil:
		return nil, fmt.Errorf("cannot %s: %w: %s", args[0], err, lastLine(stderr.String(), stdout.String()))
	}
	return stdout.Bytes(), nil
}

// lastLine is the last line of the first text that has one, cut to what a record can hold.
func lastLine(texts ...string) string {
	for _, text := range texts {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if last := lines[len(lines)-1]; last != "" {
			return last[:min(len(last), 200)]
		}
	}
	return "it printed nothing"
}
