package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/guard"
	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/agent/unitfile"
)

// What a test process finds in its environment, to be a guard or an agent with a strict unit.
const (
	guardSwitch = "MUSTER_TEST_GUARD"
	strictAgent = "MUSTER_TEST_STRICT_AGENT"
)

const strictUnit = "[Service]\nExecStart=/bin/sh -c 'trap : TERM; (trap : TERM; while :; do sleep 1; done) & while :; do sleep 1; done'\n" +
	"Restart=always\nTimeoutStopSec=1h\n[X-Muster]\nSingleton=strict\n"

// beStrict is a test process that is a guard, or an agent that holds a strict unit for a while and then does nothing.
func beStrict() {
	switch {
	case os.Getenv(guardSwitch) != "" && len(os.Args) == 5:
		err := process.Guard(context.Background(), os.Args[2], os.Args[4], slog.New(slog.NewTextHandler(os.Stderr, nil)))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(0)
	case os.Getenv(strictAgent) != "":
		dir, instance := os.Getenv(strictAgent), os.Getenv(agentInstance)
		c := config(dir, instance, os.Stderr)
		c.Guard = []string{os.Args[0]}
		_ = os.Setenv(guardSwitch, "1")
		_ = os.Unsetenv(strictAgent)
		rt, err := process.New(context.Background(), c)
		if err == nil {
			err = load(rt, strictUnit)
		}
		if err == nil {
			_, err = rt.Hold(guard.Now() + 3*time.Second)
		}
		if err == nil {
			err = rt.Start(context.Background(), "a.service")
		}
		if until, ok := rt.Held(); err == nil && ok {
			fmt.Println(int64(until))
		}
		fmt.Fprintln(os.Stderr, "started", err)
		<-time.After(time.Hour)
	}
}

func load(rt runtime.Runtime, text string) error {
	f, _, err := unitfile.Parse("a.service", []byte(text))
	if err != nil {
		return err
	}
	return rt.Load(context.Background(), runtime.Unit{Name: "a.service", Hash: "1", File: f})
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for limit := time.After(time.Minute); !is(); {
		select {
		case <-again.C:
		case <-limit:
			t.Fatalf("not so in a minute: %s", what)
		}
	}
}

// running is how many processes of the unit there are, but for the keeper.
func (s *site) running(t *testing.T) (n int) {
	for _, p := range s.marked(t) {
		if env, _ := os.ReadFile(filepath.Join("/proc", p, "environ")); !bytes.Contains(env, []byte("MUSTER_UNIT=a.service\x00")) {
			continue // the guard
		}
		if stat, err := os.ReadFile(filepath.Join("/proc", p, "stat")); err == nil {
			after := string(stat[bytes.LastIndexByte(stat, ')')+1:])
			if state := strings.Fields(after)[0]; state != "Z" && state != "T" && state != "X" {
				n++
			}
		}
	}
	return n
}

// endGuard ends everything that this instance has started, its guard too.
func (s *site) endGuard(t *testing.T) {
	await(t, "all are gone", func() bool {
		left := 0
		environs, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, path := range environs {
			env, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(env, []byte("MUSTER_INSTANCE="+s.Instance+"\x00")) {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				left++
				_ = unix.Kill(pid, unix.SIGKILL)
				var status unix.WaitStatus
				_, _ = unix.Wait4(pid, &status, unix.WNOHANG, nil)
			}
		}
		return left == 0
	})
}

// TestGuardKills stops an agent (SIGSTOP), or kills it, while it holds a strict unit that ignores SIGTERM and is restarted
// when it ends: every process of it is gone soon after the moment to which it was held.
func TestGuardKills(t *testing.T) {
	if !guard.Available {
		t.Skip("units of Singleton=strict need CLOCK_BOOTTIME and pidfds, which this system has not")
	}
	for name, signal := range map[string]unix.Signal{"frozen": unix.SIGSTOP, "killed": unix.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := place(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), strictAgent+"="+s.Dir, agentInstance+"="+s.Instance)
			cmd.Stderr = t.Output()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); s.endGuard(t) })
			var until int64
			if _, err := fmt.Fscan(out, &until); err != nil {
				t.Fatalf("the agent does not hold its unit: %v", err)
			}
			await(t, "it runs", func() bool { return s.running(t) >= 2 })
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			await(t, "it is killed", func() bool { return s.running(t) == 0 })
			if late := guard.Now() - time.Duration(until); late < 0 {
				t.Errorf("it was killed %v too early", -late)
			} else {
				t.Logf("every process was seen to be gone %v after the moment", late)
			}
			if signal == unix.SIGSTOP {
				_ = cmd.Process.Signal(unix.SIGCONT)
				<-time.After(500 * time.Millisecond) // in which Restart=always would have started it again
				if n := s.running(t); n != 0 {
					t.Errorf("%d processes run after the agent woke", n)
				}
			}
		})
	}
}

// TestStrictNeedsHold starts a strict unit only while it is held, and with a guard.
func TestStrictNeedsHold(t *testing.T) {
	if !guard.Available {
		t.Skip("units of Singleton=strict need CLOCK_BOOTTIME and pidfds, which this system has not")
	}
	s := place(t)
	rt := s.open(t).(*process.Runtime)
	if err := load(rt, strictUnit); err != nil {
		t.Fatal(err)
	}
	if err := rt.Start(t.Context(), "a.service"); !errors.Is(err, runtime.ErrNotHeld) {
		t.Errorf("without a guard: %v", err)
	}
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(guardSwitch, "1")
	s.Guard = []string{os.Args[0]}
	t.Cleanup(func() { s.endGuard(t) })
	rt = s.open(t).(*process.Runtime)
	for _, until := range []time.Duration{0, -time.Second} {
		if _, err := rt.Hold(guard.Now() + until); err != nil {
			t.Fatal(err)
		}
		if err := rt.Start(t.Context(), "a.service"); !errors.Is(err, runtime.ErrNotHeld) {
			t.Errorf("after the moment: %v", err)
		}
	}
	if _, err := rt.Hold(guard.Now() + time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := rt.Start(t.Context(), "a.service"); err != nil {
		t.Error(err)
	}
	await(t, "it runs", func() bool { return s.running(t) >= 2 })
	if _, err := rt.Hold(guard.Now()); err != nil { // the moment moves back
		t.Fatal(err)
	}
	await(t, "it is killed", func() bool { return s.running(t) == 0 })
	await(t, "it is said", func() bool {
		killed, err := rt.Hold(guard.Now() + time.Minute)
		return killed && err == nil
	})
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
}
