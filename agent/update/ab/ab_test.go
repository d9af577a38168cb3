package ab

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/agent/update/enginetest"
	"github.com/musterhq/muster/cloudconfig/golden"
)

// release writes the files of a release as a download does.
func release(t *testing.T, h *host, version string) update.Release {
	t.Helper()
	return enginetest.Release(t, version, h.Contents(version))
}

// TestCommands holds an update's calls of systemd's programs, and the definitions that they read, to golden files.
func TestCommands(t *testing.T) {
	h := newHost(t, func() {})
	var said strings.Builder
	step := func(name string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		said.WriteString("== " + name + "\n" + strings.Join(h.calls, "\n") + "\n")
		h.calls = nil
	}
	ctx := t.Context()
	step("stage", h.engine().Stage(ctx, release(t, h, "2")))
	step("switch", h.engine().Switch(ctx, "2"))
	step("reboot", h.engine().Reboot(ctx))
	h.Boot(t)
	step("good", h.engine().Good(ctx))
	step("forget", h.engine().Forget(ctx, "1"))
	golden.Compare(t, "testdata/calls", said.String())
	e := h.engine()
	golden.Compare(t, "testdata/root.transfer", e.definition(rootTransfer, "1", sourceDir))
	golden.Compare(t, "testdata/kernel.transfer", e.definition(kernelTransfer, "1", keptDir))
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, h *host)
		want   error
	}{
		"another system": {func(t *testing.T, h *host) { h.write(t, osRelease, "ID=debian\n") }, ErrNoImage},
		"no version":     {func(t *testing.T, h *host) { h.write(t, osRelease, "IMAGE_ID=muster\nIMAGE_VERSION=../1\n") }, ErrNoImage},
		"no ESP": {func(t *testing.T, h *host) {
			h.esp = ""
			h.write(t, mountInfo, "25 1 0:22 / / ro - squashfs /dev/dm-0 ro\n")
		}, ErrNoESP},
		"no UEFI": {func(t *testing.T, h *host) {
			h.write(t, mountInfo, "25 1 0:22 / / ro - squashfs /dev/dm-0 ro\n")
			if err := os.RemoveAll(h.path(firmware)); err != nil {
				t.Fatal(err)
			}
		}, ErrNoESP},
		"no entry": {func(t *testing.T, h *host) {
			if err := os.Remove(h.path(kernelsDir + "/muster_1.efi")); err != nil {
				t.Fatal(err)
			}
		}, ErrNoSlot},
		"no partition":         {func(_ *testing.T, h *host) { h.slots[0].label = "root" }, ErrNoSlot},
		"a program that fails": {func(_ *testing.T, h *host) { h.failed = context.DeadlineExceeded }, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, func() {})
			for call, do := range map[string]func(*Engine) error{
				"slots":  func(e *Engine) error { _, err := e.Slots(t.Context()); return err },
				"stage":  func(e *Engine) error { return e.Stage(t.Context(), release(t, h, "2")) },
				"switch": func(e *Engine) error { return e.Switch(t.Context(), "2") },
				"good":   func(e *Engine) error { return e.Good(t.Context()) },
				"forget": func(e *Engine) error { return e.Forget(t.Context(), "2") },
			} {
				h := newHost(t, func() {})
				c.change(t, h)
				if err := do(h.engine()); !errors.Is(err, c.want) {
					t.Errorf("%s: %v, want %v", call, err, c.want)
				}
			}
		})
	}
}

// TestOnTrial has a release staged while the booted one may yet fall back to the slot that it would be written to.
func TestOnTrial(t *testing.T) {
	h := newHost(t, func() {})
	ctx := t.Context()
	for _, err := range []error{h.engine().Stage(ctx, release(t, h, "2")), h.engine().Switch(ctx, "2")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range tries { // the last try has none left
		h.Boot(t)
		if err := h.engine().Stage(ctx, release(t, h, "3")); !errors.Is(err, ErrOnTrial) {
			t.Fatal(err)
		}
	}
	if err := h.engine().Good(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.engine().Stage(ctx, release(t, h, "3")); err != nil {
		t.Fatal(err)
	}
}

// TestEmptyEntry has a kernel image's name reach the disk before what it is the name of, as a rename on vfat does it: nothing
// boots that, and it is added again.
func TestEmptyEntry(t *testing.T) {
	h := newHost(t, func() {})
	ctx := t.Context()
	if err := h.engine().Stage(ctx, release(t, h, "2")); err != nil {
		t.Fatal(err)
	}
	h.write(t, kernelsDir+"/"+fileName("2", tries, 0), "")
	slots, err := h.engine().Slots(ctx)
	if err != nil || slots.Next != "1" || slots.Other != (update.Slot{Version: "2", TriesLeft: -1}) {
		t.Fatalf("slots %+v, %v", slots, err)
	}
	if err := h.engine().Switch(ctx, "2"); err != nil {
		t.Fatal(err)
	}
	if h.Boot(t); h.Running(t) != "2" {
		t.Errorf("%s runs", h.Running(t))
	}
}

func TestCommandSaysWhatFailed(t *testing.T) {
	out, err := Command(t.Context(), "/bin/sh", "-c", "echo out; echo wrong >&2; exit 3")
	if string(out) != "out\n" || err == nil || !strings.Contains(err.Error(), "exit status 3: wrong") {
		t.Errorf("%q, %v", out, err)
	}
	if e := New("/", Command, slog.New(slog.DiscardHandler)); e.Name() != "ab" {
		t.Error(e.Name())
	}
}
