package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
	"github.com/musterhq/muster/providers/local"
)

// terminal is a pseudo terminal: what is written to one side is read from the other.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// TestConsoleOnTerminal: what a host says cannot command the operator's terminal.
func TestConsoleOnTerminal(t *testing.T) {
	inTalkingCluster(t)
	d := talkingDriver(nil, nil)
	if status, _, stderr := talk(t.Context(), d, "up", "--no-wait"); status != statusDone {
		t.Fatal(stderr)
	}
	ours, theirs := terminal(t)
	known := providers.NewRegistry(d, fake.Driver(), local.Driver())
	status := runWith(t.Context(), known, []string{"hosts", "console", "node-1"}, strings.NewReader(""), theirs, io.Discard)
	if err := theirs.Close(); err != nil || status != statusDone {
		t.Fatalf("exit status %d, %v", status, err)
	}
	seen, _ := io.ReadAll(ours) // ends with EIO when the other side is closed
	if text := string(seen); !strings.Contains(text, "node-1/1 boots") || strings.Contains(text, "\x1b") {
		t.Errorf("the terminal gets %q", text)
	}
}
