//go:build lab

package systemd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/runtimetest"
	"github.com/musterhq/muster/agent/runtime/systemd/nspawntest"
)

// report is what explains the first failure of a test's subtests in one host. It is taken when the subtest fails, before
// cleaning up, and told where the test ends: a subtest's own log is far from there.
type report struct {
	host *nspawntest.Host

	mu      sync.Mutex
	calls   map[string]time.Duration // that have ended, the longest of each
	pending map[string]time.Time     // when those began that have not
	lines   []string
}

func newReport() *report {
	return &report{calls: map[string]time.Duration{}, pending: map[string]time.Time{}}
}

// tell logs what was found.
func (r *report) tell(t *testing.T) {
	for _, line := range r.lines {
		t.Log(line)
	}
}

// failed looks into the host once.
func (r *report) failed(ctx context.Context, subtest, message string) {
	slowest := r.slowest()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lines != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	jobs, err := r.host.Command(ctx, "systemctl", "list-jobs", "--no-legend").CombinedOutput()
	r.lines = []string{
		subtest + " failed: " + brief(message),
		"slowest calls: " + slowest,
		"PID 1: " + process(r.host.PID),
		fmt.Sprintf("jobs of systemd: %s (%v)", brief(string(jobs)), err),
		"processes that wait for a disk: " + brief(strings.Join(waiting(), "; ")),
		"memory: " + memory(),
	}
}

// brief is a text in one line that is not too long.
func brief(text string) string {
	const most = 600
	line := strings.Join(strings.Fields(text), " ")
	if len(line) > most {
		return line[:most/2] + " ... " + line[len(line)-most/2:]
	}
	return line
}

// process says what a process waits for in the kernel.
func process(pid int) string {
	told := []string{}
	for _, file := range []string{"wchan", "stack", "syscall"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			text = []byte(err.Error())
		}
		told = append(told, file+" "+brief(string(text)))
	}
	return strings.Join(told, ", ")
}

// waiting are the machine's processes that nothing can interrupt, with what they wait for: most often a disk.
func waiting() []string {
	var list []string
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		name, rest, ok := strings.Cut(string(text), ") ")
		if ok && strings.HasPrefix(rest, "D") {
			wchan, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "wchan"))
			list = append(list, name+") in "+string(wchan))
		}
	}
	return list
}

// memory says how much is to be written to disks, and how long all processes have waited for them.
func memory() string {
	var told []string
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		for _, name := range []string{"MemFree:", "Dirty:", "Writeback:"} {
			if strings.HasPrefix(line, name) {
				told = append(told, brief(line))
			}
		}
	}
	pressure, err := os.ReadFile("/proc/pressure/io")
	if err == nil {
		told = append(told, "pressure "+brief(string(pressure)))
	}
	return strings.Join(told, ", ")
}

// slowest are the three calls of the runtime that took longest, those under way among them.
func (r *report) slowest() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	type call struct {
		name string
		took time.Duration
	}
	var all []call
	for name, took := range r.calls {
		all = append(all, call{name, took})
	}
	for name, began := range r.pending {
		all = append(all, call{name + " (under way)", time.Since(began)})
	}
	slices.SortFunc(all, func(a, b call) int { return int(b.took - a.took) })
	var told []string
	for _, c := range all[:min(3, len(all))] {
		told = append(told, fmt.Sprintf("%s %v", c.name, c.took.Round(time.Millisecond)))
	}
	return strings.Join(told, ", ")
}

// timed measures a call.
func (r *report) timed(name string, call func() error) error {
	began := time.Now()
	r.mu.Lock()
	r.pending[name] = began
	r.mu.Unlock()
	err := call()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, name)
	r.calls[name] = max(r.calls[name], time.Since(began))
	return err
}

// run runs a subtest that has the host to itself.
func (r *report) run(t *testing.T, name string, test func(testing.TB, *nspawntest.Host, *runtimetest.Host)) {
	t.Run(name, func(t *testing.T) {
		failed := func(message string) { r.failed(context.WithoutCancel(t.Context()), t.Name(), message) }
		h := &runtimetest.Host{T: t, OnFailure: failed}
		open := fromOutside(r.host)
		h.Begin(func(t *testing.T) runtime.Runtime { return &timed{open(t), r} })
		reported := reporting{t, failed}
		t.Cleanup(func() { unloadAll(reported, h) })
		test(reported, r.host, h)
	})
}

// reporting is a subtest whose failures are reported.
type reporting struct {
	testing.TB
	failed func(message string)
}

func (t reporting) Error(args ...any) {
	t.Helper()
	t.failed(fmt.Sprintln(args...))
	t.TB.Error(args...)
}

func (t reporting) Errorf(format string, args ...any) {
	t.Helper()
	t.failed(fmt.Sprintf(format, args...))
	t.TB.Errorf(format, args...)
}

func (t reporting) Fatal(args ...any) {
	t.Helper()
	t.failed(fmt.Sprintln(args...))
	t.TB.Fatal(args...)
}

func (t reporting) Fatalf(format string, args ...any) {
	t.Helper()
	t.failed(fmt.Sprintf(format, args...))
	t.TB.Fatalf(format, args...)
}

// timed is a Runtime whose calls are measured.
type timed struct {
	runtime.Runtime
	report *report
}

func (t *timed) Load(ctx context.Context, u runtime.Unit) error {
	return t.report.timed("load "+u.Name, func() error { return t.Runtime.Load(ctx, u) })
}

func (t *timed) Start(ctx context.Context, name string) error {
	return t.report.timed("start "+name, func() error { return t.Runtime.Start(ctx, name) })
}

func (t *timed) Stop(ctx context.Context, name string) error {
	return t.report.timed("stop "+name, func() error { return t.Runtime.Stop(ctx, name) })
}

func (t *timed) Unload(ctx context.Context, name string) error {
	return t.report.timed("unload "+name, func() error { return t.Runtime.Unload(ctx, name) })
}

func (t *timed) List(ctx context.Context) (list []runtime.Status, err error) {
	err = t.report.timed("list", func() error {
		list, err = t.Runtime.List(ctx)
		return err
	})
	return list, err
}
