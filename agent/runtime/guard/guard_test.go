package guard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/runtime/guard"
)

// beGuard in its environment makes this program a guard of the directory that it names.
const beGuard = "MUSTER_TEST_GUARD"

func TestMain(m *testing.M) {
	dir := os.Getenv(beGuard)
	if dir == "" {
		os.Exit(m.Run())
	}
	d := guard.Dir{Path: dir, Boot: "1"}
	if err := guard.Run(context.Background(), d, marked(dir), slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(0)
}

// marked are units that were killed at the moment that a file says.
type marked string

func (m marked) Any() bool { return true }

func (m marked) Kill(context.Context) error {
	return os.WriteFile(filepath.Join(string(m), "killed"), []byte(strconv.FormatInt(int64(guard.Now()), 10)), 0o600)
}

func needsClock(t *testing.T) {
	if !guard.Available {
		t.Skip("a guard needs CLOCK_BOOTTIME, which this system has not")
	}
}

// units note what a guard does to them.
type units struct {
	mu    sync.Mutex
	news  chan struct{} // after each kill
	log   []string
	kills []time.Duration
	open  bool
	err   error
}

func newUnits() *units { return &units{news: make(chan struct{}, 1000)} }

func (u *units) Any() bool { return true }

func (u *units) Kill(context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.kills = append(u.kills, guard.Now())
	if u.open {
		u.log = append(u.log, "killed while they may start")
	}
	u.news <- struct{}{}
	return u.err
}

func (u *units) Open(open bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open = open
	return u.err
}

func (u *units) may() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.open
}

// running is a guard in this process.
func running(t *testing.T, d guard.Dir, u guard.Units) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- guard.Run(ctx, d, u, slog.New(slog.DiscardHandler)) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the guard has ended: %v", err)
		}
	})
	t.Cleanup(end)
	if err := d.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	return end
}

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

