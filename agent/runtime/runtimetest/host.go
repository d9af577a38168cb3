package runtimetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
)

// Host is a place with its Runtime. Its methods end the test on errors.
type Host struct {
	*testing.T
	runtime.Runtime
	// OnFailure is called with why a method ends the test, before it does. May be nil.
	OnFailure func(message string)
	open      Open
}

// NewHost is for tests of an implementation beyond the suite.
func NewHost(t *testing.T, open Open) *Host {
	h := &Host{T: t}
	h.Begin(open)
	return h
}

// Begin opens the Runtime for the first time.
func (h *Host) Begin(open Open) {
	h.open = open
	h.Open()
	h.Cleanup(h.end)
}

// Fatal ends the test.
func (h *Host) Fatal(args ...any) {
	h.Helper()
	h.fails(fmt.Sprintln(args...))
	h.T.Fatal(args...)
}

// Fatalf ends the test.
func (h *Host) Fatalf(format string, args ...any) {
	h.Helper()
	h.fails(fmt.Sprintf(format, args...))
	h.T.Fatalf(format, args...)
}

func (h *Host) fails(message string) {
	if h.OnFailure != nil {
		h.OnFailure(message)
	}
}

// Open replaces the Runtime, which is closed if it is not.
func (h *Host) Open() {
	h.Helper()
	h.Shut()
	h.Runtime = h.open(h.T)
}

// Shut closes the Runtime.
func (h *Host) Shut() {
	h.Helper()
	if h.Runtime == nil {
		return
	}
	if err := h.Close(); err != nil {
		h.Fatal(err)
	}
	h.Runtime = nil
}

// end stops whatever the test left.
func (h *Host) end() {
	if h.Runtime == nil {
		h.Open()
	}
	for _, s := range h.list() {
		h.StopUnit(s.Name)
	}
	h.Shut()
}

func (h *Host) context() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.T.Context()), patience)
	h.T.Cleanup(cancel)
	return ctx
}

// LoadUnit loads a unit from the lines of [Service].
func (h *Host) LoadUnit(name, service string) {
	h.Helper()
	if err := h.Load(h.context(), Unit(h.T, name, service)); err != nil {
		h.Fatal(err)
	}
}

// Unit makes a unit of the lines of [Service].
func Unit(t *testing.T, name, service string) runtime.Unit {
	t.Helper()
	text := "[Service]\n" + service
	f, _, err := unitfile.Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return runtime.Unit{Name: name, Hash: hash(text), File: f}
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// StartUnit starts a loaded unit.
func (h *Host) StartUnit(name string) {
	h.Helper()
	if err := h.Start(h.context(), name); err != nil {
		h.Fatal(err)
	}
}

// StopUnit stops a unit.
func (h *Host) StopUnit(name string) {
	h.Helper()
	if err := h.Stop(h.context(), name); err != nil {
		h.Fatal(err)
	}
}

func (h *Host) list() []runtime.Status {
	h.Helper()
	list, err := h.List(h.context())
	if err != nil {
		h.Fatal(err)
	}
	return list
}

// Status returns that of a loaded unit.
func (h *Host) Status(name string) runtime.Status {
	h.Helper()
	for _, s := range h.list() {
		if s.Name == name {
			return s
		}
	}
	h.Fatalf("%s is not loaded", name)
	return runtime.Status{}
}

// Await waits until a unit's status is as wanted.
func (h *Host) Await(name, what string, is func(runtime.Status) bool) runtime.Status {
	h.Helper()
	ctx := h.context()
	for {
		s := h.Status(name)
		if is(s) {
			return s
		}
		select {
		case <-h.Changed():
		case <-ctx.Done():
			h.Fatalf("%s does not become %s: it is %+v; it wrote\n%s", name, what, s, h.Log(name))
		}
	}
}

// AwaitState waits for an active state and a sub state.
func (h *Host) AwaitState(name, active, sub string) runtime.Status {
	h.Helper()
	return h.Await(name, active+", "+sub, func(s runtime.Status) bool { return s.Active == active && s.Sub == sub })
}

// Log returns everything that a unit wrote.
func (h *Host) Log(name string) string {
	h.Helper()
	text, err := h.Lines(h.context(), name, runtime.LogQuery{Lines: -1})
	if err != nil {
		h.Fatal(err)
	}
	return text
}

// Lines returns the messages of a unit's log, each with a newline.
func (h *Host) Lines(ctx context.Context, name string, q runtime.LogQuery) (string, error) {
	var b bytes.Buffer
	err := h.Logs(ctx, name, q, func(entries []runtime.LogEntry) error {
		for _, e := range entries {
			b.Write(append(e.Message[:len(e.Message):len(e.Message)], '\n'))
		}
		return nil
	})
	return b.String(), err
}

// AwaitLog waits until a unit has written a line that begins with a word, and returns what follows in that line.
func (h *Host) AwaitLog(name, word string) string {
	h.Helper()
	return h.AwaitLogs(name, word, 1)[0]
}

// AwaitLogs is AwaitLog for the first n such lines.
func (h *Host) AwaitLogs(name, word string, n int) []string {
	h.Helper()
	ctx, cancel := context.WithCancel(h.context())
	defer cancel()
	found := make(chan string, 1000)
	done := make(chan error, 1)
	go func() { done <- h.Logs(ctx, name, runtime.LogQuery{Lines: -1, Follow: true}, find(word, found)) }()
	var all []string
	for len(all) < n {
		select {
		case rest := <-found:
			all = append(all, rest)
		case err := <-done:
			h.Fatalf("%s wrote %q %d of %d times (%v); its log is\n%s", name, word, len(all), n, err, h.Log(name))
		}
	}
	cancel()
	<-done
	return all
}

// find delivers what follows a word at the beginning of an entry.
func find(word string, found chan<- string) func([]runtime.LogEntry) error {
	return func(entries []runtime.LogEntry) error {
		for _, e := range entries {
			if after, ok := strings.CutPrefix(string(e.Message), word); ok {
				found <- strings.TrimSpace(after)
			}
		}
		return nil
	}
}

// PID waits until a unit has written a word and a process ID.
func (h *Host) PID(name, word string) int {
	h.Helper()
	pid, err := strconv.Atoi(h.AwaitLog(name, word))
	if err != nil {
		h.Fatal(err)
	}
	return pid
}

// Runs says whether a process exists and is no zombie of ours.
func Runs(pid int) bool { return unix.Kill(pid, 0) == nil && !zombie(pid) }

// AwaitEnd waits until a process is gone.
func (h *Host) AwaitEnd(pid int) {
	h.Helper()
	ctx := h.context()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for Runs(pid) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.Fatalf("process %d goes on", pid)
		}
	}
}
