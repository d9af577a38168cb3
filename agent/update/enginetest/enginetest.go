// Package enginetest is the conformance suite of update.Engine: what every engine does, and what it still guarantees when the
// power is cut at any step of it.
//
// An engine is tested on a Host, which stands for the machine with its boot loader. The suite knows no engine: it calls the
// interface, cuts the power, and asks which release runs and whether it is whole. For tests alone.
package enginetest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/musterhq/muster/agent/update"
)

// Host is a machine on which release "1" was installed, booted and found good.
type Host interface {
	// Engine is the engine as a daemon that just started makes it. It keeps nothing from one to the next but what is on the disk.
	Engine() update.Engine
	// Contents are the files of a release: names as the engine wants them, and what is in them. Every version's differ.
	Contents(version string) map[string]string
	// Boot turns the machine off, as it is, and on. Its boot loader chooses.
	Boot(t *testing.T)
	// Running is the release that was booted. It fails the test unless its slot holds the contents of that version, whole.
	Running(t *testing.T) string
}

// Rig is how an engine is tested.
type Rig struct {
	// New makes a host. Its engine's effects call step before each of them, and where they can be cut short in their midst.
	New func(t *testing.T, step func()) Host
	// Tries is how often a release may boot without being found good.
	Tries int
	// Older is that the engine takes releases older than the one that runs.
	Older bool
}

// Run runs the suite.
func Run(t *testing.T, rig Rig) {
	t.Run("Fresh", func(t *testing.T) {
		b := rig.bench(t)
		b.slots(update.Slots{Booted: good("1"), Next: "1"})
		b.ok(b.engine().Good(t.Context()))
		b.ok(b.engine().Forget(t.Context(), "1"))
		b.ok(b.engine().Forget(t.Context(), "2"))
		b.boots("1")
		b.slots(update.Slots{Booted: good("1"), Next: "1"})
		if b.engine().Name() == "" {
			t.Error("the engine has no name")
		}
	})
	t.Run("Update", rig.testUpdate)
	t.Run("Refusals", rig.testRefusals)
	t.Run("Fallback", rig.testFallback)
	t.Run("Forget", rig.testForget)
	t.Run("Older", rig.testOlder)
	for name, flow := range map[string]func(*bench){"update": flowUpdate, "forgotten": flowForgotten, "third": flowThird} {
		t.Run("Cut/"+name, func(t *testing.T) { rig.testCuts(t, flow) })
	}
}

func good(version string) update.Slot {
	return update.Slot{Version: version, Good: true, TriesLeft: -1}
}

// bench is a host under test.
type bench struct {
	*testing.T
	rig  Rig
	host Host
	step func()
}

func (rig Rig) bench(t *testing.T) *bench {
	b := &bench{T: t, rig: rig, step: func() {}}
	b.host = rig.New(t, func() { b.step() })
	return b
}

func (b *bench) engine() update.Engine { return b.host.Engine() }

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) release(version string) update.Release {
	b.Helper()
	return Release(b.T, version, b.host.Contents(version))
}

// Release writes the files of a release, as a download does.
func Release(t *testing.T, version string, contents map[string]string) update.Release {
	t.Helper()
	r, dir := update.Release{Version: version}, t.TempDir()
	for name, content := range contents {
		sum := sha256.Sum256([]byte(content))
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r.Files = append(r.Files, update.File{Name: name, Path: path, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])})
	}
	return r
}

func (b *bench) get() update.Slots {
	b.Helper()
	s, err := b.engine().Slots(b.Context())
	b.ok(err)
	return s
}

// slots compares what the engine tells. A passive slot without a version may say anything else.
func (b *bench) slots(want update.Slots) {
	b.Helper()
	got := b.get()
	if want.Other.Version == "" && got.Other.Version == "" {
		got.Other = want.Other
	}
	if got != want {
		b.Fatalf("slots %+v, want %+v", got, want)
	}
}