// TestRead reads what was set, and nothing else: no half of it, and nothing of another boot.
func TestRead(t *testing.T) {
	d := guard.Dir{Path: t.TempDir(), Boot: "1"}
	if until, ok := d.Read(); ok {
		t.Errorf("nothing was set, and it is %v", until)
	}
	h := guard.Holder{Dir: d}
	defer h.Close()
	for _, until := range []time.Duration{time.Second, time.Hour, 0, time.Minute, -time.Second, 1<<63 - 1} {
		if killed, err := h.Set(until); killed || err != nil {
			t.Fatalf("killed %v, %v", killed, err)
		}
		if got, ok := d.Read(); !ok || got != until {
			t.Errorf("got %v, %v, want %v", got, ok, until)
		}
	}
	if _, ok := (guard.Dir{Path: d.Path, Boot: "2"}).Read(); ok {
		t.Error("a reading of the clock counts in another boot")
	}
	for _, text := range []string{"", "1", "00000000000000000001 00000000000000000002\n", "x x\n", "00000000000000000001 0000000000000"} {
		if err := os.WriteFile(filepath.Join(d.Path, "hold-1"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if until, ok := d.Read(); ok {
			t.Errorf("%q is taken for %v", text, until)
		}
	}
}

// TestSetAfterKill says once that a guard has killed since, and holds again.
func TestSetAfterKill(t *testing.T) {
	d := guard.Dir{Path: t.TempDir(), Boot: "1"}
	h := guard.Holder{Dir: d}
	defer h.Close()
	for _, want := range []bool{false, false, true, false} {
		if want {
			if err := os.Remove(filepath.Join(d.Path, "hold-1")); err != nil { // as a guard does
				t.Fatal(err)
			}
		}
		if killed, err := h.Set(time.Hour); killed != want || err != nil {
			t.Errorf("killed %v, %v, want %v", killed, err, want)
		}
	}
	if until, ok := d.Read(); !ok || until != time.Hour {
		t.Errorf("it is held until %v, %v", until, ok)
	}
}

// TestRunKills kills when the moment has passed, not before it, and goes on with it until there is another moment.
func TestRunKills(t *testing.T) {
	needsClock(t)
	d, u := guard.Dir{Path: t.TempDir(), Boot: "1"}, newUnits()
	h := guard.Holder{Dir: d}
	defer h.Close()
	until := guard.Now() + 300*time.Millisecond
	if _, err := h.Set(until); err != nil {
		t.Fatal(err)
	}
	running(t, d, u)
	for range 3 {
		<-u.news
	}
	u.mu.Lock()
	if first := u.kills[0]; first < until {
		t.Errorf("killed %v too early", until-first)
	}
	if len(u.log) > 0 || u.open {
		t.Error(u.log, "and they may start:", u.open)
	}
	u.mu.Unlock()
	if _, ok := d.Read(); ok {
		t.Error("nobody learns that they were killed")
	}
	if killed, err := h.Set(guard.Now() + time.Hour); !killed || err != nil {
		t.Errorf("killed %v, %v", killed, err)
	}
	await(t, "they may start", u.may)
}

// TestRunSpares moves the moment as long as it has not passed: nothing is killed.
func TestRunSpares(t *testing.T) {
	needsClock(t)
	d, u := guard.Dir{Path: t.TempDir(), Boot: "1"}, newUnits()
	h := guard.Holder{Dir: d}
	defer h.Close()
	hold := func() {
		if killed, err := h.Set(guard.Now() + time.Minute); killed || err != nil {
			t.Fatalf("killed %v, %v", killed, err)
		}
	}
	hold()
	end := running(t, d, u)
	await(t, "they may start", u.may)
	for range 20 {
		hold()
		<-time.After(10 * time.Millisecond)
	}
	end()
	if len(u.kills) > 0 {
		t.Errorf("killed %d times", len(u.kills))
	}
	if until, ok := d.Read(); !ok || until < guard.Now() {
		t.Errorf("what was set is not there any more: %v, %v", until, ok)
	}
}

// TestRunHoldsNothing kills at once if nobody has ever said that they may run, and although it cannot be told.
func TestRunHoldsNothing(t *testing.T) {
	d, u := guard.Dir{Path: t.TempDir(), Boot: "1"}, newUnits()
	u.err = errors.New("no")
	running(t, d, u)
	<-u.news
	<-u.news // and once more
}

// TestRunOnce leaves a guard that lives alone.
func TestRunOnce(t *testing.T) {
	d := guard.Dir{Path: t.TempDir(), Boot: "1"}
	if lives, err := d.Guarded(); lives || err != nil {
		t.Errorf("without a guard: %v, %v", lives, err)
	}
	end := running(t, d, newUnits())
	if lives, err := d.Guarded(); !lives || err != nil {
		t.Errorf("with a guard: %v, %v", lives, err)
	}
	other := newUnits()
	if err := guard.Run(t.Context(), d, other, slog.New(slog.DiscardHandler)); err != nil || len(other.kills) > 0 {
		t.Errorf("the other has killed %d times, %v", len(other.kills), err)
	}
	end()
	if lives, err := d.Guarded(); lives || err != nil {
		t.Errorf("after the guard: %v, %v", lives, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Await(ctx); err == nil {
		t.Error("a guard is there that nobody has started")
	}
}

// TestSucceed makes a guard another program. It is the same process, there is a guard at every moment, and it kills when
// that has come.
func TestSucceed(t *testing.T) {
	needsClock(t)
	dir := t.TempDir()
	d := guard.Dir{Path: dir, Boot: "1"}
	h := guard.Holder{Dir: d}
	defer h.Close()
	hold := func(d time.Duration) {
		t.Helper()
		if killed, err := h.Set(guard.Now() + d); killed || err != nil {
			t.Fatalf("killed %v, %v", killed, err)
		}
	}
	hold(time.Hour)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	old := start(t, self, dir)
	if err := d.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Succeed(self); err != nil {
		t.Error(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, program, 0o755); err != nil {
		t.Fatal(err)
	}
	exe := func() string {
		path, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", old))
		if lives, err := d.Guarded(); !lives || err != nil {
			t.Fatalf("there is no guard (%v)", err)
		}
		return path
	}
	later := guard.Holder{Dir: d} // of another musterd
	defer later.Close()
	if err := later.Succeed(other); err != nil {
		t.Fatal(err)
	}
	await(t, "it is the other program", func() bool { hold(time.Hour); return exe() == other })
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	last := guard.Holder{Dir: d}
	defer last.Close()
	if err := last.Succeed(broken); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		hold(time.Hour)
		<-time.After(50 * time.Millisecond)
		if now := exe(); now != other {
			t.Fatalf("it has become %s", now)
		}
	}
	hold(0)
	killed := filepath.Join(dir, "killed")
	await(t, "it kills", func() bool { _, err := os.Stat(killed); return err == nil })
}

// start starts a guard of a directory, and ends it with the test. It returns its process ID.
func start(t *testing.T, program, dir string) int {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), beGuard+"="+dir)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}
