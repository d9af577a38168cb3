package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

// The environment of a helper process: what it does, where, and at which crash point it ends itself.
const (
	envHelper  = "MUSTER_APPLY_HELPER"
	envDir     = "MUSTER_APPLY_DIR"
	envCrashAt = "MUSTER_APPLY_CRASH_AT"
)

func TestMain(m *testing.M) {
	if verb := os.Getenv(envHelper); verb != "" {
		if err := helper(verb); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helper is a muster that dies at its nth crash point as a process does: no deferred call runs, no lock is given back but
// by the system.
func helper(verb string) error {
	at, err := strconv.ParseInt(os.Getenv(envCrashAt), 10, 64)
	if err != nil {
		return err
	}
	var points atomic.Int64
	opts := Options{NoWait: true, Confirm: agree, CrashPoint: func(string) {
		if points.Add(1) == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}}
	deps := fileDeps(os.Getenv(envDir))
	if verb == "down" {
		_, err = Down(context.Background(), deps, opts)
		if errors.Is(err, state.ErrNoCluster) {
			err = nil
		}
		return err
	}
	_, err = Up(context.Background(), deps, opts)
	return err
}

// fileDeps are two clouds whose state is in files, so that they outlive every process.
func fileDeps(dir string) Deps {
	deps := Deps{Spec: clusterFile(3, 0), StateDir: filepath.Join(dir, "state"), Providers: make(map[string]providers.Provider)}
	for _, name := range cloudNames {
		config := fake.NewConfig()
		config.State = filepath.Join(dir, name+".json")
		config.ClientTokens = name == "a"
		config.Faults = fake.Faults{TwoStepTags: true}
		deps.Providers[name] = fake.New(*config, providers.Environment{})
	}
	return deps
}

// process runs a helper and reports whether it was killed.
func process(t *testing.T, verb, dir string, crashAt int) (killed bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), envHelper+"="+verb, envDir+"="+dir, fmt.Sprintf("%s=%d", envCrashAt, crashAt))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	t.Fatalf("%s with a crash at %d: %v\n%s", verb, crashAt, err, out)
	return false
}

// TestKilledUp kills real processes at every crash point of `up`.
func TestKilledUp(t *testing.T) {
	for n := 1; ; n++ {
		for _, then := range []string{"up", "down"} {
			dir := tempDir(t)
			if !process(t, "up", dir, n) {
				if n < 30 {
					t.Errorf("only %d crash points", n-1)
				}
				return
			}
			if process(t, then, dir, 0) {
				t.Fatal("a process that should not die did")
			}
			assertFiles(t, dir, n, then)
		}
	}
}

// TestKilledDown kills real processes at every crash point of `down`, twice in a row.
func TestKilledDown(t *testing.T) {
	for n := 1; ; n++ {
		dir := tempDir(t)
		process(t, "up", dir, 0)
		if !process(t, "down", dir, n) {
			return
		}
		process(t, "down", dir, n) // dies again, or is done
		process(t, "down", dir, 0)
		assertFiles(t, dir, n, "down")
	}
}

// assertFiles checks what the clouds and the state directory hold after a process that was not killed.
func assertFiles(t *testing.T, dir string, n int, verb string) {
	t.Helper()
	w := &world{t: t, spec: clusterFile(3, 0), state: filepath.Join(dir, "state"), clouds: make(map[string]*fake.Provider)}
	for name, p := range fileDeps(dir).Providers {
		w.clouds[name] = p.(*fake.Provider)
	}
	if verb == "down" {
		w.assertNothing()
		return
	}
	w.assertExactlyWanted()
	before := w.calls()
	process(t, "up", dir, 0)
	if more := w.calls() - before; more > 0 {
		t.Errorf("crash point %d: the second run made %d calls", n, more)
	}
	if t.Failed() {
		t.FailNow()
	}
}