// boots cuts the power and expects that version to run then.
func (b *bench) boots(want string) {
	b.Helper()
	b.host.Boot(b.T)
	if got := b.host.Running(b.T); got != want {
		b.Fatalf("%s runs, want %s", got, want)
	}
	if got := b.get().Booted.Version; got != want {
		b.Fatalf("the engine tells of %s as booted, %s is", got, want)
	}
}

// install updates to a version that is found good.
func (b *bench) install(version string) {
	b.Helper()
	ctx := b.Context()
	b.ok(b.engine().Stage(ctx, b.release(version)))
	b.ok(b.engine().Switch(ctx, version))
	b.boots(version)
	b.ok(b.engine().Good(ctx))
}

func (rig Rig) testUpdate(t *testing.T) {
	b := rig.bench(t)
	ctx := t.Context()
	for range 2 {
		b.ok(b.engine().Stage(ctx, b.release("2")))
		if s := b.get(); s.Booted != good("1") || s.Next != "1" || s.Other.Version != "2" || s.Other.Good {
			t.Fatalf("slots %+v: staged, and nothing else", s)
		}
		b.boots("1")
	}
	for range rig.Tries + 1 {
		b.ok(b.engine().Switch(ctx, "2"))
		if s := b.get(); s.Booted.Version != "1" || s.Next != "2" || s.Other.Version != "2" || s.Other.TriesLeft != rig.Tries {
			t.Fatalf("slots %+v: the next boot takes 2, with %d tries", s, rig.Tries)
		}
	}
	b.boots("2")
	if s := b.get(); s.Booted.Good || s.Other.Version != "1" {
		t.Fatalf("slots %+v: 2 is on trial, 1 is there", s)
	}
	for range 2 {
		b.ok(b.engine().Good(ctx))
		b.slots(update.Slots{Booted: good("2"), Other: good("1"), Next: "2"})
	}
	for range rig.Tries + 1 {
		b.boots("2")
	}
	b.install("3")
	b.slots(update.Slots{Booted: good("3"), Other: good("2"), Next: "3"})
}

func (rig Rig) testRefusals(t *testing.T) {
	b := rig.bench(t)
	ctx := t.Context()
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s is no error", what)
		}
		b.slots(update.Slots{Booted: good("1"), Next: "1"})
	}
	refused("a switch to a version that is not staged", b.engine().Switch(ctx, "2"))
	refused("staging what is booted", b.engine().Stage(ctx, b.release("1")))
	refused("staging a release without files", b.engine().Stage(ctx, update.Release{Version: "2"}))
	for i := range b.release("2").Files {
		r := b.release("2")
		b.ok(os.WriteFile(r.Files[i].Path, []byte("other contents"), 0o600))
		refused(r.Files[i].Name+" that is not what the release says", b.engine().Stage(ctx, r))
		b.ok(os.Remove(r.Files[i].Path))
		refused(r.Files[i].Name+" that is gone", b.engine().Stage(ctx, r))
	}
	b.boots("1")
	b.install("2")
}

func (rig Rig) testFallback(t *testing.T) {
	b := rig.bench(t)
	ctx := t.Context()
	b.ok(b.engine().Stage(ctx, b.release("2")))
	b.ok(b.engine().Switch(ctx, "2"))
	for range rig.Tries {
		b.boots("2")
	}
	for range 2 {
		b.boots("1")
	}
	if s := b.get(); s.Booted != good("1") || s.Next != "1" || s.Other.Version == "2" && (s.Other.Good || s.Other.TriesLeft > 0) {
		t.Fatalf("slots %+v: 1 is back, 2 has failed", s)
	}
	b.ok(b.engine().Forget(ctx, "2"))
	b.install("3")
}

func (rig Rig) testForget(t *testing.T) {
	b := rig.bench(t)
	ctx := t.Context()
	b.ok(b.engine().Stage(ctx, b.release("2")))
	for range 2 {
		b.ok(b.engine().Forget(ctx, "2"))
		b.slots(update.Slots{Booted: good("1"), Next: "1"})
	}
	b.ok(b.engine().Stage(ctx, b.release("2")))
	b.ok(b.engine().Switch(ctx, "2"))
	b.ok(b.engine().Forget(ctx, "3"))
	b.ok(b.engine().Forget(ctx, "1"))
	if s := b.get(); s.Next != "2" {
		t.Fatalf("slots %+v: 2 was not what was to be forgotten", s)
	}
	b.ok(b.engine().Forget(ctx, "2"))
	b.slots(update.Slots{Booted: good("1"), Next: "1"})
	b.boots("1")
	b.install("2")
}

func (rig Rig) testOlder(t *testing.T) {
	if !rig.Older {
		t.Skip("this engine takes no release that is older than the one that runs")
	}
	ctx := t.Context()
	for _, older := range []string{"1", "0.9"} {
		b := rig.bench(t)
		b.install("2")
		b.ok(b.engine().Stage(ctx, b.release(older)))
		b.ok(b.engine().Switch(ctx, older))
		b.ok(b.engine().Switch(ctx, older))
		for range rig.Tries {
			b.boots(older)
		}
		b.boots("2")
		b.ok(b.engine().Good(ctx))
		b.boots("2")
		b.ok(b.engine().Forget(ctx, older))
		b.install(older)
		for range rig.Tries + 1 {
			b.boots(older)
		}
	}
}

// A flow is what a driver does until it is done. It is called again after a cut, and goes on.
func flowUpdate(b *bench) { b.bring("2") }

// bring updates to a version, also when cuts have used up its tries.
func (b *bench) bring(version string) {
	ctx := b.Context()
	if s := b.get(); s.Booted.Version != version {
		b.ok(b.engine().Good(ctx))
		if s.Other.Version == version && s.Other.TriesLeft == 0 {
			b.ok(b.engine().Forget(ctx, version))
		}
		b.ok(b.engine().Stage(ctx, b.release(version)))
		b.ok(b.engine().Switch(ctx, version))
		b.boots(version)
	}
	b.ok(b.engine().Good(ctx))
}

func flowForgotten(b *bench) {
	ctx := b.Context()
	if b.get().Booted.Version == "1" {
		b.ok(b.engine().Stage(ctx, b.release("3")))
		b.ok(b.engine().Switch(ctx, "3"))
	}
	if b.get().Booted.Version != "3" {
		b.ok(b.engine().Forget(ctx, "3"))
		flowUpdate(b)
		return
	}
	for b.get().Booted.Version == "3" { // the cut has booted it before it was forgotten: it is left to fail
		b.host.Boot(b.T)
	}
	flowForgotten(b)
}

func flowThird(b *bench) {
	if b.get().Booted.Version == "1" {
		b.bring("2")
	}
	b.bring("3")
}

// testCuts cuts the power at every step of a flow, in one host each, and once more while it is resumed.
func (rig Rig) testCuts(t *testing.T, flow func(*bench)) {
	whole := rig.bench(t)
	flow(whole)
	want := whole.get()
	for n := 1; ; n++ {
		done := false
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := rig.bench(t)
			if done = !b.cut(n, flow); done {
				return
			}
			b.survives()
			b.cut((n+1)/2, flow)
			b.survives()
			b.step = func() {}
			flow(b)
			if got := b.get(); got.Booted != want.Booted || got.Next != want.Next {
				t.Fatalf("slots %+v, want %+v", got, want)
			}
		})
		if done || t.Failed() {
			return
		}
	}
}

// survives expects a whole release to run after a cut.
func (b *bench) survives() {
	b.Helper()
	b.step = func() {}
	b.host.Boot(b.T)
	running := b.host.Running(b.T)
	if got := b.get().Booted.Version; got != running {
		b.Fatalf("the engine tells of %s as booted, %s is", got, running)
	}
}

// cut runs a flow until its nth step, and tells whether it came that far.
func (b *bench) cut(n int, flow func(*bench)) bool {
	b.Helper()
	wasCut, ended := false, make(chan struct{})
	b.step = func() {
		if n--; n == 0 {
			wasCut = true
			runtime.Goexit()
		}
	}
	go func() {
		defer close(ended)
		flow(b)
	}()
	<-ended
	if b.Failed() {
		b.FailNow()
	}
	return wasCut
}
